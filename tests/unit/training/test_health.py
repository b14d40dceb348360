"""Alarms about a collapsing codebook."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("fairseq2")

import torch
from fairseq2.device import CPU
from fairseq2.gang import FakeGang

from speechvq.errors import TrainingDivergedError
from speechvq.models.config import Features, RandomProjectionConfig
from speechvq.models.presets import create_preset
from speechvq.training.health import CodebookHealth, CodeWindow, HealthGuard, describe_remedies
from speechvq.training.pretrain_config import (
    HealthAction,
    HealthConfig,
    PretrainConfig,
    QuantizerInit,
)
from speechvq.training.pretraining import _halve_rate


def create_values(**changes: Any) -> dict[str, Any]:
    return {"targets": 500.0, "equal_share": 0.01, "perplexity": [60.0, 40.0]} | changes


def test_healthy_interval_is_no_problem() -> None:
    health = CodebookHealth(HealthConfig(), 100)
    assert health.judge(create_values()).problems == ()


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"equal_share": 0.5}, "50 % of the distractors equal their target"),
        ({"perplexity": [60.0, 2.0]}, "codebook 2 has a perplexity of 2.0 of 100"),
        ({"dead_codes": [3, 90]}, "90 of the 100 entries of codebook 2 are dead"),
    ],
)
def test_alarm_comes_after_patience_and_names_the_threshold(
    changes: dict[str, Any], phrase: str
) -> None:
    health = CodebookHealth(HealthConfig(patience=3), 100)
    alarms = [health.judge(create_values(**changes)) for _ in range(6)]
    assert [judgement.is_alarm for judgement in alarms] == [False, False, True] * 2
    assert phrase in alarms[0].problems[0]


def test_one_healthy_interval_begins_the_count_anew() -> None:
    health = CodebookHealth(HealthConfig(patience=2), 100)
    bad = create_values(equal_share=0.9)
    assert not health.judge(bad).is_alarm
    assert not health.judge(create_values()).is_alarm
    assert not health.judge(bad).is_alarm
    assert health.judge(bad).is_alarm


def test_perplexity_of_few_targets_says_nothing() -> None:
    health = CodebookHealth(HealthConfig(patience=2), 100)
    few = create_values(targets=99.0, perplexity=[3.0, 3.0])
    judgement = health.judge(few)
    assert not judgement.problems
    assert not judgement.is_healthy
    # Nor does it interrupt a row of unhealthy intervals.
    assert not health.judge(create_values(equal_share=0.9)).is_alarm
    assert not health.judge(few).is_alarm
    assert health.judge(create_values(equal_share=0.9)).is_alarm


def test_equal_distractors_are_judged_with_few_targets() -> None:
    health = CodebookHealth(HealthConfig(patience=2), 65_536)
    bad = create_values(equal_share=1.0)
    assert [health.judge(bad).is_alarm for _ in range(2)] == [False, True]


def test_dead_entries_of_a_window_hold_until_the_next_window() -> None:
    """A large codebook takes several intervals for a window."""
    health = CodebookHealth(HealthConfig(patience=3), 8192)
    size = {"targets": 30_000.0, "perplexity": [500.0]}
    intervals = [{}, {}, {"dead_codes": [7700]}, {}, {}, {}, {"dead_codes": [7700]}, {}, {}]
    alarms = [health.judge(create_values(**size, **values)).is_alarm for values in intervals]
    assert alarms == [False] * 4 + [True] + [False] * 3 + [True]
    health.judge(create_values(**size, dead_codes=[7700]))
    assert health.judge(create_values(**size, dead_codes=[20])).is_healthy


def test_entry_is_dead_after_twenty_frames_an_entry_without_it() -> None:
    window = CodeWindow()
    first = torch.tensor([[30, 9, 0], [13, 13, 13]])
    assert window.add(first) is None  # 39 frames of 60
    assert window.add(torch.tensor([[20, 1, 0], [0, 0, 21]])) == ([1, 0], 60)
    # The next interval begins a new window.
    assert window.add(torch.tensor([[60, 0, 0], [20, 20, 20]])) == ([2, 0], 60)


def create_guard(action: HealthAction, calls: list[str]) -> HealthGuard:
    return HealthGuard(
        FakeGang(CPU),
        action,
        10,
        slow_down=lambda: calls.append("slow"),
        restart=lambda: calls.append("restart"),
        roll_back=lambda: calls.append("roll back") or "Step 5 is kept.",  # type: ignore[func-returns-value]
    )


@pytest.mark.parametrize("action", [HealthAction.slow, HealthAction.restart])
def test_action_is_taken_once_after_the_interval(action: HealthAction) -> None:
    calls: list[str] = []
    guard = create_guard(action, calls)
    guard.check(11)
    guard.raise_alarm(("it collapses",))
    guard.check(12)
    assert calls == []
    guard.check(21)
    guard.check(31)
    assert calls == [action.value]


def test_stop_rolls_back_and_says_what_is_kept() -> None:
    calls: list[str] = []
    guard = create_guard(HealthAction.stop, calls)
    guard.raise_alarm(("codebook 1 has a perplexity of 1.0",))
    with pytest.raises(TrainingDivergedError, match=r"perplexity of 1.0.* Step 5 is kept") as error:
        guard.check(21)
    assert calls == ["roll back"]
    assert error.value.exit_code == 3


def test_alarm_of_the_last_interval_stops_the_run() -> None:
    calls: list[str] = []
    guard = create_guard(HealthAction.stop, calls)
    guard.finish(20)
    guard.raise_alarm(("it collapses",))
    with pytest.raises(TrainingDivergedError, match="at step 20: it collapses"):
        guard.finish(20)


def test_remedies_are_possible() -> None:
    def describe(**changes: Any) -> str:
        return describe_remedies(PretrainConfig(**changes))

    assert "kmeans" not in describe()  # filter banks begin so
    assert "kmeans" in describe(quantizer_init=QuantizerInit.random)
    assert "kmeans" not in describe(quantizer_init=QuantizerInit.random, features=Features.waveform)
    fixed = replace(create_preset("tiny"), quantizer=RandomProjectionConfig())
    assert "diversity" not in describe(architecture=fixed)


def test_warning_changes_nothing() -> None:
    calls: list[str] = []
    guard = create_guard(HealthAction.warn, calls)
    guard.raise_alarm(("it collapses",))
    guard.check(21)
    assert calls == []


def test_halved_rate_is_kept_by_the_scheduler() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.4)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    _halve_rate(scheduler)  # type: ignore[arg-type]
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.2
    assert scheduler.state_dict()["base_lrs"] == [0.2]
