"""The stream of batches: the same for any number of ranks, and from any saved position."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("fairseq2")

from speechvq.data.order import PlannedBatch
from speechvq.errors import DataError
from speechvq.training.reader import PlannedReader

SIZES = [7, 5, 6]
"""Batches of epochs 0, 1, 2; later epochs repeat them."""


def plan(epoch: int) -> list[PlannedBatch]:
    size = SIZES[epoch % len(SIZES)]
    none = np.zeros(1, dtype=np.int32)
    return [PlannedBatch(epoch, np.array([number]), none) for number in range(size)]


def load(batch: PlannedBatch) -> tuple[int, int]:
    return batch.epoch, int(batch.utterances[0])


def create_reader(**changes: object) -> PlannedReader[tuple[int, int]]:
    return PlannedReader(plan, load, **changes)  # type: ignore[arg-type]


ENDLESS = [(epoch, number) for epoch in range(12) for number in range(SIZES[epoch % 3])]


@pytest.mark.parametrize("num_accumulate", [1, 3])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_share_one_sequence(world_size: int, num_accumulate: int) -> None:
    readers = [
        create_reader(rank=rank, world_size=world_size, num_accumulate=num_accumulate)
        for rank in range(world_size)
    ]
    seen = []
    for _ in range(6):
        step = [next(reader) for reader in readers]
        # Rank r takes every W-th batch.
        seen += [step[i % world_size][i // world_size] for i in range(world_size * num_accumulate)]
    assert seen == ENDLESS[: len(seen)]


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("num_steps", range(0, 20))
def test_saved_position_goes_on_exactly(world_size: int, num_steps: int) -> None:
    def create(rank: int) -> PlannedReader[tuple[int, int]]:
        return create_reader(rank=rank, world_size=world_size, num_accumulate=2, num_prefetch=7)

    whole, resumed = create(0), create(0)
    for _ in range(num_steps):
        next(whole)
    resumed.load_state_dict(whole.state_dict())
    assert [next(resumed) for _ in range(5)] == [next(whole) for _ in range(5)]


def test_workers_and_prefetching_change_nothing() -> None:
    plain, busy = create_reader(), create_reader(num_workers=3, num_prefetch=16)
    assert [next(plain) for _ in range(30)] == [next(busy) for _ in range(30)]


def test_position_is_three_numbers() -> None:
    reader = create_reader()
    next(reader)
    assert reader.state_dict() == {"epoch": 0, "start": 0, "position": 1}
    for _ in range(7):
        next(reader)
    assert reader.state_dict() == {"epoch": 1, "start": 7, "position": 8}


def test_validation_reads_each_batch_once_on_all_ranks() -> None:
    readers = [create_reader(rank=rank, world_size=2, is_endless=False) for rank in range(2)]
    for _ in range(2):  # a second validation reads the same again
        seen: list[tuple[int, int]] = []
        steps = []
        for reader in readers:
            mine = list(reader)
            steps.append(len(mine))
            seen += [batch for batches in mine for batch in batches]
            reader.reset()
        assert sorted(seen) == [(0, number) for number in range(7)]
        assert steps[0] == steps[1] == 4  # the last step has no batch for rank 1


def test_cancelled_validation_ends_at_once() -> None:
    is_cancelled = False
    reader = create_reader(is_endless=False, is_cancelled=lambda: is_cancelled)
    next(reader)
    is_cancelled = True
    with pytest.raises(StopIteration):
        next(reader)


def test_our_errors_pass_through_the_native_pipeline() -> None:
    def fail(batch: PlannedBatch) -> None:
        raise DataError("part-00000.parquet: utterance `x` is damaged.")

    reader = PlannedReader(plan, fail)
    with pytest.raises(DataError, match="utterance `x` is damaged"):
        next(reader)


def test_defects_of_a_loader_are_not_taken_for_bad_data() -> None:
    def fail(batch: PlannedBatch) -> None:
        raise IndexError("a defect of ours")

    with pytest.raises(IndexError, match="a defect of ours"):
        next(PlannedReader(plan, fail))


def test_empty_plan_is_an_error() -> None:
    reader = PlannedReader(lambda epoch: [], load)
    with pytest.raises(DataError, match="no utterance"):
        next(reader)
