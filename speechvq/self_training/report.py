"""The page of a self-training run: what the rounds brought, and what they learned from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from speechvq import __version__
from speechvq.reporting.cells import Cell, Value
from speechvq.reporting.charts import BarSeries, Series, draw_bars, draw_lines
from speechvq.reporting.page import Metric, Page
from speechvq.self_training.config import SelfTrainConfig
from speechvq.self_training.results import RoundResult
from speechvq.training.run_directory import to_plain


def write_report(
    directory: Path,
    config: SelfTrainConfig,
    results: Sequence[RoundResult],
    summary: Mapping[str, Any],
) -> None:
    """Write `report.html` of a run.

    Args:
        directory: The run.
        config: Its configuration.
        results: Its rounds, at least the first.
        summary: Its `summary.json`.
    """
    page = Page(
        f"Self-training {config.code}",
        f"{summary['transcribed']['hours'] * 60:.1f} min transcribed, "
        f"{summary['untranscribed']['hours'] * 60:.0f} min without text · {directory}",
        footer=f"speechvq {__version__}",
    )
    _add_headline(page, results, summary)
    page.add_paragraph(str(summary["stopped"]))
    if len(results) > 1 and summary["best"]["round"] == 0:
        page.add_paragraph(
            "No round was better than the recogniser that it began with, which is the one in "
            "model/. Transcribe more, or keep fewer labels (keep_share).",
            tone="warning",
        )
    for note in summary["notes"]:
        page.add_paragraph(note, tone="note")
    page.add_heading("Error rate by round")
    with page.grid():
        page.add_figure(
            draw_lines(
                [
                    Series(
                        name="CER on dev",
                        x=[one.number for one in results],
                        y=[100 * one.cer for one in results],
                        low=[100 * _interval(one)[0] for one in results],
                        high=[100 * _interval(one)[1] for one in results],
                    )
                ],
                x_label="round",
                y_label="CER on dev, %",
                whole_x=True,
            ),
            caption="Character error rate on dev with its 95 % interval; round 0 is the recogniser "
            "that the first labels came from.",
        )
        if len(results) > 1:
            page.add_figure(
                draw_bars(
                    [str(one.number) for one in results[1:]],
                    [
                        BarSeries(
                            name="learned from",
                            values=[one.kept_seconds / 60 for one in results[1:]],
                        ),
                        BarSeries(
                            name="left out",
                            values=[(one.seconds - one.kept_seconds) / 60 for one in results[1:]],
                        ),
                    ],
                    x_label="round",
                    y_label="minutes without text",
                    size=(6.4, 3.4),
                ),
                caption="How much of the untranscribed audio each round learned from.",
            )
    _add_rounds(page, results)
    _add_reasons(page, results)
    page.add_heading("Configuration")
    criteria = summary["criteria"].items()
    page.add_facts({key: f"{value:.3g}" for key, value in criteria if value is not None})
    with page.section("config.json"):
        page.add_preformatted(json.dumps(to_plain(asdict(config)), indent=2, ensure_ascii=False))
    page.write(directory / "report.html")


def _interval(one: RoundResult) -> tuple[float, float]:
    return one.cer_interval or (one.cer, one.cer)


def _add_headline(page: Page, results: Sequence[RoundResult], summary: Mapping[str, Any]) -> None:
    seed, best = results[0], results[summary["best"]["round"]]
    change = 100 * (best.cer / seed.cer - 1) if seed.cer else 0.0
    page.add_headline(
        [
            Metric(label="CER before", value=f"{100 * seed.cer:.1f} %",
                   detail=f"95 %: {_format_interval(seed)}"),
            Metric(label="CER after", value=f"{100 * best.cer:.1f} %",
                   detail=f"round {best.number}; 95 %: {_format_interval(best)}"),
            Metric(label="Change", value=f"{change:+.1f} %", detail="of the errors on dev",
                   tone="good" if change < 0 else ""),
            Metric(label="Labels learned from", value=f"{best.kept_seconds / 60:.1f} min",
                   detail=f"{best.num_kept:,} segments"),
        ]
    )  # fmt: skip


def _format_interval(one: RoundResult) -> str:
    low, high = _interval(one)
    return f"{100 * low:.1f} – {100 * high:.1f}"


def _add_rounds(page: Page, results: Sequence[RoundResult]) -> None:
    columns = [
        "round", "CER on dev", "WER on dev", "labels kept", "minutes kept", "confidence",
        "agreement", "likely CER of labels",
    ]  # fmt: skip
    rows: list[list[Cell | Value]] = [
        [
            one.number,
            Cell(value=one.cer, text=one.describe_cer()),
            _percent(one.wer),
            _part(one.num_kept, one.num_segments, "d"),
            _part(one.kept_seconds / 60, one.seconds / 60, ".1f"),
            *map(_percent, (one.confidence, one.agreement, one.similar_cer)),
        ]
        for one in results
    ]
    page.add_table(columns, rows)
    page.add_paragraph(
        "Labels are of the recogniser of the round before. Their likely CER is that of the dev "
        "utterances that meet the same criteria as the labels kept.",
        tone="note",
    )


def _part(value: float, total: float, form: str) -> Cell:
    if not total:
        return Cell(value=None)
    return Cell(value=value, text=f"{value:,{form}} of {total:,{form}}")


def _add_reasons(page: Page, results: Sequence[RoundResult]) -> None:
    names = list(dict.fromkeys(name for one in results for name in one.reasons or {}))
    if not names:
        return
    page.add_heading("Why labels were left out")
    rows: list[list[Cell | Value]] = [
        [name, *((one.reasons or {}).get(name, 0) for one in results[1:])] for name in names
    ]
    page.add_table(
        ["reason", *(f"round {one.number}" for one in results[1:])],
        rows,
    )
    page.add_paragraph(
        "Segments, by the first reason that holds. Every decision stands in "
        "rounds/N/decisions.parquet; doubtful.html lets people correct the most useful ones.",
        tone="note",
    )


def _percent(value: float | None) -> Cell:
    return Cell(value=value, text=None if value is None else f"{100 * value:.1f} %")
