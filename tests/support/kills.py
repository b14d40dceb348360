"""Kills runs, and compares what comes out with a run that nobody killed."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file

from speechvq.training.metrics import read_metrics
from tests.support.corpora import TINY_MODEL
from tests.support.forks import ForkServer
from tests.support.runs import hash_weights

STEPS = 60
CHECKPOINT_EVERY = 4
ARGUMENTS = (
    f"steps={STEPS}", "log_every=1", "validate_every=20", f"checkpoint_every={CHECKPOINT_EVERY}",
    "batch.batch_seconds=12", "batch.max_seconds=6", "batch.num_accumulate=2",
    "batch.num_workers=2", "tensorboard=false",
    # Dropout and LayerDrop draw from torch's generator, which must be restored as well.
    "architecture.encoder.dropout=0.1", "architecture.encoder.layer_drop_prob=0.2",
)  # fmt: skip

PLACES = ("0.02", "0.3", "0.6", "0.97", "manifest", "rename", "renamed")
"""Where in a save a run is killed: shares of the bytes of rank 0, then stages."""

BYTES_OF_RANK_0 = 690_000
"""About what rank 0 writes for `TINY_MODEL`."""


def create_arguments(corpus: Path, output: Path, *more: str) -> list[str]:
    """Return the command line of a run."""
    return [f"corpus={corpus}", f"output={output}", *TINY_MODEL, *ARGUMENTS, *more]


@dataclass(frozen=True)
class Outcome:
    """What a run left.

    Attributes:
        weights: Digest of the model's weights.
        losses: (step, split, loss) of every line of metrics.
        samples: (step, targets, hours of audio so far) of every training line: which samples the
            steps saw.
        is_finite: Whether all weights are.
    """

    weights: str
    losses: list[tuple[int, str, float]]
    samples: list[tuple[int, float, float]]
    is_finite: bool


def read_outcome(run: Path) -> Outcome:
    """Read what a run left."""
    lines = read_metrics(run / "metrics.jsonl")
    weights = load_file(run / "model" / "model.safetensors")
    return Outcome(
        hash_weights(run),
        [(line["step"], line["split"], line["loss"]) for line in lines],
        [
            (line["step"], line["targets"], line["audio_hours"])
            for line in lines
            if line["split"] == "train"
        ],
        all(
            bool(value.isfinite().all()) for value in weights.values() if value.is_floating_point()
        ),
    )


def finish(forks: ForkServer, arguments: Sequence[str], ranks: int = 1) -> None:
    """Run to the end."""
    run = forks.run("pretrain", arguments, ranks=ranks)
    assert run.codes == [0] * ranks, run.output


def draw_steps(rng: random.Random, number: int) -> list[int]:
    """Draw steps after which a run is killed, in ascending order."""
    return sorted(rng.sample(range(1, STEPS - 1), number))


def kill_in_training(
    forks: ForkServer, arguments: Sequence[str], step: int, delay: float, ranks: int = 1
) -> bool:
    """Start a run and kill all of it after a step was logged; tell whether it still ran."""
    run = forks.start("pretrain", arguments, ranks=ranks)
    while _find_last_step(run.output) < step and run.codes == [None] * ranks:
        time.sleep(0.005)
    time.sleep(delay)
    was_running = run.codes == [None] * ranks
    run.kill()
    codes = run.wait()
    assert was_running or codes == [0] * ranks, run.output
    return was_running


def draw_saves(rng: random.Random, number: int) -> Iterator[tuple[int, str]]:
    """Draw saves and places in them; in each save bytes come before stages."""
    saves = range(CHECKPOINT_EVERY, STEPS, CHECKPOINT_EVERY)
    for position, step in enumerate(saves):
        share = number * (position + 1) // len(saves) - number * position // len(saves)
        chosen = rng.sample(range(len(PLACES)), share)
        for place in sorted(chosen):
            name = PLACES[place]
            if not name.isalpha():
                name = str(round((float(name) + 0.02 * rng.random()) * BYTES_OF_RANK_0))
            yield step, name


def kill_in_saving(
    forks: ForkServer, arguments: Sequence[str], step: int, place: str, ranks: int = 1
) -> bool:
    """Start a run in which rank 0 dies in a save, kill the others; tell whether it died there."""
    faults = {"kill_in_save": {"step": step, "place": place}}
    run = forks.start("pretrain", arguments, ranks=ranks, faults=faults)
    code = run.processes[0].wait()
    run.kill()
    run.wait()
    assert code in (0, -9), run.output
    return code == -9


def _find_last_step(output: str) -> int:
    steps = [line for line in output.splitlines() if line.startswith("step ")]
    return max((int(line.split("/")[0].removeprefix("step ")) for line in steps), default=0)


def is_close(first: Sequence[float], second: Sequence[float], tolerance: float) -> bool:
    """Tell whether all numbers agree to a relative tolerance."""
    return len(first) == len(second) and all(
        math.isclose(a, b, rel_tol=tolerance) for a, b in zip(first, second, strict=True)
    )
