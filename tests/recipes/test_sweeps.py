"""Sweeps as users start them: side by side, again, and with a run that fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("fairseq2")
pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
pytest.importorskip("hydra_plugins.hydra_submitit_launcher")

from speechvq.training.sweep_records import find_last_record, read_records
from tests.support.corpora import TINY_MODEL
from tests.support.runs import run_recipe

pytestmark = pytest.mark.slow

SCHEDULE = (
    "log_every=2", "validate_every=4", "checkpoint_every=4", "batch.batch_seconds=20",
    "batch.max_seconds=10", "tensorboard=false", "steps=4",
)  # fmt: skip


def test_runs_side_by_side_are_recognised_the_second_time(tones: Path, tmp_path: Path) -> None:
    output = tmp_path / "sweep"
    arguments = [
        "--multirun", f"corpus={tones}", f"output={output}", "quantizer=gumbel,simvq",
        "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", *SCHEDULE, *TINY_MODEL,
    ]  # fmt: skip
    result = run_recipe("pretrain", arguments)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("[quantizer=simvq] step 4/4") == 1
    runs = [output / f"quantizer={kind}" for kind in ("gumbel", "simvq")]
    assert all(json.loads((run / "summary.json").read_text())["steps"] == 4 for run in runs)
    before = [(run / "model" / "model.safetensors").stat().st_mtime_ns for run in runs]
    again = run_recipe("pretrain", arguments)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("already finished: ") == 2
    assert [(run / "model" / "model.safetensors").stat().st_mtime_ns for run in runs] == before
    assert sorted(path.name for path in output.iterdir()) == [".sweep", *(r.name for r in runs)]


def test_failing_run_takes_no_other_along_and_decides_the_exit_code(
    tones: Path, tmp_path: Path
) -> None:
    output = tmp_path / "sweep"
    result = run_recipe(
        "pretrain",
        [
            "-m", f"corpus={tones}", f"output={output}/${{train_split}}",
            "train_split=nosuch,train", "hydra/launcher=submitit_local", *SCHEDULE, *TINY_MODEL,
        ],
    )  # fmt: skip
    assert result.returncode == 2, result.stderr
    assert "train_split=nosuch  failed" in result.stdout
    assert (output / "train" / "model" / "model.safetensors").exists()
    assert not (output / "nosuch").exists()
    (start,) = (output / ".sweep").iterdir()
    states = [(Path(r.output).name, r.state, r.exit_code) for r in read_records(start)]
    assert states == [("nosuch", "failed", 2), ("train", "finished", 0)]
    record = find_last_record(output / "nosuch")
    assert record is not None
    assert "no utterance of split `nosuch`" in record.message
