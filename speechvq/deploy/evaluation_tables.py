"""Rates as text, and the tables and bars of groups on the page of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from speechvq.decoding.bootstrap import BootstrapUnit
from speechvq.decoding.scoring import ErrorRate, GroupScore
from speechvq.deploy.evaluation_result import Evaluation
from speechvq.languages import parse_language
from speechvq.reporting.cells import Cell, Value
from speechvq.reporting.charts import BarSeries, draw_bars
from speechvq.reporting.page import Page

_MOST_BARS = 24
_FEW_UTTERANCES = 30
"""In tables, fewer are marked: their interval is uncertain itself."""


def name_language(code: str) -> str:
    """Returns "Hindi (hin_Deva)", or the code alone where no name is known."""
    name = parse_language(code).name
    return code if name == code else f"{name} ({code})"


def format_rate(rate: float | None) -> str:
    """Returns "31.4 %", – for none."""
    return "–" if rate is None else f"{100 * rate:.1f} %"


def format_interval(rate: ErrorRate) -> str:
    """Returns "29.8 – 33.0 %", "" for none."""
    if rate.low is None or rate.high is None:
        return ""
    # Spaces that do not break keep an interval on one line.
    return f"{100 * rate.low:.1f}\u00a0–\u00a0{100 * rate.high:.1f}\u00a0%"


def describe_rate(rate: ErrorRate) -> str:
    """Returns the intervals of a rate with what was drawn for them, "" for none."""
    if not format_interval(rate):
        return ""
    if rate.utterance_low is None or rate.utterance_high is None:
        return f"{format_interval(rate)} over utterances"
    other = f"{100 * rate.utterance_low:.1f}\u00a0–\u00a0{100 * rate.utterance_high:.1f}\u00a0%"
    return f"{format_interval(rate)} over {rate.num_units} speakers ({other} over utterances)"


def add_groups(page: Page, evaluation: Evaluation) -> None:
    """Adds tables and pictures by language, source, duration, noise and speaker, each where there
    is more than one group.
    """
    languages = evaluation.by_language
    if len(languages) > 1:
        page.add_heading("Languages")
        _add_chart(page, languages)
        _add_table(page, "language", languages)
    for one in evaluation.groups:
        if len(one.groups) > 1:
            page.add_heading(one.title)
            _add_chart(page, one.groups)
            _add_table(page, one.head, one.groups)
            page.add_paragraph(one.note, tone="note")
    speakers = evaluation.by_speaker
    if len(speakers) > 1:
        page.add_heading("Speakers")
        page.add_paragraph(f"{len(speakers)} speakers, as source/speaker; “?” is not known.")
        with page.section("Table of speakers", open=len(speakers) <= 20):
            _add_table(page, "speaker", speakers)


def rate_cell(rate: ErrorRate) -> Cell:
    """Returns a table's cell that shows percent and sorts by the rate."""
    return Cell(value=rate.rate, text=format_rate(rate.rate))


def _add_chart(page: Page, groups: Sequence[GroupScore]) -> None:
    if len(groups) > _MOST_BARS:
        return
    series = [
        create_bars("WER", [group.wer for group in groups]),
        create_bars("CER", [group.cer for group in groups]),
    ]
    chart = draw_bars([group.name for group in groups], series, y_label="error rate in %")
    page.add_figure(
        chart,
        caption="With 95 % intervals; below, groups of fewer than "
        f"{_FEW_UTTERANCES} utterances are marked.",
    )


def _add_table(page: Page, head: str, groups: Sequence[GroupScore]) -> None:
    by_speaker = any(group.wer.unit is BootstrapUnit.SPEAKER for group in groups)
    rows: list[list[Cell | Value]] = []
    for group in groups:
        few = group.num_utterances < _FEW_UTTERANCES
        row: list[Cell | Value] = [
            group.name,
            Cell(value=group.num_utterances, tone="warning" if few else ""),
            Cell(value=group.seconds / 60, text=f"{group.seconds / 60:.1f}"),
            rate_cell(group.wer),
            format_interval(group.wer),
            rate_cell(group.cer),
            format_interval(group.cer),
        ]
        if by_speaker:
            row.append(f"{group.wer.num_units} {group.wer.unit}s")
        rows.append([*row, group.num_empty_hypotheses])
    columns = [head, "utterances", "minutes", "WER", "95 %", "CER", "95 %"]
    page.add_table(columns + ["95 % over"] * by_speaker + ["all blank"], rows)


def create_bars(name: str, rates: Sequence[ErrorRate]) -> BarSeries:
    """Returns bars in percent with their intervals; none where there is no rate."""

    def percent(values: Sequence[float | None]) -> list[float]:
        return [float("nan") if value is None else 100 * value for value in values]

    return BarSeries(
        name=name,
        values=percent([rate.rate for rate in rates]),
        low=percent([rate.low for rate in rates]),
        high=percent([rate.high for rate in rates]),
    )
