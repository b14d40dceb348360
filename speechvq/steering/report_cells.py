"""Figures of the report as texts and cells of tables."""

from __future__ import annotations

import math

from speechvq.analysis.intervals import Estimate
from speechvq.reporting.cells import Cell


def tell(value: Estimate) -> str:
    """A figure in nats with its interval."""
    return f"{value.value:z.2f}{tell_ends(value, 1, '.2f')}"


def tell_share(value: Estimate) -> str:
    """A share in percent."""
    return f"{value.value:.0%}"


def tell_points(value: Estimate) -> str:
    """A change of a share in points, with its interval."""
    return f"{100 * value.value:z.1f}{tell_ends(value, 100, '.1f')}"


def tell_ends(value: Estimate, factor: float, form: str) -> str:
    """An interval in brackets; nothing where there is none."""
    if math.isnan(value.low):
        return ""
    return f" [{factor * value.low:z{form}}, {factor * value.high:z{form}}]"


def show_nats(value: Estimate) -> Cell:
    """A figure in nats with its interval."""
    return show_or_dash(value.value, tell(value))


def show_share(value: Estimate, *, most: float = 1.0) -> Cell:
    """A share in percent; its interval is cut at 0 and at the most that it can be."""
    shown = clip(value, most)
    return show_or_dash(value.value, f"{value.value:.1%}{tell_ends(shown, 100, '.1f')}")


def clip(value: Estimate, most: float = 1.0) -> Estimate:
    """A share whose interval, which is centred, is cut at 0 and at `most`."""
    if math.isnan(value.low):
        return value
    return Estimate(value=value.value, low=max(value.low, 0.0), high=min(value.high, most))


def show_points(value: Estimate) -> Cell:
    """A change of a share in points, with its interval."""
    return show_or_dash(value.value, tell_points(value))


def show_percent(value: float) -> Cell:
    """A share in percent."""
    return show_or_dash(value, f"{value:.1%}")


def show_number(value: float) -> Cell:
    """Two significant digits."""
    return show_or_dash(value, f"{value:.2g}")


def show_or_dash(value: float, text: str) -> Cell:
    """A text that sorts by its value; a dash for NaN."""
    return Cell(value=None, text="–") if math.isnan(value) else Cell(value=value, text=text)
