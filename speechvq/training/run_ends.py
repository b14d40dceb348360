"""The ends of a run that fairseq2's trainer leaves open: after a restore, at the last step, early.

fairseq2 0.8.1 commits a checkpoint before the validation of the same step is over, tells nobody
when training has ended, takes an early end for a failure, and brings the length of the old
learning-rate schedule back with a checkpoint. So a kill at the wrong moment would lose a validation
(and with it the best recogniser) or the model directory, and a run that is extended would learn
nothing more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from fairseq2.gang import Gang, broadcast_flag
from fairseq2.optim.lr_schedulers import AbstractLRScheduler

PROGRESS_KEYS = frozenset({"last_epoch", "_step_count", "_last_lr", "base_lrs"})
"""What a learning-rate scheduler's state says of the run; the rest is its configuration. The base
rate is among them, as an alarm may have halved it.
"""


class OpenEnded(Protocol):
    """What `RunEnds` needs of fairseq2's trainer, which has no public hooks there."""

    @property
    def step_nr(self) -> int:
        """The last step, or the restored one."""

    def _maybe_restore_state(self) -> Any: ...

    def _stop(self) -> Any: ...

    def _validate(self) -> float | None: ...

    def _maybe_validate(self) -> float | None: ...

    def _maybe_request_early_stop(self, score: float) -> bool: ...

    def _should_validate(self) -> bool: ...

    def _early_stop(self) -> Any: ...

    _stop_requested: bool


class RunEnds:
    """Makes up for what a kill left undone, and saves the model at the last step.

    All ranks call the same; rank 0 decides.

    Args:
        gang: All ranks.
        num_steps: Steps of the whole run.
        scheduler: The run's learning-rate scheduler.
        needs_validation: Whether the validation of a step is due and was lost; asked on rank 0.
        needs_start: Whether there is to be a validation before the first step; asked on rank 0.
        needs_model: Whether the model of the last step was not saved; asked on rank 0.
        is_enough: Whether the run ends early after the validation of a step; asked on rank 0.
        save: Saves the model of a step; called on all ranks.
    """

    def __init__(
        self,
        gang: Gang,
        num_steps: int,
        scheduler: AbstractLRScheduler,
        *,
        needs_validation: Callable[[int], bool],
        needs_start: Callable[[], bool],
        needs_model: Callable[[int], bool],
        is_enough: Callable[[int], bool],
        save: Callable[[int], None],
    ) -> None:
        self._gang = gang
        self._num_steps = num_steps
        self._scheduler = scheduler
        self._needs_validation = needs_validation
        self._needs_start = needs_start
        self._needs_model = needs_model
        self._is_enough = is_enough
        self._save = save

    def install(self, trainer: OpenEnded) -> None:
        """Take part in a trainer's restore and stop."""
        restore, stop = trainer._maybe_restore_state, trainer._stop

        def restore_and_repair() -> Any:
            schedule = dict(self._scheduler.state_dict())
            state = restore()
            if trainer.step_nr > 0:
                self._adopt_schedule(schedule)
                if self._repair(trainer):
                    return type(state).STOPPED
            elif self._ask_main(self._needs_start):
                trainer._validate()
            return state

        def stop_and_save() -> Any:
            state = stop()
            self._save(trainer.step_nr)
            return state

        trainer._maybe_restore_state = restore_and_repair  # type: ignore[method-assign]
        trainer._stop = stop_and_save  # type: ignore[method-assign]
        self._install_early_end(trainer)

    def _install_early_end(self, trainer: OpenEnded) -> None:
        """Let the trainer ask after each validation whether it was enough, and end cleanly then."""
        validate, end = trainer._maybe_validate, trainer._early_stop

        def validate_and_score() -> float | None:
            is_due = trainer._should_validate()
            validate()
            return 0.0 if is_due else None  # any score makes the trainer ask

        def end_and_save() -> Any:
            state = end()
            trainer._stop_requested = False  # an end like any other, no failure
            self._save(trainer.step_nr)
            return state

        trainer._maybe_validate = validate_and_score  # type: ignore[method-assign]
        trainer._maybe_request_early_stop = (  # type: ignore[method-assign]
            lambda score: self._ask_main(self._is_enough, trainer.step_nr)
        )
        trainer._early_stop = end_and_save  # type: ignore[method-assign]

    def _repair(self, trainer: OpenEnded) -> bool:
        """Validate and save what the killed process could not; tells whether that was the end."""
        step = trainer.step_nr
        if self._ask_main(self._needs_validation, step):
            trainer._validate()
        is_enough = self._ask_main(self._is_enough, step)
        if (is_enough or step >= self._num_steps) and self._ask_main(self._needs_model, step):
            self._save(step)
        return is_enough

    def _adopt_schedule(self, schedule: dict[str, Any]) -> None:
        """Go on along the schedule of this configuration if it is longer than the restored one."""
        restored = self._scheduler.state_dict()
        if all(restored.get(k) == schedule[k] for k in schedule if k not in PROGRESS_KEYS):
            return
        progress = {key: restored[key] for key in PROGRESS_KEYS}
        self._scheduler.load_state_dict({**schedule, **progress})
        lrs = self._scheduler._compute_lrs()
        for group, lr in zip(self._scheduler.optimizer.param_groups, lrs, strict=True):
            group["lr"] = lr
        self._scheduler.load_state_dict({"_last_lr": lrs})

    def _ask_main(self, question: Callable[..., bool], *arguments: int) -> bool:
        if self._gang.size == 1:
            return question(*arguments)
        return broadcast_flag(self._gang, question(*arguments) if self._gang.rank == 0 else False)
