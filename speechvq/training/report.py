"""The page of a training run: curves of what `metrics.jsonl` holds, and a table per language."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from speechvq.reporting.cells import Cell
from speechvq.reporting.charts import Series, draw_lines
from speechvq.reporting.page import Metric, Page
from speechvq.training.code_report import add_bottlenecks
from speechvq.training.metrics import read_metrics
from speechvq.training.recorder import format_duration

Line = dict[str, Any]

MANY_NOTES = 4
"""More are folded away."""

TASK_LOSSES = ("contrastive_loss", "prediction_loss")
"""What the loss of pretraining's task may be called."""

_CURVES = (
    ("contrastive_loss", "Contrastive loss", "nats per masked frame"),
    ("prediction_loss", "Prediction loss, all codebooks", "nats per masked frame"),
    ("accuracy", "Accuracy: targets found among distractors, or codes named", "share"),
    ("equal_share", "Distractors equal to the target (collapse shows here first)", "share"),
    ("joint_perplexity", "Perplexity of the tuples of codes", "perplexity"),
    ("vq_loss", "Loss of the codebook", "mean square"),
    ("diversity_loss", "Diversity loss", "share of unused codebook"),
    ("loss", "Loss", "nats"),
    ("cer", "Character error rate on dev", "%"),
    ("wer", "Word error rate on dev", "%"),
    ("blank_share", "Frames that say blank", "share"),
    ("code_error", "Error of the bottlenecks, mean over codebooks", "square distance"),
    ("code_usage", "Codes of the bottlenecks that were chosen", "share"),
    ("code_perplexity", "Perplexity of the bottlenecks' codes, mean over codebooks", "perplexity"),
    ("num_active", "Codes that stand for a frame", "k"),
    ("grad_norm", "Gradient norm before clipping", "norm"),
    ("temperature", "Temperature of the Gumbel softmax", "temperature"),
    ("lr", "Learning rate", "rate"),
)
"""Metrics that get a curve: name in the file, title, unit."""


_CODEBOOK_CURVES = (
    ("perplexity", "Perplexity of the chosen codes, per codebook"),
    ("dead_codes", "Dead entries: chosen by no frame of a window of 20 frames an entry"),
)
"""Metrics with one value a codebook that get a curve."""


def write_run_report(directory: Path, *, title: str) -> Path:
    """Write `report.html` of a run.

    Args:
        directory: The run, with `metrics.jsonl`, `config.json` and `summary.json`.
        title: Heading of the page.

    Returns:
        The page's path.
    """
    lines = read_metrics(directory / "metrics.jsonl")
    summary = _read_json(directory / "summary.json")
    config = _read_json(directory / "config.json")
    page = Page(title, f"{config.get('output', directory)}")
    _add_headline(page, lines, summary)
    _add_notes(page, summary.get("notes", []))
    if summary.get("blank"):
        page.add_paragraph(summary["blank"], tone="warning")
    _add_curves(page, lines)
    add_bottlenecks(page, lines)
    _add_languages(page, lines, summary)
    _add_sampling(page, summary)
    _add_forgetting(page, summary)
    page.add_heading("Configuration")
    with page.section("config.json"):
        page.add_preformatted(json.dumps(config, indent=2, ensure_ascii=False))
    path = directory / "report.html"
    page.write(path)
    return path


def _add_notes(page: Page, notes: Sequence[str]) -> None:
    if not notes:
        return
    with page.section(
        f"What was noticed before the first update ({len(notes)})", open=len(notes) <= MANY_NOTES
    ):
        for note in notes:
            page.add_paragraph(note, tone="note")


def _read_json(path: Path) -> Line:
    content: Line = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return content


