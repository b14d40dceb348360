"""Analyses side by side for the terminal, as a page, as JSON, and as CSV or TSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from speechvq.analysis.intervals import Estimate
from speechvq.analysis.report import to_plain
from speechvq.deploy.analysis_comparison import AnalysisComparison
from speechvq.deploy.analysis_pictures import draw_comparison
from speechvq.deploy.analysis_results import (
    ATTENTION,
    BEST,
    CODES,
    LAYERS,
    SHARING,
    Measurement,
)
from speechvq.deploy.result_table import ExportedTable, ResultTable
from speechvq.reporting.cells import Cell, Value, format_short
from speechvq.reporting.page import Page

_SECTIONS = (CODES, SHARING, LAYERS, ATTENTION)
_MEASURES = {"pnmi": "PNMI", "above_chance": "above chance", "phone_purity": "phone purity"}
_EQUAL = "Codes at equal perplexity"


@dataclass(frozen=True, kw_only=True)
class AnalysisTable(ExportedTable):
    """Analyses side by side; the table itself is that of codes and phones.

    Attributes:
        comparison: All numbers.
        tables: All tables, the first included.
    """

    comparison: AnalysisComparison
    tables: list[ResultTable]

    def to_text(self) -> str:
        """Returns the tables for a terminal."""
        warnings = [f"WARNING: {text}" for text in self.comparison.warnings]
        parts = [table.to_text() for table in self.tables]
        return "\n\n".join([self.title, *warnings, *parts, "\n".join(self.notes)]).rstrip()

    def to_page(self) -> Page:
        """Returns warnings, tables and pictures as a page."""
        page = Page(self.title)
        for text in self.comparison.warnings:
            page.add_paragraph(text, tone="warning")
        pictures = draw_comparison(self.comparison)
        for table in self.tables:
            page.add_heading(table.title)
            page.add_table(table.columns, table.rows)
            for note in table.notes:
                page.add_paragraph(note, tone="note")
            for picture, caption in pictures.get(table.title, []):
                page.add_figure(picture, caption=caption)
        for note in self.notes:
            page.add_paragraph(note, tone="note")
        return page

    def to_json(self) -> str:
        """Returns all numbers as JSON."""
        one = self.comparison
        document = {
            "kind": "analysis-comparison",
            "format_version": 1,
            "reference": str(one.analyses[one.reference].path),
            "warnings": one.warnings,
            "notes": one.notes,
            "analyses": [
                {
                    "analysis": str(analysis.path),
                    "name": analysis.name,
                    "model": analysis.config.get("model"),
                    "measurements": [
                        {
                            "section": found.section,
                            "item": found.item,
                            "measure": found.measure,
                            "value": found.text or found.estimate.value,
                            "low": found.estimate.low,
                            "high": found.estimate.high,
                            "difference": None
                            if place == one.reference
                            or (difference := one.subtract(place, found.key)) is None
                            else asdict(difference),
                        }
                        for found in one.measurements[place]
                    ],
                    "codes_against_reference": None
                    if place not in one.paired
                    else asdict(one.paired[place]),
                }
                for place, analysis in enumerate(one.analyses)
            ],
        }
        plain = to_plain(document)
        return json.dumps(plain, ensure_ascii=False, indent=2, allow_nan=False) + "\n"

    def to_delimited(self, delimiter: str) -> str:
        """Returns one row a number of an analysis.

        Args:
            delimiter: A comma or a tab.
        """
        one = self.comparison
        text = io.StringIO()
        writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
        head = ["analysis", "section", "item", "measure", "value", "low", "high"]
        writer.writerow([*head, "reference", "difference", "difference_low", "difference_high"])
        name_of_reference = one.names[one.reference]
        for place, name in enumerate(one.names):
            for found in one.measurements[place]:
                difference = None if place == one.reference else one.subtract(place, found.key)
                cells = [name, found.section, found.item, found.measure]
                cells += [found.text] if found.text else _list_ends(found.estimate)[:1]
                cells += _list_ends(found.estimate)[1:]
                cells += ["" if difference is None else name_of_reference]
                writer.writerow([*cells, *_list_ends(difference)])
            if place in one.paired:
                paired = one.paired[place]
                item = f"{BEST}, perplexity {min(paired.perplexities):.4g}"
                for measure, both in paired.equal.items():
                    cells = [name, _EQUAL, item, _MEASURES[measure]]
                    ends = _list_ends(both.difference)
                    writer.writerow([*cells, repr(both.second), "", "", name_of_reference, *ends])
        return text.getvalue()


def create_analysis_table(comparison: AnalysisComparison) -> AnalysisTable:
    """Returns analyses side by side as something to show and to write.

    Args:
        comparison: What was found.
    """
    tables = [_pivot(comparison, CODES), _create_equal(comparison)]
    tables += [_pivot(comparison, section) for section in _SECTIONS[1:]]
    tables = [table for table in tables if table.rows]
    first = tables[0] if tables else _pivot(comparison, CODES)
    return AnalysisTable(
        title="Analyses compared",
        columns=first.columns,
        rows=first.rows,
        notes=comparison.notes,
        comparison=comparison,
        tables=tables,
    )


def _pivot(comparison: AnalysisComparison, section: str) -> ResultTable:
    """One column a model, and one a difference."""
    rows: list[list[Cell | Value]] = []
    for key in comparison.list_keys(section):
        found = [comparison.find(place, key) for place in range(len(comparison.analyses))]
        if all(one is None or not (one.text or _is_known(one)) for one in found):
            continue
        differences = [comparison.subtract(place, key) for place in comparison.others]
        rows.append(
            [f"{key[1]}: {key[2]}", *map(_show, found), *map(_show_difference, differences)]
        )
    reference = comparison.names[comparison.reference]
    columns = ["", *comparison.names]
    columns += [f"{comparison.names[place]} − {reference}" for place in comparison.others]
    return ResultTable(title=section, columns=columns, rows=rows, notes=_explain(section))


def _create_equal(comparison: AnalysisComparison) -> ResultTable:
    rows: list[list[Cell | Value]] = []
    reference = comparison.names[comparison.reference]
    for place, paired in comparison.paired.items():
        for measure, both in paired.equal.items():
            rows.append(
                [
                    comparison.names[place],
                    _MEASURES[measure],
                    _round(paired.perplexities[1]),
                    _round(paired.perplexities[0]),
                    _round(min(paired.perplexities)),
                    _round(both.second),
                    _round(both.first),
                    _show_difference(both.difference),
                    f"{paired.num_units} {paired.unit}s",
                ]
            )
    columns = ["analysis", "measure", "perplexity", f"of {reference}", "merged to", "value"]
    columns += [f"of {reference}", "difference (95 %)", "drawn"]
    notes = [
        "The codebook with the higher perplexity was merged, blind to phones, to that of the other "
        "(Ward's method on what its codes stand together with in the control). Merging can only "
        "take away: a finer codebook that is better here is better; one that is not may have lost "
        "it by merging."
    ]
    return ResultTable(title=_EQUAL, columns=columns, rows=rows, notes=notes)


def _explain(section: str) -> list[str]:
    if section == CODES:
        return [
            "Differences are a paired bootstrap over the same speakers (utterances, where few are "
            "known), and not corrected for their number; grey ones hold 0. They are of codebooks "
            "as they are, and PNMI rises with perplexity: see the next table. Controls are as many "
            "and as large as the model's codebooks: those of models with other codebooks differ."
        ]
    return [
        "Intervals of differences are those of independent analyses; on the same speakers they are "
        "too wide rather than too narrow."
    ]


def _is_known(measurement: Measurement) -> bool:
    return math.isfinite(measurement.estimate.value)


def _show(measurement: Measurement | None) -> Cell:
    if measurement is None:
        return Cell(value=None)
    if measurement.text:
        return Cell(value=measurement.text)
    one = measurement.estimate
    if not math.isfinite(one.value):
        return Cell(value=None)
    text = format_short(one.value)
    if math.isfinite(one.low) and math.isfinite(one.high):
        text += f" ({format_short(one.low)}\u00a0…\u00a0{format_short(one.high)})"
    return Cell(value=one.value, text=text)


def _show_difference(difference: Estimate | None) -> Cell:
    if difference is None or not math.isfinite(difference.value):
        return Cell(value=None)
    text = _sign(difference.value)
    tone = ""
    if math.isfinite(difference.low) and math.isfinite(difference.high):
        text += f" ({_sign(difference.low)}\u00a0…\u00a0{_sign(difference.high)})"
        tone = "note" if difference.low <= 0 <= difference.high else ""
    else:
        text += " (no interval)"
        tone = "warning"
    return Cell(value=difference.value, text=text, tone=tone)


def _sign(value: float) -> str:
    return ("+" if value > 0 else "−" if value < 0 else "") + format_short(abs(value))


def _round(value: float) -> Cell:
    return Cell(value=value, text=format_short(value))


def _list_ends(estimate: Estimate | None) -> list[str]:
    if estimate is None:
        return ["", "", ""]
    ends: Sequence[float] = (estimate.value, estimate.low, estimate.high)
    return [repr(one) if math.isfinite(one) else "" for one in ends]
