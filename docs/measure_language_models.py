"""Measures what language models do for recognisers, and writes
`docs/results/19-language-models.json` and its pictures.

    python docs/measure_language_models.py --corpus CORPUS --runs DIRECTORY --machine '…' \
        --models MODEL…

Each model is a recogniser of one language. Language models of characters and of words are trained
on all training transcripts of the language (not only those that the recogniser was finetuned on;
never on dev or test, which `train_lm` sees to). Orders and weights are chosen on the whole dev
split, once for the least WER and once for the least CER; the grid of weights grows until the best
of both is inside. Test is scored once for each choice, and compared to greedy decoding utterance by
utterance. Start the same line again after an interruption. About half an hour on one core.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from measuring import (
    DOCS,
    create_parser,
    format_rate,
    parse_path,
    read_summary,
    run_recipe,
    write_result,
)

from speechvq.decoding.config import TuneLmConfig
from speechvq.decoding.scoring import compare_systems
from speechvq.deploy.evaluation_files import read_metrics, read_results
from speechvq.deploy.recognizer import Recognizer
from speechvq.deploy.tuning import Trial, tune_language_model
from speechvq.reporting.charts import BarSeries, draw_bars

COMMAND = (
    "python docs/measure_language_models.py --corpus corpus --runs runs "
    "--models hindi/model mboshi/model --machine '…'"
)
SOURCES = {"mdw_Latn": "mboshi", "hin_Deva": "noa_hindi"}
"""Language: the source whose dev and test are scored."""
ORDERS = {"character": (3, 4, 5), "word": (2, 3)}
"""Unit of a language model: orders to choose from."""
DECODERS = {
    "greedy": "greedy",
    "beam": "beam, no language model",
    "character": "beam, characters",
    "word": "beam, lexicon and words",
}
METRICS = {"wer": "words", "cer": "characters"}
"""What is tuned for: which counts it is made of."""
COLUMNS = [
    "recogniser", "decoding", "tuned for", "order", "LM weight", "word score", "dev WER / CER %",
    "test WER % (95 %)", "test CER % (95 %)", "WER against greedy", "CER against greedy",
    "characters lost / made up %", "oracle of 10: WER / CER %",
]  # fmt: skip


@dataclass(frozen=True)
class Grid:
    """Weights that are tried together."""

    lm_weights: tuple[float, ...]
    word_scores: tuple[float, ...]


GRIDS = {
    "character": Grid((0.25, 0.4, 0.6, 0.8, 1.1), (0.0,)),
    "word": Grid((0.3, 0.6, 1.0, 1.5, 2.2), (-2.0, 0.0, 2.0, 4.0, 6.0)),
}
"""By unit: where tuning begins."""


@dataclass(frozen=True)
class Choice:
    """A way to decode.

    Attributes:
        decoder: Of `DECODERS`.
        metric: What it is tuned for; "" where nothing is tuned.
        order: Of the language model.
        trial: Weights, and what they reach on dev; None for a beam without language model.
    """

    decoder: str
    metric: str = ""
    order: int = 0
    trial: Trial | None = None

    @property
    def name(self) -> str:
        """Name in paths."""
        return f"{self.decoder}_{self.metric}" if self.metric else self.decoder


@dataclass(frozen=True)
class Subject:
    """One recogniser."""

    model: Path
    language: str
    minutes: int

    @property
    def name(self) -> str:
        """Name in paths."""
        return f"{self.language.partition('_')[0]}_{self.minutes}m"

    @property
    def label(self) -> str:
        """Name in the table."""
        return f"{self.language}, {self.minutes} min"


class Measurement:
    """All runs of the measurement."""

    def __init__(self, corpus: Path, runs: Path) -> None:
        self.corpus = corpus
        self.runs = runs

    def train(self, language: str, unit: str, order: int) -> Path:
        """Train a language model."""
        output = self.runs / "lm" / f"{language}_{unit}{order}"
        if not (output / "summary.json").exists():
            keys = [f"language={language}", f"unit={unit}", f"order={order}"]
            run_recipe("train_lm", self.corpus, output, keys)
        return output

    def tune(self, subject: Subject, unit: str, order: int) -> tuple[Trial, list[Trial]]:
        """Try weights on dev until the best are inside the grid.

        Returns:
            What greedy decoding reaches, and all trials.
        """
        kept = self.runs / "tuned" / f"{subject.name}_{unit}{order}.json"
        if not kept.exists():
            greedy, trials = self._search_grid(subject, unit, order)
            kept.parent.mkdir(parents=True, exist_ok=True)
            document = {"greedy": asdict(greedy), "trials": [asdict(trial) for trial in trials]}
            kept.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        document = json.loads(kept.read_text(encoding="utf-8"))
        return Trial(**document["greedy"]), [Trial(**trial) for trial in document["trials"]]

    def _search_grid(self, subject: Subject, unit: str, order: int) -> tuple[Trial, list[Trial]]:
        model = self.runs / "models" / subject.name  # tuning writes into the model's directory
        shutil.copytree(subject.model, model, dirs_exist_ok=True)
        config = TuneLmConfig(
            corpus=str(self.corpus),
            model=str(model),
            lm=str(self.train(subject.language, unit, order)),
            where=f"source={SOURCES[subject.language]}",
            device="cpu",
        )
        grid, trials = GRIDS[unit], list[Trial]()
        tried = Grid((), ())
        while grid != tried:
            for part in _subtract(grid, tried):
                tuning = tune_language_model(
                    replace(
                        config,
                        lm_weights=list(part.lm_weights),
                        word_scores=list(part.word_scores),
                    )
                )
                trials += tuning.trials
            tried = grid
            for metric in METRICS:
                grid = _widen(grid, choose_best(trials, metric), unit)
        return tuning.greedy, trials

    def choose(self, subject: Subject, unit: str, metric: str) -> Choice:
        """Choose order and weights on dev."""
        choices = [
            Choice(unit, metric, order, choose_best(self.tune(subject, unit, order)[1], metric))
            for order in ORDERS[unit]
        ]
        return min(choices, key=lambda choice: getattr(choice.trial, metric))

    def evaluate(self, subject: Subject, choice: Choice) -> Path:
        """Score on test."""
        keys = [
            f"model={subject.model}", f"language={subject.language}", "split=test",
            f"where=source={SOURCES[subject.language]}",
        ]  # fmt: skip
        if choice.trial is not None and choice.decoder != "greedy":
            lm = self.train(subject.language, choice.decoder, choice.order)
            keys += [
                f"lm={lm}", f"lm_weight={choice.trial.lm_weight}",
                f"word_score={choice.trial.word_score}",
            ]  # fmt: skip
        elif choice.decoder == "beam":
            keys.append("decoder=beam")
        output = self.runs / "test" / f"{subject.name}_{choice.name}"
        if (output / "metrics.json").exists():
            return output
        return run_recipe("evaluate", self.corpus, output, keys)

    def measure(self, subject: Subject) -> dict[Choice, Path]:
        """Do everything for one recogniser; returns evaluations by choice."""
        greedy, _ = self.tune(subject, "word", ORDERS["word"][0])
        choices = [Choice("greedy", trial=greedy), Choice("beam")]
        choices += [
            self.choose(subject, unit, metric)
            for unit, metric in itertools.product(ORDERS, METRICS)
        ]
        return {choice: self.evaluate(subject, choice) for choice in choices}


def choose_best(trials: Sequence[Trial], metric: str) -> Trial:
    """The trial that is best in a metric; the other one decides between equals."""
    other = next(name for name in METRICS if name != metric)
    return min(trials, key=lambda trial: (getattr(trial, metric), getattr(trial, other)))


def _subtract(grid: Grid, tried: Grid) -> Iterator[Grid]:
    """Parts of a grid that hold what an older, smaller one does not."""
    weights = tuple(value for value in grid.lm_weights if value not in tried.lm_weights)
    scores = tuple(value for value in grid.word_scores if value not in tried.word_scores)
    if weights:
        yield Grid(weights, grid.word_scores)
    if scores and tried.lm_weights:
        yield Grid(tried.lm_weights, scores)


def _widen(grid: Grid, best: Trial, unit: str) -> Grid:
    """The grid with values beyond those of the best trial, where it is at an edge."""
    weights, scores = sorted(grid.lm_weights), sorted(grid.word_scores)
    if best.lm_weight == weights[0]:
        weights.insert(0, round(weights[0] / 1.5, 3))
    elif best.lm_weight == weights[-1]:
        weights.append(round(weights[-1] * 1.4, 3))
    if unit == "word" and best.word_score == scores[0]:
        scores.insert(0, scores[0] - 2)
    elif unit == "word" and best.word_score == scores[-1]:
        scores.append(scores[-1] + 2)
    return Grid(tuple(weights), tuple(scores))


def read_subject(model: Path) -> Subject:
    """What a recogniser says of itself."""
    (language,) = Recognizer.load(model, device="cpu").languages
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    return Subject(model, language, round(60 * config["corpus"]["hours"]))


def describe_gain(before: Path, after: Path, metric: str) -> str:
    """Relative change of a rate, and the paired test's p."""
    rates = [read_metrics(path)[metric] for path in (before, after)]
    edits = [read_results(path)[1][METRICS[metric]] for path in (before, after)]
    return f"{100 * (rates[1] / rates[0] - 1):+.1f} % (p = {compare_systems(*edits).p_value:.4f})"


