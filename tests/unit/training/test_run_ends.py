"""What a kill left undone is made up for; an extended run follows its new schedule."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest
import torch

pytest.importorskip("fairseq2")

from fairseq2.device import CPU
from fairseq2.gang import FakeGang
from fairseq2.optim.lr_schedulers import PolynomialDecayLR

from speechvq.training.run_ends import RunEnds


class State(Enum):
    """Where fairseq2's trainer stands."""

    DATA_LOAD = 1
    STOPPED = 2


class Trainer:
    """The parts of fairseq2's trainer that matter here, with a diary."""

    def __init__(self, step_nr: int, state: dict[str, Any] | None = None) -> None:
        self.restored_step = step_nr
        self.step_nr = 0
        self.state = state
        self.scheduler: PolynomialDecayLR | None = None
        self.diary: list[str] = []

        self.is_due = True
        self._stop_requested = False

    def _maybe_restore_state(self) -> State:
        self.step_nr = self.restored_step
        if self.scheduler is not None and self.state is not None:
            self.scheduler.load_state_dict(self.state)
        return State.DATA_LOAD

    def _stop(self) -> str:
        self.diary.append("stop")
        return "stopped"

    def _validate(self) -> None:
        self.diary.append("validate")

    def _should_validate(self) -> bool:
        return self.is_due

    def _maybe_validate(self) -> None:
        if self.is_due:
            self._validate()

    def _maybe_request_early_stop(self, score: float) -> bool:
        raise AssertionError("fairseq2's early stopper is not used")

    def _early_stop(self) -> State:
        self._stop_requested = True
        return State.STOPPED

    def post_step(self) -> State | None:
        """Do what fairseq2 0.8.1 does after a step."""
        score = self._maybe_validate()
        if score is not None and self._maybe_request_early_stop(score):
            return self._early_stop()
        return None


def create_scheduler(num_steps: int, done: int = 0) -> PolynomialDecayLR:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = PolynomialDecayLR(optimizer, num_steps, 2)
    for _ in range(done):
        optimizer.step()
        scheduler.step()
    return scheduler


def install(
    trainer: Trainer,
    *,
    num_steps: int = 20,
    lost: bool = False,
    saved: bool = True,
    enough: bool = False,
) -> PolynomialDecayLR:
    scheduler = create_scheduler(num_steps)
    trainer.scheduler = scheduler
    ends = RunEnds(
        FakeGang(CPU),
        num_steps,
        scheduler,
        needs_validation=lambda step: lost,
        needs_start=lambda: False,
        needs_model=lambda step: not saved,
        is_enough=lambda step: enough,
        save=lambda step: trainer.diary.append(f"save {step}"),
    )
    ends.install(trainer)
    return scheduler


def test_model_is_saved_after_the_last_validation() -> None:
    trainer = Trainer(0)
    install(trainer)
    trainer.step_nr = 20
    assert trainer._stop() == "stopped"
    assert trainer.diary == ["stop", "save 20"]


def test_new_run_needs_no_repair() -> None:
    trainer = Trainer(0)
    install(trainer, lost=True, saved=False)
    assert trainer._maybe_restore_state() is State.DATA_LOAD
    assert trainer.diary == []


@pytest.mark.parametrize(
    ("step", "lost", "saved", "diary"),
    [
        (10, False, False, []),
        (10, True, False, ["validate"]),
        (20, False, True, []),
        (20, False, False, ["save 20"]),
        (20, True, False, ["validate", "save 20"]),
    ],
)
def test_lost_validation_and_model_are_made_up_for(
    step: int, lost: bool, saved: bool, diary: list[str]
) -> None:
    trainer = Trainer(step)
    install(trainer, lost=lost, saved=saved)
    assert trainer._maybe_restore_state() is State.DATA_LOAD
    assert trainer.diary == diary


@pytest.mark.parametrize(("due", "enough"), [(True, True), (True, False), (False, True)])
def test_run_ends_early_after_a_validation_that_was_enough(due: bool, enough: bool) -> None:
    trainer = Trainer(0)
    install(trainer, enough=enough)
    trainer.step_nr, trainer.is_due = 10, due
    state = trainer.post_step()
    if due and enough:
        assert state is State.STOPPED
        assert trainer.diary == ["validate", "save 10"]
        assert not trainer._stop_requested  # fairseq2 takes a requested stop for a failure
    else:
        assert state is None
        assert trainer.diary == (["validate"] if due else [])


@pytest.mark.parametrize(("saved", "diary"), [(True, []), (False, ["save 10"])])
def test_run_that_ended_early_stays_ended(saved: bool, diary: list[str]) -> None:
    trainer = Trainer(10)
    install(trainer, saved=saved, enough=True)
    assert trainer._maybe_restore_state() is State.STOPPED
    assert trainer.diary == diary


def test_extended_run_follows_the_longer_schedule() -> None:
    trainer = Trainer(10, create_scheduler(10, done=10).state_dict())
    scheduler = install(trainer, num_steps=20)
    scheduler.optimizer.param_groups[0]["lr"] = 0.0  # as the old schedule left it
    trainer._maybe_restore_state()
    expected = create_scheduler(20, done=10).get_last_lr()
    assert expected[0] > 0.5
    assert [group["lr"] for group in scheduler.optimizer.param_groups] == expected
    assert scheduler.get_last_lr() == expected
    scheduler.optimizer.step()
    scheduler.step()
    assert scheduler.get_last_lr() == create_scheduler(20, done=11).get_last_lr()


def test_same_schedule_is_left_as_it_was_restored() -> None:
    trainer = Trainer(10, create_scheduler(20, done=10).state_dict())
    scheduler = install(trainer, num_steps=20)
    scheduler.optimizer.param_groups[0]["lr"] = 0.123  # what the optimizer's own state brought
    trainer._maybe_restore_state()
    assert scheduler.optimizer.param_groups[0]["lr"] == 0.123
    assert scheduler.last_epoch == 10
