"""Table cells: how values of Python become text, sort keys and classes in a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

TONES = ("", "note", "good", "warning", "bad")
Value = str | int | float | None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a table or one fact, where a bare value does not say enough.

    Attributes:
        value: What is sorted by and, without `text`, shown. None is an empty cell, sorted last.
        text: What is shown, where it differs from the value ("31.4 %" for 0.314).
        language: BCP 47 tag of the text ("hi", "ar"), so that the browser picks fonts and voices.
        tone: "", "note", "good", "warning" or "bad".
    """

    value: Value
    text: str | None = None
    language: str | None = None
    tone: str = ""

    def __post_init__(self) -> None:
        check_tone(self.tone)


def check_tone(tone: str) -> None:
    """Raises ValueError for a tone that the style sheet does not know."""
    if tone not in TONES:
        raise ValueError(f"`tone` must be one of {', '.join(map(repr, TONES))}, but is {tone!r}.")


def format_value(value: Value) -> str:
    """Returns a short text: 12,345 for integers, four significant digits for floats, – for none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if not math.isfinite(value):
            return "–" if math.isnan(value) else ("∞" if value > 0 else "−∞")
        if abs(value) >= 10_000:
            return f"{value:,.0f}"
        return f"{value:.4g}"
    return value


def format_short(value: float, digits: int = 3) -> str:
    """Returns so many significant digits, never an exponent for large numbers; "" for NaN."""
    if not math.isfinite(value):
        return ""
    large = abs(value) >= 10**digits
    return f"{value:,.0f}" if large else f"{value:.{digits}g}"


def round_number(value: float) -> Cell:
    """Returns a cell of three significant digits that sorts by the whole value; empty for NaN."""
    return Cell(value=value if math.isfinite(value) else None, text=format_short(value))


def is_number(value: Value) -> bool:
    """Whether a value sorts as a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class RenderedCell:
    """A cell as the template wants it."""

    text: str
    sort_key: str | None
    css_class: str
    language: str | None
    tone: str


def render_cell(cell: Cell | Value, *, numeric: bool = False) -> RenderedCell:
    """Returns a cell's text, sort key and class.

    Args:
        cell: A cell or a bare value.
        numeric: Whether its column is one of numbers (right-aligned, sorted by size).
    """
    full = cell if isinstance(cell, Cell) else Cell(value=cell)
    text = full.text if full.text is not None else format_value(full.value)
    empty = full.value is None or (isinstance(full.value, float) and math.isnan(full.value))
    key = None if empty else str(float(full.value) if numeric and full.value is not None else text)
    classes = " ".join(part for part in ("number" if numeric else "", full.tone) if part)
    return RenderedCell(text, key, classes, full.language, full.tone)


def find_numeric_columns(rows: Sequence[Sequence[Cell | Value]], num_columns: int) -> list[bool]:
    """Returns for each column whether it has numbers and nothing but numbers and gaps."""
    numeric = []
    for column in range(num_columns):
        cells = [row[column] for row in rows]
        values = [cell.value if isinstance(cell, Cell) else cell for cell in cells]
        present = [value for value in values if value is not None]
        numeric.append(bool(present) and all(is_number(value) for value in present))
    return numeric
