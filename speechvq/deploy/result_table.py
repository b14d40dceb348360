"""A table of results side by side, for the terminal and as a page."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path

from speechvq.reporting.cells import Cell, Value, format_value
from speechvq.reporting.page import Page


@dataclass(frozen=True, kw_only=True)
class ResultTable:
    """Results side by side.

    Attributes:
        title: What is compared.
        columns: Heads.
        rows: One row a rate and directory (evaluations) or a number (others).
        notes: Sentences below the table.
    """

    title: str
    columns: list[str]
    rows: list[list[Cell | Value]]
    notes: list[str]

    def to_text(self) -> str:
        """Returns the table for a terminal."""
        shown = [self.columns, *[[_show(cell) for cell in row] for row in self.rows]]
        widths = [max(len(row[i]) for row in shown) for i in range(len(self.columns))]
        lines = [
            "  ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in shown
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([self.title, "", *lines, "", *self.notes]).rstrip()

    def to_page(self) -> Page:
        """Returns the table as a page."""
        page = Page(self.title)
        page.add_table(self.columns, self.rows)
        for note in self.notes:
            page.add_paragraph(note, tone="note")
        return page

    def write(self, path: Path) -> None:
        """Writes the table as an HTML page."""
        self.to_page().write(path)


@dataclass(frozen=True, kw_only=True)
class ExportedTable(ResultTable):
    """Results that other programs read, too."""

    @abstractmethod
    def to_json(self) -> str:
        """Returns all numbers as JSON."""

    @abstractmethod
    def to_delimited(self, delimiter: str) -> str:
        """Returns all numbers, one row each.

        Args:
            delimiter: Between cells.
        """

    def write(self, path: Path) -> None:
        """Writes the form that the name of a file asks for: .json, .csv, .tsv, else the page."""
        match path.suffix.lower():
            case ".json":
                text = self.to_json()
            case ".csv":
                text = self.to_delimited(",")
            case ".tsv":
                text = self.to_delimited("\t")
            case _:
                self.to_page().write(path)
                return
        path.write_text(text, encoding="utf-8")


def _show(cell: Cell | Value) -> str:
    if isinstance(cell, Cell):
        return cell.text if cell.text is not None else format_value(cell.value)
    return format_value(cell)
