"""Kills runs at random steps, and compares what comes out with a run that nobody killed."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from speechvq.training.metrics import read_metrics
from tests.support.corpora import TINY_MODEL
from tests.support.runs import hash_weights, run_recipe, start_recipe

STEPS = 60
ARGUMENTS = (
    f"steps={STEPS}", "log_every=1", "validate_every=20", "checkpoint_every=4",
    "batch.batch_seconds=12", "batch.max_seconds=6", "batch.num_accumulate=2",
    "batch.num_workers=2", "tensorboard=false",
    # Dropout and LayerDrop draw from torch's generator, which must be restored as well.
    "architecture.encoder.dropout=0.1", "architecture.encoder.layer_drop_prob=0.2",
)  # fmt: skip


def create_arguments(corpus: Path, output: Path) -> list[str]:
    return [f"corpus={corpus}", f"output={output}", *TINY_MODEL, *ARGUMENTS]


def kill_at(arguments: list[str], step: int, delay: float, ranks: int) -> bool:
    """Start the run, kill all of it after a step was logged; tell whether it was still running."""
    process = start_recipe("pretrain", arguments, ranks=ranks)
    assert process.stdout is not None
    output = []
    for line in process.stdout:
        output.append(line)
        if line.startswith("step ") and int(line.split()[1].split("/")[0]) >= step:
            break
    time.sleep(delay)
    was_running = process.poll() is None
    if was_running:
        os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()
    code = process.wait(timeout=60)
    assert was_running or code == 0, "".join(output)
    return was_running


def check_kills(corpus: Path, directory: Path, *, num_kills: int, ranks: int, seed: int) -> None:
    """Kill a run again and again at random steps; its weights must be an undisturbed run's."""
    whole = directory / "whole"
    result = run_recipe("pretrain", create_arguments(corpus, whole), ranks=ranks)
    assert result.returncode == 0, result.stderr
    rng = random.Random(seed)
    killed = directory / "killed"
    arguments = create_arguments(corpus, killed)
    points = sorted(rng.sample(range(1, STEPS - 2), num_kills))
    kills = [kill_at(arguments, step, rng.random() * 0.05, ranks) for step in points]
    assert sum(kills) == num_kills, f"only {sum(kills)} of {points} hit a running process"
    result = run_recipe("pretrain", arguments, ranks=ranks)
    assert result.returncode == 0, result.stderr
    assert hash_weights(killed) == hash_weights(whole)
    assert _read_losses(killed) == _read_losses(whole)


def _read_losses(run: Path) -> list[tuple[int, str, float]]:
    lines = read_metrics(run / "metrics.jsonl")
    return [(line["step"], line["split"], line["loss"]) for line in lines]
