"""Measures what pretraining gains on real speech, and writes `docs/results/05-real-speech.json`.

    python docs/measure_real_speech.py --corpus CORPUS --runs DIRECTORY --machine 'what it ran on'

One encoder is pretrained on everything but the dev and test splits. Two languages are finetuned
from it and, with the same updates, from scratch; from scratch chooses its learning rate on dev, and
runs once more with so many more updates that it has had pretraining's time, too. All are scored on
test. Runs are resumable: start the same line again after an interruption. Two run at a time, with
one thread each; about two hours on two cores.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from measuring import (
    DOCS,
    PRETRAINING_COLUMNS,
    create_parser,
    describe_difference,
    describe_pretraining,
    format_rate,
    read_summary,
    run_recipe,
    write_reference_curve,
    write_result,
)

from speechvq.deploy.evaluation_files import read_metrics
from speechvq.reporting.charts import Series, draw_lines

LANGUAGES = {
    "hin_Deva": ("noa_hindi", []),
    "mdw_Latn": ("mboshi", ["max_train_seconds=3600"]),
}
"""Language: its source, and what finetuning is told beyond it."""
PRETRAIN = [
    "quantizer=gumbel_tiny", "precision=fp32", "validate_every=400", "checkpoint_every=400",
    "max_dev_seconds=300",
]  # fmt: skip
FINETUNE = ["precision=fp32", "validate_every=250", "checkpoint_every=250", "log_every=50"]
STEPS = 1500
SCRATCH_RATES = ("1e-3", "2e-3")
PRETRAINED_RATE = "1e-3"
COMMAND = "python docs/measure_real_speech.py --corpus corpus --runs runs --machine '…'"
SYSTEMS = {
    "scratch": "from scratch",
    "scratch_long": "from scratch, with pretraining's time added",
    "pretrained": "pretrained",
}


class Experiment:
    """All runs of the measurement.

    Args:
        corpus: What `prepare` made of the five sources.
        runs: Where the runs lie.
        machine: What it runs on, for the results.
    """

    def __init__(self, corpus: Path, runs: Path, machine: str) -> None:
        self.corpus = corpus
        self.runs = runs
        self.machine = machine

    def run(self, recipe: str, name: str, *keys: str) -> Path:
        """Run a recipe, or go on with it; returns its directory."""
        return run_recipe(recipe, self.corpus, self.runs / name, keys)

    def finetune(self, language: str, name: str, *keys: str) -> Path:
        """Finetune on a language's own source."""
        source, more = LANGUAGES[language]
        return self.run(
            "finetune", name, f"where=source={source}", f"language={language}", *FINETUNE, *more,
            *keys,
        )  # fmt: skip

    def pretrain(self) -> Path:
        """Pretrain `tiny`."""
        return self.run("pretrain", "pretrained", *PRETRAIN)

    def choose_scratch(self, language: str) -> str:
        """Train from scratch with each rate; returns the rate that is best on dev."""
        best = {
            rate: read_summary(
                self.finetune(
                    language, f"{language}_scratch_{rate}", f"steps={STEPS}", f"optimizer.lr={rate}"
                )
            )["best"]["cer"]
            for rate in SCRATCH_RATES
        }
        return min(best, key=lambda rate: best[rate])

    def finetune_pretrained(self, language: str) -> None:
        """Finetune from the pretrained encoder."""
        self.finetune(
            language, f"{language}_pretrained", f"steps={STEPS}",
            f"optimizer.lr={PRETRAINED_RATE}", f"model={self.runs / 'pretrained' / 'model'}",
        )  # fmt: skip

    def train_long(self, language: str, rate: str) -> None:
        """Train from scratch for as long as pretraining and finetuning took together."""
        short = read_summary(self.runs / f"{language}_scratch_{rate}")["seconds"]
        long = read_summary(self.runs / "pretrained")["seconds"]
        steps = round(STEPS * (short + long) / short / 250) * 250
        self.finetune(
            language, f"{language}_scratch_long", f"steps={steps}", f"optimizer.lr={rate}"
        )

    def evaluate(self, language: str, system: str, name: str) -> Path:
        """Score a recogniser on test."""
        source, _ = LANGUAGES[language]
        return self.run(
            "evaluate", f"test/{language}_{system}", f"model={self.runs / name / 'model'}",
            f"language={language}", "split=test", f"where=source={source}",
        )  # fmt: skip


def measure(experiment: Experiment) -> None:
    """Do everything, two runs at a time."""
    with ThreadPoolExecutor(2) as pool:
        pretraining = pool.submit(experiment.pretrain)
        rates = dict(zip(LANGUAGES, pool.map(experiment.choose_scratch, LANGUAGES), strict=True))
        pretraining.result()
        list(pool.map(experiment.finetune_pretrained, LANGUAGES))
        list(pool.map(experiment.train_long, LANGUAGES, [rates[code] for code in LANGUAGES]))
    write_results(experiment, rates)


