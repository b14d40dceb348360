"""What is written and shown of each interval."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("fairseq2")

from speechvq.training.metrics import MetricsFile, read_metrics
from speechvq.training.recorder import RunRecorder, format_duration


def test_interval_is_written_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "metrics.jsonl"
    recorder = RunRecorder(MetricsFile(path, 1), steps=100, first_step=0)
    for step, hours in ((25, 1.0), (50, 2.0)):
        recorder.record_metric_values(
            "train", {"loss": 1.5, "audio_hours": hours, "lr": [0.1, 0.1], "num_batches": 3}, step
        )
    recorder.record_metric_values("valid/dev", {"cer": 0.25, "words": 10.0}, 50)
    assert read_metrics(path) == [
        {"step": 25, "split": "train", "loss": 1.5, "audio_hours": 1.0, "lr": 0.1},
        {"step": 50, "split": "train", "loss": 1.5, "audio_hours": 2.0, "lr": 0.1},
        {"step": 50, "split": "dev", "cer": 0.25, "words": 10.0},
    ]
    shown = capsys.readouterr().err.splitlines()
    assert shown[1].startswith("step  50/100  loss 1.5")
    assert "× real time" in shown[1]
    assert shown[1].endswith("left")
    assert "dev at 50: cer 0.25" in shown[2]


def test_validation_without_a_batch_leaves_no_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    recorder = RunRecorder(MetricsFile(path, 1), steps=100, first_step=0)
    recorder.record_metric_values("valid/dev", {"cer": 0.0, "words": 0.0}, 7)
    recorder.record_metric_values("valid/dev", {"accuracy": 0.0, "targets": 0.0}, 7)
    assert read_metrics(path) == []


def test_ranks_without_a_file_record_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    RunRecorder(None, steps=10, first_step=0).record_metric_values("train", {"loss": 1.0}, 5)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min 01 s"), (3725, "1 h 02 min")]
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
