"""What a run survives: kills, NaN, damaged checkpoints, full disks.

    python -m docs.measure_faults --runs runs/faults --machine '…' [--kills 50]

Every fault hits pretraining of a tiny model on tones, in a process of its own that is forked from
one which has imported everything; what comes out is compared with an undisturbed run. A measurement
that was interrupted goes on where it stopped. Writes `docs/results/07-faults.json`.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docs.measuring import create_parser, write_result
from tests.support.corpora import write_tone_corpus
from tests.support.damage import DAMAGES
from tests.support.faults import FULL_DISKS
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
from tests.support.nan_runs import Case, check_nan

DAMAGED_FILES = ("model", "optimizer", "trainer", "data_reader", "manifest.json")
SAME = "same weights and metrics, bit for bit"


@dataclass
class Faults:
    """The measurement: what was done already, and how the rest is done.

    Attributes:
        runs: Where the runs lie.
        kills: Kills of each kind on one rank.
        kills_two_ranks: The same on two.
        done: What came out, by name of the fault.
    """

    runs: Path
    kills: int
    kills_two_ranks: int
    forks: ForkServer
    done: dict[str, str] = field(default_factory=dict)
    start: float = field(default_factory=time.monotonic)

    def measure(self) -> None:
        """Do what is not done yet, and note each outcome at once."""
        self.corpus = self.runs / "tones"
        if not self.corpus.exists():
            write_tone_corpus(self.corpus)
        state = self.runs / "done.json"
        if state.exists():
            self.done = json.loads(state.read_text(encoding="utf-8"))
        faults = list(self.list_faults())
        for number, (name, measure) in enumerate(faults, 1):
            if name in self.done:
                continue
            try:
                self.done[name] = measure()
            except (AssertionError, TimeoutError) as error:
                self.done[name] = f"FAILED: {error}"
            state.write_text(json.dumps(self.done, indent=2), encoding="utf-8")
            seconds = time.monotonic() - self.start
            print(f"{number}/{len(faults)}  {seconds:.0f} s  {name}: {self.done[name]}", flush=True)

    def list_faults(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Name every fault, in an order in which chains of kills go on from each other."""
        for ranks, number in ((1, self.kills), (2, self.kills_two_ranks)):
            yield f"undisturbed/{ranks}", lambda ranks=ranks: self.run_undisturbed(ranks)
            yield from self.list_kills(ranks, number)
        for ranks in (1, 2):
            for precision in ("fp32", "bf16"):
                for steps in (1, 5, 11):
                    case = Case(steps, precision, ranks)
                    yield (
                        f"nan/{case.name}",
                        lambda case=case: check_nan(self.forks, self.corpus, self.runs, case),
                    )
        killed = create_arguments(self.corpus, self.runs / "killed")
        yield (
            "killed",
            lambda: _describe_hit(kill_in_training(self.forks, killed, 14, 0.0)),
        )
        for damage in ("truncated", "zeroed", "bit-flipped"):
            for file in DAMAGED_FILES:
                yield (
                    f"damage/{damage}/{file}",
                    lambda damage=damage, file=file: self.damage(damage, file),
                )
        for name in FULL_DISKS:
            yield f"disk/{name}", lambda name=name: self.fill_disk(name)

    def list_kills(self, ranks: int, number: int) -> Iterator[tuple[str, Callable[[], str]]]:
        """Kill one run again and again, then let it end and compare; twice."""
        rng = random.Random(number + ranks)
        arguments = create_arguments(self.corpus, self.runs / f"training_{ranks}")
        for count, step in enumerate(draw_steps(rng, number)):
            delay = 0.05 * rng.random()
            yield (
                f"training/{ranks}/{count}",
                lambda step=step, delay=delay, arguments=arguments: _describe_hit(
                    kill_in_training(self.forks, arguments, step, delay, ranks)
                ),
            )
        yield f"end/training/{ranks}", lambda: self.compare("training", ranks)
        saving = create_arguments(self.corpus, self.runs / f"saving_{ranks}")
        for count, (step, place) in enumerate(draw_saves(rng, number)):
            yield (
                f"saving/{ranks}/{count}",
                lambda step=step, place=place: _describe_hit(
                    kill_in_saving(self.forks, saving, step, place, ranks)
                ),
            )
        yield f"end/saving/{ranks}", lambda: self.compare("saving", ranks)

    def run_undisturbed(self, ranks: int) -> str:
        """The run that all others are compared with."""
        finish(self.forks, create_arguments(self.corpus, self.runs / f"whole_{ranks}"), ranks)
        return "done"

    def compare(self, kind: str, ranks: int) -> str:
        """Let a run that was killed end, and compare."""
        output = self.runs / f"{kind}_{ranks}"
        finish(self.forks, create_arguments(self.corpus, output), ranks)
        return self.judge(output, ranks)

    def judge(self, output: Path, ranks: int = 1) -> str:
        """Compare a run with the undisturbed one."""
        outcome = read_outcome(output)
        assert outcome.is_finite, "weights are not finite"
        assert outcome == read_outcome(self.runs / f"whole_{ranks}"), "other weights or metrics"
        return SAME

    def damage(self, damage: str, file: str) -> str:
        """Damage a file of the last checkpoint, and run again."""
        output = self.runs / f"{damage}_{file}"
        shutil.copytree(self.runs / "killed", output)
        arguments = create_arguments(self.corpus, output)
        checkpoint = output / "engine" / "checkpoints" / "step_12"
        place = checkpoint / file
        DAMAGES[damage](place if place.is_file() else next(place.rglob("*.pt")))
        run = self.forks.run("pretrain", arguments)
        assert run.codes == [0], run.output
        assert "step 12 is damaged" in run.output, "nobody noticed"
        return self.judge(output)

    def fill_disk(self, name: str) -> str:
        """Let the disk be full somewhere, then run again."""
        arguments = create_arguments(self.corpus, self.runs / name.replace(" ", "_"))
        run = self.forks.run("pretrain", arguments, faults=FULL_DISKS[name])
        assert run.codes == [4], run.output
        finish(self.forks, arguments)
        return self.judge(self.runs / name.replace(" ", "_"))

    def summarise(self, prefix: str) -> tuple[int, int, str]:
        """Count the faults of a kind: all, survived; and say what came out."""
        results = {name: text for name, text in self.done.items() if name.startswith(prefix)}
        failed = {name: text for name, text in results.items() if text.startswith("FAILED")}
        texts = sorted({text.splitlines()[0] for text in (failed or results).values()})
        return len(results), len(results) - len(failed), "; ".join(texts)