def write_results(experiment: Experiment, rates: dict[str, str]) -> None:
    """Score all recognisers and write the JSON and the picture."""
    rows, notes, headline = [], [], []
    for language in LANGUAGES:
        names = {
            "scratch": f"{language}_scratch_{rates[language]}",
            "scratch_long": f"{language}_scratch_long",
            "pretrained": f"{language}_pretrained",
        }
        scores = {
            system: experiment.evaluate(language, system, name) for system, name in names.items()
        }
        for system, name in names.items():
            summary, metrics = read_summary(experiment.runs / name), read_metrics(scores[system])
            rows.append(
                [
                    language, SYSTEMS[system], summary["steps"],
                    f"{summary['seconds'] / 60:.0f} min", f"{100 * summary['best']['cer']:.1f}",
                    format_rate(metrics, "cer"), format_rate(metrics, "wer"),
                ]
            )  # fmt: skip
        for system in ("scratch", "scratch_long"):
            difference = describe_difference(scores[system], scores["pretrained"])
            notes.append(f"{language}: pretrained less {SYSTEMS[system]}: {difference}.")
        cer = {system: 100 * read_metrics(path)["cer"] for system, path in scores.items()}
        headline.append(
            {
                "what": f"{language}, real speech: CER on test after pretraining, from scratch, "
                "from scratch with pretraining's time added",
                "figure": " / ".join(
                    f"{cer[system]:.1f} %" for system in ("pretrained", "scratch", "scratch_long")
                ),
            }
        )
    rates_text = ", ".join(f"{code} {rate}" for code, rate in rates.items())
    notes.append(
        f"Rates that from scratch chose on dev, of {' and '.join(SCRATCH_RATES)}: {rates_text}. "
        f"Finetuning had {PRETRAINED_RATE} and no choice. Greedy decoding, one seed."
    )
    write_result(
        "05-real-speech.json",
        title="Real speech: pretraining against none",
        machine=experiment.machine,
        command=COMMAND,
        columns=["language", "system", "updates", "time", "dev CER %", "test CER % (95 %)",
                 "test WER % (95 %)"],
        rows=rows,
        notes=notes,
        headline=headline,
    )  # fmt: skip
    write_pretraining(experiment.runs / "pretrained", experiment.machine)


def write_pretraining(run: Path, machine: str) -> None:
    """Write what pretraining itself reached, in total and per language, and its curves."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    train = [line for line in lines if line["split"] == "train"]
    dev = [line for line in lines if line["split"] == "dev"]
    last: dict[str, Any] = {}
    for line in train:
        last.update(line["languages"])
    lines = {"all, training": train[-1], "all, dev": dev[-1]}
    lines |= {code: last[code] for code in sorted(last)}
    rows = [[name, *describe_pretraining(line)] for name, line in lines.items()]
    summary = read_summary(run)
    write_result(
        "06-real-speech-pretraining.json",
        title="Real speech: what pretraining itself reached",
        machine=machine,
        command=COMMAND,
        columns=["language", *PRETRAINING_COLUMNS],
        rows=rows,
        notes=[
            f"{summary['steps']} updates, {train[-1]['audio_hours']:.1f} h of audio seen in "
            f"{summary['seconds'] / 60:.0f} min on one core while the other did other runs. Each "
            "line is the last interval of 25 updates in which the language was heard; with few "
            "frames the perplexity is bounded by their number.",
            "![curves of pretraining](pretraining-curves.svg)",
        ],
    )  # fmt: skip
    write_reference_curve(
        "14-reference-curve.json",
        title="Real speech: a healthy pretraining, update by update (Gumbel)",
        run=run,
        machine=machine,
        command=COMMAND,
    )
    curves = [
        Series(
            name=code,
            x=[line["step"] for line in train if code in line["languages"]],
            y=[line["languages"][code]["contrastive_loss"] for line in train
               if code in line["languages"]],
        )
        for code in LANGUAGES
    ]  # fmt: skip
    curves += [
        Series(
            name=f"all, {split}",
            x=[line["step"] for line in part],
            y=[line["contrastive_loss"] for line in part],
        )
        for split, part in (("training", train), ("dev", dev))
    ]
    picture = draw_lines(curves, x_label="update", y_label="contrastive loss, nats")
    (DOCS / "pretraining-curves.svg").write_text(picture, encoding="utf-8")


def main() -> None:
    """Measure."""
    options = create_parser(__doc__, "corpus", "runs").parse_args()
    measure(Experiment(options.corpus, options.runs, options.machine))


if __name__ == "__main__":
    main()
