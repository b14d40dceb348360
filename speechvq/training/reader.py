"""The stream of batches that a rank sees: our order, fairseq2's native pipeline.

Batches of all epochs form one endless sequence; in each step rank r of W takes every W-th of the
next W × A batches. Loading runs in fairseq2's pipeline (`map`, `prefetch`). The saved state is the
position in the sequence: three integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, Self, TypeVar

from fairseq2.data.data_pipeline import DataPipelineError, read_sequence
from fairseq2.datasets import DataReader
from typing_extensions import override

from speechvq.data.order import PlannedBatch
from speechvq.errors import DataError

BatchT = TypeVar("BatchT")


class PlannedReader(DataReader[BatchT], Generic[BatchT]):
    """Reads planned batches, epoch after epoch or once.

    Args:
        plan: The batches of an epoch, given its number.
        load: Makes a batch of its plan.
        rank: This process's rank among those that share the data.
        world_size: Number of such processes.
        num_accumulate: Batches per step and rank (A).
        num_workers: Threads that load.
        num_prefetch: Batches kept ready.
        is_endless: Go on with the next epoch; otherwise one epoch, then stop (validation), where
            ranks without a batch in the last step get none.
        is_cancelled: Once true, a reader that is not endless gives no more batches, so that a run
            that was asked to stop does not validate first. Asked by all ranks before every step.
    """

    def __init__(
        self,
        plan: Callable[[int], list[PlannedBatch]],
        load: Callable[[PlannedBatch], BatchT],
        *,
        rank: int = 0,
        world_size: int = 1,
        num_accumulate: int = 1,
        num_workers: int = 1,
        num_prefetch: int = 4,
        is_endless: bool = True,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._plan = plan
        self._load = load
        self._rank = rank
        self._world_size = world_size
        self._num_accumulate = num_accumulate
        self._num_workers = num_workers
        self._num_prefetch = num_prefetch
        self._is_endless = is_endless
        self._is_cancelled = is_cancelled
        self._plans: dict[int, list[PlannedBatch]] = {}
        self._failure: Exception | None = None
        self.reset()

    @override
    def __iter__(self) -> Self:
        return self

    @override
    def __next__(self) -> list[BatchT]:
        if not self._is_endless and self._is_cancelled():
            raise StopIteration
        batches = []
        for _ in range(self._num_accumulate):
            try:
                batches.append(next(self._batches))
            except StopIteration:
                break
            except DataPipelineError as error:
                raise self._failure or DataError(f"A batch could not be read: {error}") from error
        self._position += self._world_size * self._num_accumulate
        self._settle()
        if not batches and self._is_finished():
            raise StopIteration
        return batches

    def _is_finished(self) -> bool:
        """Tell whether no rank got a batch in the step just taken."""
        before = self._position - self._world_size * self._num_accumulate
        return before >= self._start + len(self._get_plan(self._epoch))

    def _settle(self) -> None:
        """Move to the epoch in which the position lies."""
        while self._is_endless and self._position >= self._start + len(self._get_plan(self._epoch)):
            self._start += len(self._get_plan(self._epoch))
            self._epoch += 1

    def _get_plan(self, epoch: int) -> list[PlannedBatch]:
        if epoch not in self._plans:
            plan = self._plan(epoch)
            if not plan:
                raise DataError("There is no utterance to make a batch of; see the selection.")
            # The pipeline runs ahead by at most one epoch.
            self._plans = {e: p for e, p in self._plans.items() if e >= epoch - 1}
            self._plans[epoch] = plan
        return self._plans[epoch]

    def _iterate(self) -> Iterator[BatchT]:
        epoch, start, position = self._epoch, self._start, self._position
        while True:
            plan = self._get_plan(epoch)
            mine = [
                planned
                for number, planned in enumerate(plan, start)
                if number >= position and number % self._world_size == self._rank
            ]
            if mine:
                pipeline = (
                    read_sequence(mine)
                    .map(self._load_batch, num_parallel_calls=self._num_workers)
                    .prefetch(self._num_prefetch)
                    .and_return()
                )
                yield from pipeline
            if not self._is_endless:
                return
            start += len(plan)
            epoch += 1

    def _load_batch(self, planned: PlannedBatch) -> BatchT:
        try:
            return self._load(planned)
        except Exception as error:
            # The native pipeline replaces an exception by its own; keep the one that says why.
            self._failure = error
            raise

    @override
    def reset(self) -> None:
        self._epoch = 0
        self._start = 0
        self._position = 0
        self._batches = self._iterate()

    @override
    def state_dict(self) -> dict[str, object]:
        return {"epoch": self._epoch, "start": self._start, "position": self._position}

    @override
    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        self._epoch, self._start, self._position = (
            int(str(state_dict[name])) for name in ("epoch", "start", "position")
        )
        self._batches = self._iterate()

    @property
    @override
    def num_accumulate(self) -> int:
        return self._num_accumulate

    @property
    def epoch(self) -> int:
        """Number of the epoch that the next batch belongs to, from 0."""
        return self._epoch