def _add_headline(page: Page, lines: list[Line], summary: Line) -> None:
    metrics = [
        Metric(label="Updates", value=summary.get("steps", 0)),
        Metric(label="Audio in the corpus", value=f"{summary['corpus']['hours']:.2f} h"),
    ]
    train = [line for line in lines if line["split"] == "train"]
    if train and train[-1].get("audio_hours") is not None:
        detail = (
            f"in {format_duration(train[-1]['total_time'])}" if "total_time" in train[-1] else ""
        )
        metrics.append(
            Metric(label="Audio seen", value=f"{train[-1]['audio_hours']:.1f} h", detail=detail)
        )
    best = summary.get("best")
    if best:
        metrics.append(
            Metric(
                label="Best CER on dev",
                value=f"{100 * best['cer']:.1f} %",
                detail=f"at step {best['step']}",
            )
        )
    elif train and "accuracy" in train[-1]:
        last = train[-1]
        metrics.append(Metric(label="Accuracy", value=f"{100 * last['accuracy']:.1f} %"))
        metrics.append(
            Metric(label="Perplexity", value=" / ".join(f"{p:.0f}" for p in last["perplexity"]))
        )
    page.add_headline(metrics)


def _add_curves(page: Page, lines: list[Line]) -> None:
    page.add_heading("Curves")
    with page.grid():
        for name, heading, unit in _CURVES:
            series = _collect(lines, name, scale=100 if unit == "%" else 1)
            if series:
                picture = draw_lines(series, x_label="update", y_label=unit)
                with page.card():
                    page.add_figure(picture, caption=heading)
        for name, caption in _CODEBOOK_CURVES:
            series = _collect_codebooks(lines, name)
            if series:
                picture = draw_lines(series, x_label="update", y_label=name.replace("_", " "))
                with page.card():
                    page.add_figure(picture, caption=caption)
    _add_language_rates(page, lines)
    _add_language_curves(page, lines)


def _add_language_rates(page: Page, lines: list[Line]) -> None:
    """Add the error rates on dev of each language that has a head."""
    dev = [line for line in lines if line["split"] == "dev" and "cer" in line]
    codes = sorted({code for line in dev for code in line.get("languages", {})})
    if not codes:
        return
    series = [
        Series(
            name=code,
            x=[line["step"] for line in dev if code in line["languages"]],
            y=[100 * line["languages"][code]["cer"] for line in dev if code in line["languages"]],
        )
        for code in codes
    ]
    page.add_figure(
        draw_lines(series, x_label="update", y_label="CER on dev in %"),
        caption="Character error rate on dev per language",
    )
    last = dev[-1]["languages"]
    page.add_table(
        ["language", "CER on dev", "WER on dev"],
        [
            [
                code,
                *(
                    Cell(value=rate, text=f"{100 * rate:.1f} %")
                    for rate in (one["cer"], one["wer"])
                ),
            ]
            for code in codes
            if (one := last.get(code)) is not None
        ],
        caption="The last validation, greedy decoding.",
    )


def _collect(lines: list[Line], name: str, *, scale: float = 1) -> list[Series]:
    """Make one curve a split of one value, multiplied."""
    series = []
    for split in sorted({line["split"] for line in lines}, reverse=True):
        points = [
            (line["step"], scale * value)
            for line in lines
            if line["split"] == split and isinstance(value := line.get(name), (int, float))
        ]
        if points:
            x, y = zip(*points, strict=True)
            series.append(Series(name=split, x=x, y=y))
    return series


def _collect_codebooks(lines: list[Line], name: str) -> list[Series]:
    """Make one curve a split and codebook."""
    series = []
    for split in ("train", "dev"):
        chosen = [line for line in lines if line["split"] == split and line.get(name)]
        if chosen:
            for group in range(len(chosen[0][name])):
                y = [line[name][group] for line in chosen]
                series.append(
                    Series(
                        name=f"{split}, codebook {group + 1}",
                        x=[line["step"] for line in chosen],
                        y=y,
                    )
                )
    return series


