"""Guards of a run: non-finite updates, and signals that ask it to stop.

fairseq2 0.8.1 checks neither: in bf16 and fp32 a NaN reaches every weight, and a requested stop is
ignored while a number of steps is set.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

import torch
from fairseq2.gang import Gang, all_sum
from torch.optim import Optimizer

from speechvq.errors import TrainingDivergedError


class FiniteGuard:
    """Skips updates whose gradients are not finite, on all ranks alike.

    Registered as a step pre-hook: without gradients AdamW leaves weights and moments as they are.

    Args:
        gang: All ranks that hold a replica or a shard of the model.
        max_skipped: Skipped updates in a row that end the run.
        describe: Says where the run stands, for the message.
    """

    def __init__(self, gang: Gang, max_skipped: int, describe: Callable[[], str]) -> None:
        self._gang = gang
        self._max_skipped = max_skipped
        self._describe = describe
        self._num_in_a_row = 0
        self.num_skipped = 0

    def __call__(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Check the gradients that the optimizer is about to apply.

        Raises:
            TrainingDivergedError: Too many updates in a row were skipped.
        """
        parameters = [
            parameter
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        if self._are_finite(parameters):
            self._num_in_a_row = 0
            return
        for parameter in parameters:
            parameter.grad = None
        self.num_skipped += 1
        self._num_in_a_row += 1
        if self._num_in_a_row >= self._max_skipped:
            raise TrainingDivergedError(
                f"{self._num_in_a_row} updates in a row had a loss or gradient that is not finite "
                f"({self._describe()}). The weights are those before the first of them. Lower "
                "`optimizer.lr`, raise `optimizer.warmup_share`, or use `precision=fp32`."
            )

    def take_num_skipped(self) -> int:
        """Return the skipped updates since this was asked last."""
        number, self.num_skipped = self.num_skipped, 0
        return number

    def _are_finite(self, parameters: list[torch.nn.Parameter]) -> bool:
        is_finite = True
        if parameters:
            norms = torch._foreach_norm([_to_local(parameter.grad) for parameter in parameters])
            is_finite = bool(torch.isfinite(torch.stack(norms)).all())
        if self._gang.size == 1:
            return is_finite
        return int(all_sum(self._gang, int(not is_finite))) == 0


def _to_local(gradient: torch.Tensor | None) -> torch.Tensor:
    assert gradient is not None
    return getattr(gradient, "_local_tensor", gradient)


class Stoppable(Protocol):
    """What `StopRequest` needs of fairseq2's trainer.

    The trainer has no public way to end a run early and cleanly.
    """

    _max_num_steps: int | None
    _stop_requested: bool


class StopRequest:
    """Turns SIGTERM, SIGINT and SIGUSR1 into a clean end at the next step, agreed between ranks.

    Args:
        gang: All ranks.
    """

    def __init__(self, gang: Gang) -> None:
        self._gang = gang
        self._previous: dict[int, Any] = {}
        self.signal_number = 0
        self.is_agreed = False
        self._trainer: Stoppable | None = None

    def install(self, trainer: Stoppable) -> None:
        """Handle the signals from now on; a second SIGINT interrupts at once."""
        self._trainer = trainer
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._handle)

    def restore(self) -> None:
        """Give the signals back to their former handlers."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = number

    def check(self, step: int) -> None:
        """End the run after this step if any rank was asked to stop; called once in every step."""
        if self._trainer is not None and self.agree():
            self._trainer._max_num_steps = step

    def agree(self) -> bool:
        """Tell whether any rank was asked to stop; all ranks must ask at the same point."""
        if not self.is_agreed:
            self._take_engine_request()
            number = self.signal_number
            if self._gang.size > 1:
                number = int(all_sum(self._gang, number)) and (number or signal.SIGTERM)
            if number:
                self.signal_number = number
                self.is_agreed = True
        return self.is_agreed

    def _take_engine_request(self) -> None:
        """Treat SIGUSR1 as SIGTERM: fairseq2 catches it, trains to the end, and then fails."""
        if self._trainer is not None and self._trainer._stop_requested:
            self._trainer._stop_requested = False
            self.signal_number = self.signal_number or signal.SIGTERM
