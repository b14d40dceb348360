"""Measures whether pretraining pays, and writes `docs/results/12-curve.json` and its pictures.

    python docs/measure_curve.py --corpus CORPUS --runs DIRECTORY --machine '…'

`tiny` is pretrained by several recipes for several numbers of updates, then finetuned alike on ten
minutes and on an hour of transcripts of two languages; from scratch chooses its learning rate on
dev. All are scored on test, and compared to from scratch utterance by utterance. Runs are
resumable: start the same line again after an interruption. Two run at a time, with one thread each;
about three hours on two cores.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from measuring import (
    DOCS,
    create_parser,
    describe_difference,
    format_rate,
    read_summary,
    run_recipe,
    write_reference_curve,
    write_result,
)

from speechvq.deploy.evaluation_files import read_metrics
from speechvq.reporting.charts import Series, draw_lines

LANGUAGES = {"mdw_Latn": "mboshi", "hin_Deva": "noa_hindi"}
"""Language: its source."""
COMMAND = "python docs/measure_curve.py --corpus corpus --runs runs --machine '…'"
PRETRAIN = ["precision=fp32", "max_dev_seconds=300", "tensorboard=false"]
FINETUNE = [
    "precision=fp32", "validate_every=250", "checkpoint_every=250", "log_every=50",
    "tensorboard=false",
]  # fmt: skip
MINUTES = (10, 60)


@dataclass(frozen=True)
class Recipe:
    """A way to pretrain.

    Attributes:
        label: Name in the table.
        keys: What pretraining is told.
        updates: Numbers of updates to try.
        minutes: Minutes of transcripts to finetune on.
    """

    label: str
    keys: tuple[str, ...]
    updates: tuple[int, ...]
    minutes: tuple[int, ...] = MINUTES


RECIPES = {
    "plain": Recipe(
        "plain",
        ("quantizer=gumbel_tiny", "architecture.encoder.conv_kernel=0", "quantizer_init=random"),
        (500,),
    ),
    "gumbel": Recipe("`tiny`, Gumbel", ("quantizer=gumbel_tiny",), (500, 2400)),
    "simvq": Recipe("`tiny`", (), (500, 2400)),
    "small": Recipe("`tiny`, batches of 15 s", ("batch.batch_seconds=15",), (4800,), (10,)),
}
"""By name in paths."""
STEPS = 500
SCRATCH_RATES = ("1e-3", "2e-3")
"""Learning rates that from scratch chooses from."""


@dataclass(frozen=True)
class Point:
    """One recogniser: pretrained by a recipe for some updates, or from scratch."""

    language: str
    minutes: int
    recipe: str
    updates: int

    @property
    def name(self) -> str:
        """Name in paths."""
        recipe = f"{self.recipe}{self.updates}" if self.updates else "scratch"
        return f"{self.language.partition('_')[0]}_{self.minutes}m_{recipe}"


class Curve:
    """All runs of the measurement."""

    def __init__(self, corpus: Path, runs: Path, machine: str) -> None:
        self.corpus = corpus
        self.runs = runs
        self.machine = machine

    def pretrain(self, recipe: str, updates: int) -> Path:
        """Pretrain by a recipe; returns the model."""
        return (
            run_recipe(
                "pretrain", self.corpus, self.runs / "c" / f"{recipe}{updates}",
                [*PRETRAIN, f"steps={updates}", *RECIPES[recipe].keys],
            )
            / "model"
        )  # fmt: skip

    def finetune(self, point: Point, *keys: str, suffix: str = "") -> Path:
        """Finetune, or train from scratch."""
        return run_recipe(
            "finetune", self.corpus, self.runs / "f" / f"{point.name}{suffix}",
            [f"where=source={LANGUAGES[point.language]}", f"language={point.language}", *FINETUNE,
             f"max_train_seconds={60 * point.minutes}", *keys],
        )  # fmt: skip

    def train(self, point: Point) -> Path:
        """Train one point as it is trained best; returns its run."""
        if point.updates:
            model = self.pretrain(point.recipe, point.updates)
            return self.finetune(point, f"steps={STEPS}", f"model={model}")
        runs = [
            self.finetune(point, f"steps={STEPS}", f"optimizer.lr={rate}", suffix=f"_{rate}")
            for rate in SCRATCH_RATES
        ]
        return min(runs, key=lambda directory: read_summary(directory)["best"]["cer"])

    def evaluate(self, point: Point, trained: Path) -> Path:
        """Score a recogniser on test."""
        return run_recipe(
            "evaluate", self.corpus, self.runs / "test" / trained.name,
            [f"model={trained / 'model'}", f"language={point.language}", "split=test",
             f"where=source={LANGUAGES[point.language]}"],
        )  # fmt: skip

    def read_hours(self, point: Point) -> str:
        """Hours of audio that pretraining heard."""
        if not point.updates:
            return "0"
        summary = read_summary(self.runs / "c" / f"{point.recipe}{point.updates}")
        return f"{summary['train']['audio_hours']:.1f}"

    def measure(self) -> None:
        """Do everything, two runs at a time, and write it down."""
        points = [
            Point(language, minutes, recipe, updates)
            for minutes in MINUTES
            for language in LANGUAGES
            for recipe, updates in [
                ("", 0),
                *((name, number) for name, plan in RECIPES.items()
                  for number in plan.updates if minutes in plan.minutes),
            ]
        ]  # fmt: skip
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda job: self.pretrain(*job), _list_pretrainings()))
            trained = dict(zip(points, pool.map(self.train, points), strict=True))
            scores = dict(
                zip(points, pool.map(self.evaluate, points, trained.values()), strict=True)
            )
        self.write(trained, scores)

    def write(self, trained: dict[Point, Path], scores: dict[Point, Path]) -> None:
        """Write the table and the picture."""
        rows, differences = [], []
        for point, path in scores.items():
            scratch = scores[Point(point.language, point.minutes, "", 0)]
            cer, before = (read_metrics(where)["cer"] for where in (path, scratch))
            if point.updates:
                label, gain = RECIPES[point.recipe].label, f"{100 * (cer / before - 1):+.0f} %"
                difference = describe_difference(scratch, path)
                differences.append(f"{point.name}: {difference}")
            else:
                label, gain = "from scratch", ""
            rows.append(
                [
                    point.language, f"{point.minutes} min", label, point.updates,
                    self.read_hours(point),
                    f"{100 * read_summary(trained[point])['best']['cer']:.1f}",
                    format_rate(read_metrics(path), "cer"), gain,
                ]
            )  # fmt: skip
        chosen = ", ".join(trained[point].name for point in trained if not point.updates)
        write_result(
            "12-curve.json",
            title="Does pretraining pay: error rates against updates of pretraining",
            machine=self.machine,
            command=COMMAND,
            columns=["language", "transcripts", "recipe", "updates", "hours heard", "dev CER %",
                     "test CER % (95 %)", "against scratch"],
            rows=rows,
            notes=[
                f"Finetuning is {STEPS} updates of 32 s for all, of which from scratch chose its "
                f"rate on dev ({chosen}). One seed; greedy decoding.",
                "`plain`: no convolution in the encoder's layers, random initial codebooks.",
                "Paired by utterance, pretrained less from scratch: " + "; ".join(differences)
                + ".",
                *(f"![error rate against hours of pretraining, {minutes} min](curve-{minutes}.svg)"
                  for minutes in MINUTES),
            ],
            headline=list(_list_headlines(scores)),
        )  # fmt: skip
        write_reference_curve(
            "17-reference-curve-simvq.json",
            title="Real speech: a healthy pretraining, update by update (SimVQ, `tiny`)",
            run=self.runs / "c" / "simvq2400",
            machine=self.machine,
            command=COMMAND,
        )
        for minutes in MINUTES:
            picture = draw_lines(
                list(_list_series(self, scores, minutes)),
                x_label="hours heard in pretraining",
                y_label=f"CER on test, %, {minutes} min of transcripts",
            )
            (DOCS / f"curve-{minutes}.svg").write_text(picture, encoding="utf-8")


def _list_headlines(scores: dict[Point, Path]) -> Iterator[dict[str, str]]:
    """Lines of the README: `tiny` at its longest against from scratch."""
    updates = RECIPES["simvq"].updates[-1]
    for language in LANGUAGES:
        for minutes in MINUTES:
            points = (Point(language, minutes, "", 0), Point(language, minutes, "simvq", updates))
            rates = (100 * read_metrics(scores[point])["cer"] for point in points)
            yield {
                "what": f"{language}, {minutes} min of transcripts: CER on test from scratch / "
                f"after {updates:,} updates of pretraining `tiny` on one core",
                "figure": " / ".join(f"{rate:.1f} %" for rate in rates),
            }


def _list_pretrainings() -> list[tuple[str, int]]:
    """Recipes and updates, the longest first."""
    jobs = [(name, updates) for name, recipe in RECIPES.items() for updates in recipe.updates]
    return sorted(jobs, key=lambda job: -job[1])


def _list_series(curve: Curve, scores: dict[Point, Path], minutes: int) -> Iterator[Series]:
    """CER of each language and recipe, from no update on."""
    for language in LANGUAGES:
        for name, recipe in RECIPES.items():
            if minutes not in recipe.minutes:
                continue
            points = [Point(language, minutes, "", 0)]
            points += [Point(language, minutes, name, updates) for updates in recipe.updates]
            metrics = [read_metrics(scores[point]) for point in points]
            yield Series(
                name=f"{language}, {recipe.label.replace('`', '')}",
                x=[float(curve.read_hours(point)) for point in points],
                y=[100 * values["cer"] for values in metrics],
                low=[100 * values["cer_interval"][0] for values in metrics],
                high=[100 * values["cer_interval"][1] for values in metrics],
            )


def main() -> None:
    """Measure."""
    options = create_parser(__doc__, "corpus", "runs").parse_args()
    Curve(options.corpus, options.runs, options.machine).measure()


if __name__ == "__main__":
    main()
