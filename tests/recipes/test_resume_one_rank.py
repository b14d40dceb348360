"""Kill −9 anywhere, run the same command again: the weights are those of an undisturbed run."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

pytest.importorskip("fairseq2")

from tests.support.damage import DAMAGES
from tests.support.forks import ForkServer
from tests.support.kills import (
    create_arguments,
    draw_saves,
    draw_steps,
    finish,
    kill_in_saving,
    kill_in_training,
    read_outcome,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def whole(forks: ForkServer, tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    output = tmp_path_factory.mktemp("runs") / "whole"
    finish(forks, create_arguments(tones, output))
    return output


@pytest.mark.parametrize(
    "number", [10, pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(1800)])]
)
def test_killed_in_training(
    forks: ForkServer, tones: Path, whole: Path, tmp_path: Path, number: int
) -> None:
    rng = random.Random(number)
    arguments = create_arguments(tones, tmp_path / "run")
    hits = [
        kill_in_training(forks, arguments, step, rng.random() * 0.05)
        for step in draw_steps(rng, number)
    ]
    assert all(hits), f"only {sum(hits)} of {number} kills hit a running process"
    finish(forks, arguments)
    assert read_outcome(tmp_path / "run") == read_outcome(whole)


@pytest.mark.parametrize(
    "number", [10, pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(1800)])]
)
def test_killed_in_saving(
    forks: ForkServer, tones: Path, whole: Path, tmp_path: Path, number: int
) -> None:
    rng = random.Random(number)
    arguments = create_arguments(tones, tmp_path / "run")
    hits = [
        kill_in_saving(forks, arguments, step, place) for step, place in draw_saves(rng, number)
    ]
    assert hits == [True] * number
    finish(forks, arguments)
    assert read_outcome(tmp_path / "run") == read_outcome(whole)


@pytest.mark.parametrize(
    ("file", "name"),
    [("model", "bit-flipped"), ("trainer", "truncated"), ("optimizer", "zeroed")],
)
def test_damaged_checkpoint_is_set_aside_and_the_run_goes_on_from_the_one_before(
    forks: ForkServer, tones: Path, whole: Path, tmp_path: Path, file: str, name: str
) -> None:
    arguments = create_arguments(tones, tmp_path / "run")
    assert kill_in_training(forks, arguments, 14, 0.0)
    checkpoints = tmp_path / "run" / "engine" / "checkpoints"
    DAMAGES[name](next((checkpoints / "step_12" / file).rglob("*.pt")))
    run = forks.run("pretrain", arguments)
    assert run.codes == [0], run.output
    assert "The checkpoint of step 12 is damaged" in run.output
    assert "the run goes on from step 8" in run.output
    assert (checkpoints / "damaged_step_12").is_dir()
    assert read_outcome(tmp_path / "run") == read_outcome(whole)


def test_run_without_whole_checkpoint_is_refused(
    forks: ForkServer, tones: Path, whole: Path, tmp_path: Path
) -> None:
    arguments = create_arguments(tones, tmp_path / "run")
    assert kill_in_training(forks, arguments, 6, 0.0)
    checkpoints = tmp_path / "run" / "engine" / "checkpoints"
    next((checkpoints / "step_4" / "optimizer").rglob("*.pt")).unlink()
    for _ in range(2):
        run = forks.run("pretrain", arguments)
        assert run.codes == [2]
        assert "is whole (step 4: optimizer" in run.output
        assert "Traceback" not in run.output
