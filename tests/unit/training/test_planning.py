"""What a plan promises, held against the order, a checkpoint's size and simple arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("fairseq2")

from torch import nn

from speechvq.config.application import load_config
from speechvq.data.index import load_index
from speechvq.data.order import OrderConfig
from speechvq.data.records import SAMPLE_RATE
from speechvq.errors import ConfigError
from speechvq.training.planning import (
    AudioPlan,
    describe_gpus,
    describe_time,
    plan_audio,
    plan_disk,
)
from speechvq.training.pretrain_config import PretrainConfig
from speechvq.training.probe import NUM_STEPS, Probe, choose_num_steps
from tests.support.corpora import write_tone_corpus


def load(*overrides: str) -> PretrainConfig:
    return load_config(PretrainConfig, "pretrain", ["corpus=/c", "output=/o", *overrides])


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_languages_are_heard_by_their_share(tmp_path: Path, alpha: float) -> None:
    corpus = write_tone_corpus(tmp_path / "a", languages=["hin_Deva"], counts={"train": 60})
    other = write_tone_corpus(tmp_path / "b", languages=["tam_Taml"], counts={"train": 20})
    index = load_index([corpus, other], split="train")
    order = OrderConfig(
        seed=1,
        alpha=alpha,
        batch_samples=20 * SAMPLE_RATE,
        max_samples=10 * SAMPLE_RATE,
        window=8,
    )
    audio = plan_audio(index, order, num_batches=2, steps=50)
    assert audio.epochs == 50 * 2 / audio.batches_per_epoch
    assert audio.hours == pytest.approx(sum(one.heard for one in audio.languages))
    assert audio.hours == pytest.approx(audio.epochs * index.hours, rel=0.03)
    by_code = {one.code: one for one in audio.languages}
    hours = index.hours_by_language()
    expected = 0.5 if alpha == 0 else hours["tam_Taml"] / index.hours
    tamil = by_code["tam_Taml"]
    assert tamil.heard / audio.hours == pytest.approx(expected, abs=0.03)
    assert tamil.passes == pytest.approx(tamil.heard / hours["tam_Taml"], rel=0.1)


def test_moments_are_kept_of_what_learns() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5, bias=False))
    model[1].requires_grad_(False)
    disk = plan_disk(model, keep_checkpoints=2)
    assert disk.model == 4 * (16 + 20)
    assert disk.checkpoint == disk.model + 2 * 4 * 16
    assert disk.total == 3 * disk.checkpoint + disk.model


@pytest.mark.parametrize(("seconds", "number"), [(0.1, NUM_STEPS), (10, NUM_STEPS), (20, 10)])
def test_slow_updates_are_timed_less_often(seconds: float, number: int) -> None:
    assert choose_num_steps(seconds) == number
    assert choose_num_steps(1e6) == 2


def test_time_is_the_median_with_its_middle_half() -> None:
    audio = AudioPlan(
        languages=[], batches_per_epoch=10, epochs=1.0, hours=100.0, hours_per_update=0.1
    )
    probe = Probe(
        seconds=[1.0, 2.0, 3.0, 4.0, 50.0],
        forward_seconds=20.0,
        audio_hours=0.5,
        peak_bytes=1,
        device="a CPU",
        num_threads=1,
        is_shortened=True,
    )
    rows = describe_time(load("steps=1000"), audio, 2.0, probe)
    assert rows["one update here"].startswith("3 s, median of 5 (not 20, as they are slow)")
    assert "2 – 4 s; 120× real time" in rows["one update here"]
    assert rows["whole run here"].startswith("50 min 00 s (33 min 20 s – 1 h 06 min)")
    # 4 validations of 2 h, 40 s of forward passes an hour
    assert rows["validation"].startswith("5 min 20 s more, if 4 forward passes over 2.00 h")


def test_gpus_are_spoken_of_with_what_is_assumed() -> None:
    audio = AudioPlan(
        languages=[], batches_per_epoch=10, epochs=1.0, hours=100.0, hours_per_update=0.1
    )
    assert describe_gpus(load(), audio) == []
    config = load("steps=1000", "plan_gpus=4", "plan_gpu_hours_per_hour=50", "plan_efficiency=0.5")
    head, same_audio, same_steps = describe_gpus(config, audio)
    assert "50 h of audio an hour" in head
    assert "50% of 4 times that" in head
    assert same_audio.endswith("1 h 00 min, 250 updates of 1440 s")
    assert same_steps.endswith("4 h 00 min, 400.00 h of audio")


def test_speed_of_a_gpu_is_not_guessed() -> None:
    with pytest.raises(ConfigError, match="`plan_gpus` and `plan_gpu_hours_per_hour` belong"):
        load("plan_gpus=4")
    with pytest.raises(ConfigError, match="`plan_efficiency` must be in"):
        load("plan_efficiency=1.5")
