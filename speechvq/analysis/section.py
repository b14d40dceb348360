"""One section of the report of an analysis: sentences, tables, pictures, or why there are none.

The parts of an analysis return sections; `speechvq.analysis.report` puts them on a page and into
`analysis.json`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from speechvq.reporting.cells import Cell, Value
from speechvq.reporting.page import Page


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of a section.

    Attributes:
        columns: C heads.
        rows: Rows of C values or cells each.
        caption: A sentence above the table.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell | Value]]
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture of a section.

    Attributes:
        picture: SVG text of `speechvq.reporting.charts`, or the bytes of a PNG.
        caption: A sentence below the picture.
        alt: What it shows, for those who do not see it; the caption where empty.
    """

    picture: str | bytes
    caption: str = ""
    alt: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """What one part of an analysis found, or why it could not be made.

    Attributes:
        title: The heading.
        findings: Plain sentences, each with its number, null and n; the first stands in the
            paragraph at the top of the report.
        missing: Why the section could not be made; None where it could.
        tables: Tables, below the sentences.
        figures: Pictures, below the sentences.
        warnings: What keeps a reader from believing the numbers, shown as boxes.
        limits: What cannot be concluded from these data, for the end of the report.
        numbers: JSON values for `analysis.json`.
        is_doubt: Whether the first finding casts doubt on those of other sections, so that it
            stands before them.
    """

    title: str
    findings: list[str] = field(default_factory=list)
    missing: str | None = None
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    is_doubt: bool = False

    def add_to(self, page: Page) -> None:
        """Adds the heading and all that stands below it."""
        page.add_heading(self.title)
        if self.missing is not None:
            page.add_paragraph(f"Not made: {self.missing}", tone="note")
        for text in self.warnings:
            page.add_paragraph(text, tone="warning")
        for text in self.findings:
            page.add_paragraph(text)
        for figure in self.figures:
            page.add_figure(figure.picture, caption=figure.caption, alt=figure.alt)
        for table in self.tables:
            page.add_table(table.columns, table.rows, caption=table.caption)