def describe_row(subject: Subject, choice: Choice, path: Path, greedy: Path) -> list[str]:
    """One row of the table."""
    metrics, trial = read_metrics(path), choice.trial
    weights = [
        str(choice.order), f"{trial.lm_weight:g}",
        f"{trial.word_score:g}" if choice.decoder == "word" else "–",
    ] if trial is not None and choice.metric else ["–"] * 3  # fmt: skip
    oracle = metrics.get("oracle")
    return [
        subject.label,
        DECODERS[choice.decoder],
        choice.metric.upper() or "–",
        *weights,
        "–" if trial is None else f"{100 * trial.wer:.1f} / {100 * trial.cer:.1f}",
        *(format_rate(metrics, metric) for metric in METRICS),
        *("" if path == greedy else describe_gain(greedy, path, metric) for metric in METRICS),
        _describe_kinds(metrics["characters"]),
        f"{100 * oracle['wer']:.1f} / {100 * oracle['cer']:.1f}" if oracle else "",
    ]


def _describe_kinds(counts: Mapping[str, int]) -> str:
    """Deletions and insertions in percent of the reference."""
    length = counts["reference_length"]
    return " / ".join(f"{100 * counts[kind] / length:.1f}" for kind in ("deletions", "insertions"))


def describe_text(measurement: Measurement, language: str) -> str:
    """What the language models are made of, and how well they know dev."""
    parts = []
    for unit, orders in ORDERS.items():
        summaries = [read_summary(measurement.train(language, unit, order)) for order in orders]
        perplexities = " / ".join(f"{one['dev']['perplexity']:.1f}" for one in summaries)
        parts.append(
            f"perplexity on dev per {unit}, order {' / '.join(map(str, orders))}: {perplexities}"
        )
    left_out = sum(summaries[0]["num_left_out"].values())
    return (
        f"{language}: {summaries[0]['num_sentences']:,} sentences, {summaries[0]['num_words']:,} "
        f"words, {summaries[0]['num_lexicon_words']:,} different ({left_out} left out, for they "
        f"stand in dev or test); {'; '.join(parts)}; words of dev that the lexicon lacks: "
        f"{100 * summaries[0]['dev']['oov_rate']:.1f} %."
    )


