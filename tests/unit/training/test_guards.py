"""The finite guard and the request to stop."""

from __future__ import annotations

import os
import signal

import pytest
import torch

pytest.importorskip("fairseq2")

from fairseq2.device import CPU
from fairseq2.gang import FakeGang

from speechvq.errors import TrainingDivergedError
from speechvq.training.guards import FiniteGuard, StopRequest


def create_optimizer() -> tuple[torch.nn.Linear, torch.optim.AdamW, FiniteGuard]:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    guard = FiniteGuard(FakeGang(CPU), 3, lambda: "step 7")
    optimizer.register_step_pre_hook(guard)
    return model, optimizer, guard


def step(model: torch.nn.Linear, optimizer: torch.optim.AdamW, scale: float) -> None:
    optimizer.zero_grad()
    (model(torch.ones(1, 3)).sum() * scale).backward()
    optimizer.step()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_update_changes_neither_weights_nor_moments(bad: float) -> None:
    model, optimizer, guard = create_optimizer()
    step(model, optimizer, 1.0)
    before = [p.detach().clone() for p in model.parameters()]
    moments = [optimizer.state[p]["exp_avg"].clone() for p in model.parameters()]
    step(model, optimizer, bad)
    assert guard.take_num_skipped() == 1
    assert guard.take_num_skipped() == 0
    for parameter, old, moment in zip(model.parameters(), before, moments, strict=True):
        assert torch.equal(parameter, old)
        assert torch.equal(optimizer.state[parameter]["exp_avg"], moment)
    step(model, optimizer, 1.0)
    assert not torch.equal(next(iter(model.parameters())), before[0])


def test_too_many_in_a_row_end_the_run_with_code_3() -> None:
    model, optimizer, _ = create_optimizer()
    for _ in range(2):
        step(model, optimizer, float("nan"))
    step(model, optimizer, 1.0)  # one good update starts the count anew
    for _ in range(2):
        step(model, optimizer, float("nan"))
    with pytest.raises(TrainingDivergedError, match=r"3 updates in a row.*step 7") as caught:
        step(model, optimizer, float("nan"))
    assert caught.value.exit_code == 3
    assert all(torch.isfinite(p).all() for p in model.parameters())


class _Trainer:
    _max_num_steps: int | None = 100
    _stop_requested = False


def test_sigterm_ends_the_run_at_the_next_step() -> None:
    stop, trainer = StopRequest(FakeGang(CPU)), _Trainer()
    stop.install(trainer)
    try:
        stop.check(4)
        assert trainer._max_num_steps == 100
        os.kill(os.getpid(), signal.SIGTERM)
        stop.check(5)
        assert stop.is_agreed
        assert stop.signal_number == signal.SIGTERM
        assert trainer._max_num_steps == 5
    finally:
        stop.restore()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_stop_that_fairseq2_was_asked_for_ends_the_run_too() -> None:
    stop, trainer = StopRequest(FakeGang(CPU)), _Trainer()
    stop.install(trainer)
    try:
        trainer._stop_requested = True  # what its handler of SIGUSR1 does
        stop.check(6)
        assert trainer._max_num_steps == 6
        assert stop.signal_number == signal.SIGTERM
        assert not trainer._stop_requested  # or fairseq2 would fail after the last step
    finally:
        stop.restore()


def test_second_interrupt_stops_at_once() -> None:
    stop = StopRequest(FakeGang(CPU))
    stop.install(_Trainer())
    try:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        stop.restore()


def test_signal_during_validation_is_agreed_there_and_ends_the_run_at_the_next_step() -> None:
    stop, trainer = StopRequest(FakeGang(CPU)), _Trainer()
    stop.install(trainer)
    try:
        assert not stop.agree()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.agree()
        assert trainer._max_num_steps == 100
        stop.check(8)
        assert trainer._max_num_steps == 8
    finally:
        stop.restore()
