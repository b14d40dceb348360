"""What goes wrong in a run leaves it with finite weights and a state to go on from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fairseq2")

from speechvq.models.directory import load_pretrain_model
from speechvq.training.metrics import read_metrics
from tests.support.corpora import TINY_MODEL
from tests.support.faults import FULL_DISKS
from tests.support.forks import ForkServer
from tests.support.kills import finish, is_close, read_outcome
from tests.support.nan_runs import Case, check_nan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SHORT = (
    "log_every=1", "validate_every=8", "checkpoint_every=4", "steps=8", "batch.batch_seconds=12",
    "batch.max_seconds=6", "tensorboard=false", "architecture.encoder.dropout=0.1",
    "architecture.encoder.layer_drop_prob=0.2",
)  # fmt: skip


def create_arguments(tones: Path, output: Path) -> list[str]:
    return [f"corpus={tones}", f"output={output}", *TINY_MODEL, *SHORT]


@pytest.fixture(scope="module")
def whole(forks: ForkServer, tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run, with a secret in its environment."""
    output = tmp_path_factory.mktemp("runs") / "whole"
    arguments = [*create_arguments(tones, output), "tensorboard=true"]
    run = forks.run("pretrain", arguments, environment={"HF_TOKEN": "sekret-4711"})
    assert run.codes == [0], run.output
    assert "sekret-4711" not in run.output
    return output


def test_environment_is_written_nowhere(whole: Path) -> None:
    files = [path for path in whole.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if b"sekret-4711" in path.read_bytes()] == []


@pytest.mark.parametrize(
    "case",
    [Case(1, "bf16", 2), Case(5, "fp32", 1), Case(11, "fp32", 1)],
    ids=lambda case: case.name,
)
def test_nan_loss(forks: ForkServer, tones: Path, tmp_path: Path, case: Case) -> None:
    check_nan(forks, tones, tmp_path, case)


@pytest.mark.parametrize("faults", FULL_DISKS.values(), ids=FULL_DISKS)
def test_full_disk_leaves_what_was_saved_before(
    forks: ForkServer, tones: Path, whole: Path, tmp_path: Path, faults: dict[str, Any]
) -> None:
    arguments = create_arguments(tones, tmp_path / "run")
    run = forks.run("pretrain", arguments, faults=faults)
    assert run.codes == [4], run.output
    assert "make room and run the same command again" in run.output
    assert "Traceback" not in run.output
    finish(forks, arguments)
    assert read_outcome(tmp_path / "run") == read_outcome(whole)
    assert (tmp_path / "run" / "summary.json").exists()


def test_full_disk_keeps_the_model_directory_of_a_run_that_is_extended(
    forks: ForkServer, tones: Path, whole: Path, tmp_path: Path
) -> None:
    run_directory = tmp_path / "run"
    shutil.copytree(whole, run_directory)
    arguments = [*create_arguments(tones, run_directory), "steps=12", "resume=extend"]
    faults = FULL_DISKS["file size in the model directory"]
    run = forks.run("pretrain", arguments, faults=faults)
    assert run.codes == [4], run.output
    load_pretrain_model(run_directory / "model")
    assert read_outcome(run_directory).weights == read_outcome(whole).weights
    finish(forks, arguments)
    assert read_outcome(run_directory).weights != read_outcome(whole).weights


def test_recomputed_activations_give_the_same_weights(
    forks: ForkServer, tones: Path, whole: Path, tmp_path: Path
) -> None:
    arguments = create_arguments(tones, tmp_path / "run")
    finish(forks, [*arguments, "activation_checkpointing=true"])
    assert read_outcome(tmp_path / "run") == read_outcome(whole)


@pytest.mark.long
@pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None,
    reason="torch.compile needs a C++ compiler on the CPU",
)
def test_compiled_layers_learn_the_same(forks: ForkServer, tones: Path, tmp_path: Path) -> None:
    losses = []
    for name in ("false", "true"):
        arguments = [*create_arguments(tones, tmp_path / name), "precision=fp32"]
        # Compiled dropout draws other numbers.
        finish(forks, [*arguments, "architecture.encoder.dropout=0", f"compile={name}"])
        losses.append([line["loss"] for line in read_metrics(tmp_path / name / "metrics.jsonl")])
    assert is_close(losses[0], losses[1], 1e-4)
