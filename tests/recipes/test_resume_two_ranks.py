"""Two ranks: killed anywhere and resumed, one lost, one without targets; DDP and FSDP2."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

pytest.importorskip("fairseq2")

from speechvq.training.metrics import read_metrics
from tests.support.corpora import TINY_MODEL
from tests.support.forks import ForkServer
from tests.support.kills import (
    create_arguments,
    draw_saves,
    draw_steps,
    finish,
    is_close,
    kill_in_saving,
    kill_in_training,
    read_outcome,
)
from tests.support.runs import start_recipe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SHORT = (
    "log_every=1", "validate_every=8", "checkpoint_every=4", "steps=8", "batch.batch_seconds=12",
    "batch.max_seconds=6", "tensorboard=false",
)  # fmt: skip


@pytest.mark.parametrize(
    "number", [3, pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(1800)])]
)
def test_killed_and_resumed(forks: ForkServer, tones: Path, tmp_path: Path, number: int) -> None:
    rng = random.Random(number)
    finish(forks, create_arguments(tones, tmp_path / "whole"), ranks=2)
    arguments = create_arguments(tones, tmp_path / "run")
    steps = draw_steps(rng, number)
    assert all(
        kill_in_training(forks, arguments, step, rng.random() * 0.05, ranks=2) for step in steps
    )
    finish(forks, arguments, ranks=2)
    assert read_outcome(tmp_path / "run") == read_outcome(tmp_path / "whole")
    arguments = create_arguments(tones, tmp_path / "saving")
    for step, place in draw_saves(rng, number):
        assert kill_in_saving(forks, arguments, step, place, ranks=2)
    finish(forks, arguments, ranks=2)
    assert read_outcome(tmp_path / "saving") == read_outcome(tmp_path / "whole")


def train(forks: ForkServer, tones: Path, output: Path, *more: str, ranks: int = 2) -> list[float]:
    """Train for eight steps; returns the losses."""
    arguments = [f"corpus={tones}", f"output={output}", *TINY_MODEL, *SHORT, *more]
    finish(forks, arguments, ranks)
    return [line["loss"] for line in read_metrics(output / "metrics.jsonl")]


def test_two_ranks_learn_as_one_with_the_same_batches(
    forks: ForkServer, tones: Path, tmp_path: Path
) -> None:
    same = ("quantizer=simvq", "architecture.encoder.dropout=0", "precision=fp32")
    one = train(forks, tones, tmp_path / "one", *same, "batch.num_accumulate=2", ranks=1)
    for parallelism in ("ddp", "fsdp"):
        two = train(forks, tones, tmp_path / parallelism, *same, f"parallelism={parallelism}")
        assert is_close(one, two, 1e-4)
    assert read_outcome(tmp_path / "fsdp").is_finite


def test_killed_fsdp_goes_on_bit_for_bit(forks: ForkServer, tones: Path, tmp_path: Path) -> None:
    fsdp = ("parallelism=fsdp", "architecture.encoder.layer_drop_prob=0", "steps=20")
    finish(forks, create_arguments(tones, tmp_path / "whole", *fsdp), ranks=2)
    arguments = create_arguments(tones, tmp_path / "run", *fsdp)
    assert kill_in_saving(forks, arguments, 8, "rename", ranks=2)
    assert kill_in_training(forks, arguments, 14, 0.0, ranks=2)
    finish(forks, arguments, ranks=2)
    assert read_outcome(tmp_path / "run") == read_outcome(tmp_path / "whole")


def test_buffers_of_the_ema_codebook_are_the_same_on_both_ranks(
    forks: ForkServer, tones: Path, tmp_path: Path
) -> None:
    arguments = [f"corpus={tones}", f"output={tmp_path / 'run'}", *TINY_MODEL, *SHORT]
    faults = {"buffers": {"directory": str(tmp_path)}}
    more = ["quantizer=ema", "architecture.encoder.layer_drop_prob=0.5"]
    run = forks.run("pretrain", [*arguments, *more], ranks=2, faults=faults)
    assert run.codes == [0, 0], run.output
    first, second = (json.loads((tmp_path / f"buffers_{r}.json").read_text()) for r in (0, 1))
    assert any("quantizer" in name for name in first)
    assert first == second


def test_rank_without_targets_is_not_waited_for(
    forks: ForkServer, tones: Path, tmp_path: Path
) -> None:
    faults = {"no_targets": {"steps": [2, 3, 6], "rank": 1}}
    arguments = [f"corpus={tones}", f"output={tmp_path / 'run'}", *TINY_MODEL, *SHORT]
    run = forks.run("pretrain", arguments, ranks=2, faults=faults)
    assert run.codes == [0, 0], run.output
    assert read_outcome(tmp_path / "run").is_finite
    targets = [
        line["targets"]
        for line in read_metrics(tmp_path / "run" / "metrics.jsonl")
        if line["split"] == "train"
    ]
    assert max(targets[1], targets[2], targets[5]) < min(targets[0], targets[3], targets[4])


@pytest.mark.parametrize(
    ("number", "seconds"), [(signal.SIGKILL, 30), (signal.SIGSTOP, 60)], ids=["killed", "stopped"]
)
def test_rank_that_is_lost_ends_the_others(
    forks: ForkServer, tones: Path, tmp_path: Path, number: int, seconds: float
) -> None:
    arguments = [f"corpus={tones}", f"output={tmp_path / 'run'}", *TINY_MODEL, *SHORT]
    run = forks.start("pretrain", [*arguments, "steps=100000"], ranks=2)
    while "step      3/" not in run.output:
        assert run.codes == [None, None], run.output
        time.sleep(0.05)
    start = time.monotonic()
    run.processes[1].kill(number)
    code = run.processes[0].wait()
    run.kill()
    run.wait()
    assert time.monotonic() - start < seconds
    assert code == 1
    assert "This run has lost" in run.processes[0].log.read_text()


@pytest.mark.long
def test_torchrun_ends_when_a_rank_is_killed(tones: Path, tmp_path: Path) -> None:
    arguments = [f"corpus={tones}", f"output={tmp_path / 'run'}", *TINY_MODEL, *SHORT]
    process = start_recipe("pretrain", [*arguments, "steps=100000"], ranks=2)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step "):
            break
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    start = time.monotonic()
    os.kill(int(children[-1]), signal.SIGKILL)
    rest = process.stdout.read()
    assert process.wait(timeout=60) == 1, rest
    assert time.monotonic() - start < 60