def _describe_hit(hit: bool) -> str:
    return "hit" if hit else "FAILED: the run had ended before"


def write_results(faults: Faults, machine: str) -> None:
    """Write the table."""
    rows: list[list[Any]] = []
    for ranks in (1, 2):
        for kind, name in (("training", "over training"), ("saving", "inside saves")):
            number, survived, _ = faults.summarise(f"{kind}/{ranks}/")
            end = faults.done[f"end/{kind}/{ranks}"].splitlines()[0]
            rows.append([f"SIGKILL at random {name}", ranks, f"{survived} of {number} hit", end])
    for ranks in (1, 2):
        for precision in ("fp32", "bf16"):
            for steps in (1, 5, 11):
                name = Case(steps, precision, ranks).name
                text = faults.done[f"nan/{name}"].splitlines()[0]
                rows.append([f"steps with a NaN loss: {steps}, {precision}", ranks, "1 run", text])
    for damage in ("truncated", "zeroed", "bit-flipped"):
        number, survived, text = faults.summarise(f"damage/{damage}/")
        rows.append([f"{damage} file of the last checkpoint", 1, f"{survived} of {number}", text])
    number, survived, text = faults.summarise("disk/")
    rows.append(["no room left, exit code 4, then the same command", 1, f"{survived} of {number}",
                 text])  # fmt: skip
    failed = [name for name, text in faults.done.items() if text.startswith("FAILED")]
    kills = sum(name.startswith(("training/", "saving/")) for name in faults.done)
    hits = sum(
        name.startswith(("training/", "saving/")) and text == "hit"
        for name, text in faults.done.items()
    )
    write_result(
        "07-faults.json",
        title="What a run survives",
        machine=machine,
        command="python -m docs.measure_faults --runs runs/faults --machine '…' "
        f"--kills {faults.kills} --kills-two-ranks {faults.kills_two_ranks}",
        columns=["fault", "ranks", "times", "what came out"],
        rows=rows,
        notes=[
            "60 updates of a model of milliseconds a step, checkpoints every 4, validation every "
            "20, gradient accumulation 2, dropout and LayerDrop on; with NaN 20 updates, without "
            "accumulation. Forks of one process with all imports stand for processes.",
            "Kills inside saves: at random bytes of a checkpoint's files, before the manifest, "
            "before the rename, after it. Damage: one file of each kind, and the manifest.",
            "With NaN the weights are finite, every step sees the samples that it sees "
            "undisturbed, and the last checkpoint is whole.",
            f"{len(failed)} of {len(faults.done)} entries failed"
            + (f": {', '.join(failed)}." if failed else "."),
        ],
        headline=[
            {
                "what": f"Pretraining killed {kills} times with SIGKILL, over training and inside "
                "saves, on 1 and 2 ranks",
                "figure": f"{hits} hit; final weights "
                + ("not all identical" if failed else "bit-identical"),
            }
        ],
    )


def main() -> None:
    """Measure."""
    parser = create_parser(__doc__, "runs")
    parser.add_argument("--kills", type=int, default=50, help="of each kind, on one rank")
    parser.add_argument("--kills-two-ranks", type=int, default=10, help="of each kind")
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    with ForkServer() as forks:
        faults = Faults(options.runs, options.kills, options.kills_two_ranks, forks)
        faults.measure()
    write_results(faults, options.machine)
    raise SystemExit(any(text.startswith("FAILED") for text in faults.done.values()))


if __name__ == "__main__":
    main()