def _add_language_curves(page: Page, lines: list[Line]) -> None:
    """Add what matters per language over the run."""
    train = [line for line in lines if line["split"] == "train" and line.get("languages")]
    if not train:
        return
    codes = sorted({code for line in train for code in line["languages"]})
    getters: Sequence[tuple[str, Callable[[Line], float]]] = (
        ("Loss of the task per language", get_task_loss),
        ("Accuracy per language", lambda values: values["accuracy"]),
        ("Equal share per language", lambda values: values["equal_share"]),
        (
            "Perplexity per language, mean over codebooks",
            lambda values: sum(values["perplexity"]) / len(values["perplexity"]),
        ),
    )
    with page.section("Curves per language"):
        for heading, get in getters:
            series = [
                Series(
                    name=code,
                    x=[line["step"] for line in train if code in line["languages"]],
                    y=[get(line["languages"][code]) for line in train if code in line["languages"]],
                )
                for code in codes
            ]
            page.add_figure(
                draw_lines(series, x_label="update", y_label=heading.partition(" per ")[0].lower()),
                caption=heading,
            )


def get_task_loss(values: Line) -> float:
    """Return the loss of a line's task, whatever it is called; NaN where it was not a number."""
    for name in TASK_LOSSES:
        if name in values:
            return math.nan if values[name] is None else float(values[name])
    raise KeyError(f"one of {TASK_LOSSES} in {sorted(values)}")


def _add_languages(page: Page, lines: list[Line], summary: Line) -> None:
    """Add what each language had and reached in the last interval."""
    page.add_heading("Languages")
    corpus = summary["corpus"]["languages"]
    last: Line = {}
    for line in lines:
        if line["split"] == "train":
            last.update(line.get("languages", {}))
    if not last:
        rows = [[code, v["hours"], v["utterances"]] for code, v in corpus.items()]
        page.add_table(["language", "hours", "utterances"], rows)
        return
    columns = ["language", "hours", "utterances", "loss of the task", "accuracy", "equal share",
               "perplexity", "used codes"]  # fmt: skip
    rows = []
    for code, values in corpus.items():
        reached = last.get(code)
        if reached is None:
            continue
        rows.append(
            [
                code, values["hours"], values["utterances"], get_task_loss(reached),
                reached["accuracy"], reached["equal_share"],
                " / ".join(f"{p:.0f}" for p in reached["perplexity"]),
                " / ".join(str(int(n)) for n in reached["used_codes"]),
            ]
        )  # fmt: skip
    page.add_table(
        columns, rows, caption="The last interval in which the language was seen, training data."
    )


def _add_sampling(page: Page, summary: Line) -> None:
    """Add what the run was to hear of each language, and what it heard."""
    sampling = summary.get("sampling")
    if not sampling:
        return
    page.add_heading("Sampling")
    rows = [
        [
            code, values["hours"], f"{100 * values['share']:.1f} %",
            f"{100 * values['planned_share']:.1f} %", f"{100 * values['heard_share']:.1f} %",
            values["heard_hours"], values["passes"],
        ]
        for code, values in sampling.items()
    ]  # fmt: skip
    page.add_table(
        ["language", "hours", "share of the corpus", "share planned", "share heard", "hours heard",
         "passes"],
        rows,
        caption="Planned: p ∝ hours^`batch.language_alpha`. Heard: after cropping, all updates.",
    )  # fmt: skip


def _add_forgetting(page: Page, summary: Line) -> None:
    """Add the losses of each language before the first update and after the last."""
    forgetting = summary.get("forgetting")
    if not forgetting:
        return
    page.add_heading("What was learned and what was forgotten")
    rows = [
        [split, code, before, after, f"{after - before:+.3f}"]
        for split, languages in forgetting.items()
        for code, (before, after) in languages.items()
    ]
    page.add_table(
        ["split", "language", "loss before", "loss after", "change"],
        rows,
        caption="Loss of the task on dev, nats per masked frame; `old` is dev of `old_corpus`.",
    )