def write_pictures(results: Mapping[Subject, Mapping[Choice, Path]]) -> None:
    """Draw each rate by decoder, as tuned for it."""
    for metric in METRICS:
        series = []
        for decoder, label in DECODERS.items():
            metrics = [
                read_metrics(path)
                for evaluations in results.values()
                for choice, path in evaluations.items()
                if choice.decoder == decoder and choice.metric in ("", metric)
            ]
            series.append(
                BarSeries(
                    name=label,
                    values=[100 * one[metric] for one in metrics],
                    low=[100 * one[f"{metric}_interval"][0] for one in metrics],
                    high=[100 * one[f"{metric}_interval"][1] for one in metrics],
                )
            )
        picture = draw_bars(
            [subject.label for subject in results],
            series,
            y_label=f"{metric.upper()} on test, %",
            size=(6.4, 3.6),
        )
        (DOCS / f"language-models-{metric}.svg").write_text(picture, encoding="utf-8")


def write(
    measurement: Measurement, results: Mapping[Subject, Mapping[Choice, Path]], machine: str
) -> None:
    """Write the table and the pictures."""
    rows, headline = [], []
    for subject, evaluations in results.items():
        paths: dict[str, Any] = {choice.name: path for choice, path in evaluations.items()}
        rows += [
            describe_row(subject, choice, path, paths["greedy"])
            for choice, path in evaluations.items()
        ]
        rates = (
            100 * read_metrics(paths[name])["wer"]
            for name in ("greedy", "character_wer", "word_wer")
        )
        headline.append(
            {
                "what": f"{subject.label} of transcripts: WER on test greedy / with a language "
                "model of characters / with lexicon and language model of words",
                "figure": " / ".join(f"{rate:.1f} %" for rate in rates),
            }
        )
    write_pictures(results)
    write_result(
        "19-language-models.json",
        title="Language models: error rates of recognisers without and with them",
        machine=machine,
        command=COMMAND,
        columns=COLUMNS,
        rows=rows,
        notes=[
            "Minutes are those of transcribed speech that the recogniser was finetuned on. The "
            "language models saw the text of all training transcripts, which is more; never dev or "
            "test. Order and weights are the best on the whole dev split for the rate under "
            "`tuned for`; none is at the edge of what was tried. Beams of 64.",
            "Against greedy: relative, with p of a paired bootstrap over utterances. Oracle: had "
            "the best of the ten texts always been chosen. A weight that is best for words makes "
            "the text shorter: more characters are lost, and hardly one is made up. IndicWav2Vec "
            "reports 28 % less WER by its language models, on recognisers far better than these.",
            *(describe_text(measurement, language)
              for language in dict.fromkeys(subject.language for subject in results)),
            *(f"![{metric.upper()} by decoder](language-models-{metric}.svg)"
              for metric in METRICS),
        ],
        headline=headline,
    )  # fmt: skip


def main() -> None:
    """Measure."""
    parser = create_parser(__doc__, "corpus", "runs")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--models", type=parse_path, nargs="+", required=True, help="recognisers of one language"
    )
    options = parser.parse_args()
    measurement = Measurement(options.corpus, options.runs)
    subjects = [read_subject(model) for model in options.models]
    results = {subject: measurement.measure(subject) for subject in subjects}
    write(measurement, results, options.machine)


if __name__ == "__main__":
    main()
