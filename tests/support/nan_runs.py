"""Runs whose loss is NaN for some steps on one rank."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from speechvq.training.checkpoints import find_damage, list_steps
from speechvq.training.metrics import read_metrics
from tests.support.corpora import TINY_MODEL
from tests.support.forks import ForkServer
from tests.support.kills import finish, read_outcome

STEPS = 20
FIRST_BAD_STEP = 4
MAX_SKIPPED = 10
"""The recipe's own `max_skipped_updates`."""

ARGUMENTS = (
    f"steps={STEPS}", "log_every=1", "validate_every=20", "checkpoint_every=4",
    "batch.batch_seconds=12", "batch.max_seconds=6", "tensorboard=false",
    "architecture.encoder.dropout=0.1", "architecture.encoder.layer_drop_prob=0.2",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One way to be hit.

    Attributes:
        num_steps: Steps in a row whose loss is NaN.
        precision: `fp32` or `bf16`.
        ranks: Processes; the last one is hit.
    """

    num_steps: int
    precision: str
    ranks: int

    @property
    def name(self) -> str:
        """Name of the run."""
        return f"nan_{self.num_steps}_{self.precision}_{self.ranks}"


def create_arguments(corpus: Path, output: Path, precision: str) -> list[str]:
    """Return the command line of a run."""
    return [
        f"corpus={corpus}", f"output={output}", f"precision={precision}", *TINY_MODEL, *ARGUMENTS
    ]  # fmt: skip


def check_nan(forks: ForkServer, corpus: Path, directory: Path, case: Case) -> str:
    """Run a case and the same undisturbed; returns what came out, or fails.

    Whatever happens: the parameters are finite, there is a state to go on from, and the steps see
    the samples that they see undisturbed. With more bad steps than the guard skips, exit code 3;
    the same command, undisturbed, then goes on to the end.
    """
    whole = directory / f"whole_{case.precision}_{case.ranks}"
    if not (whole / "summary.json").exists():
        finish(forks, create_arguments(corpus, whole, case.precision), case.ranks)
    output = directory / case.name
    arguments = create_arguments(corpus, output, case.precision)
    steps = list(range(FIRST_BAD_STEP, FIRST_BAD_STEP + case.num_steps))
    faults = {"nan_loss": {"steps": steps, "rank": case.ranks - 1}}
    run = forks.run("pretrain", arguments, ranks=case.ranks, faults=faults)
    is_fatal = case.num_steps >= MAX_SKIPPED
    assert run.codes == [3 if is_fatal else 0] * case.ranks, run.output
    checkpoints = output / "engine" / "checkpoints"
    last = list_steps(checkpoints)[-1]
    assert find_damage(checkpoints / f"step_{last}") is None
    num_skipped = sum(
        line.get("skipped_updates", 0) for line in read_metrics(output / "metrics.jsonl")
    )
    if is_fatal:
        assert "updates in a row had a loss or gradient that is not finite" in run.output
        finish(forks, arguments, case.ranks)
    else:
        assert num_skipped == case.num_steps
    outcome = read_outcome(output)
    assert outcome.is_finite
    assert [step for step, _, _ in outcome.samples] == list(range(1, STEPS + 1))
    assert outcome.samples == read_outcome(whole).samples
    if is_fatal:
        return f"exit code 3 after {MAX_SKIPPED}, then the same command went on from step {last}"
    return f"{num_skipped} updates skipped, exit code 0"
