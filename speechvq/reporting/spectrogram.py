"""A spectrogram as a PNG: light enough to stand beside every player of a page."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.image import imsave
from numpy.typing import ArrayLike

_RANGE_DB = 70.0
_NUM_ROWS = 96
_MAX_COLUMNS = 480


def draw_spectrogram(power: ArrayLike, *, span: tuple[float, float] | None = None) -> bytes:
    """Draws a power spectrogram, time to the right, frequency upwards.

    Args:
        power: (F, K): frames by frequency bins; the loudest 70 dB are shown.
        span: What to mark by a bright frame, as shares of the whole time: (0.25, 0.5).

    Returns:
        A PNG of 96 rows and at most 480 columns. The same power gives the same bytes.
    """
    cells = np.asarray(power, dtype=np.float64)
    cells = _shrink(_shrink(cells, _MAX_COLUMNS).T, _NUM_ROWS)
    level = 10 * np.log10(cells + 1e-12)
    top = float(level.max(initial=-120.0))
    if span is not None:
        _mark(level, span, top)
    buffer = io.BytesIO()
    imsave(
        buffer,
        level,
        vmin=top - _RANGE_DB,
        vmax=top,
        cmap="magma",
        origin="lower",
        format="png",
    )
    return buffer.getvalue()


def _mark(level: np.ndarray, span: tuple[float, float], value: float) -> None:
    num_columns = level.shape[1]
    begin, end = (int(np.clip(round(one * num_columns), 0, num_columns)) for one in span)
    begin, end = max(0, min(begin, num_columns - 2)), max(end, begin + 2)
    for column in (begin, end - 1):
        level[:, max(0, column - 1) : column + 1] = value
    level[:2, begin:end] = level[-2:, begin:end] = value


def _shrink(rows: np.ndarray, limit: int) -> np.ndarray:
    """Averages neighbouring rows until there are at most so many."""
    if len(rows) <= limit:
        return rows
    bounds = np.linspace(0, len(rows), limit + 1).astype(int)[:-1]
    counts = np.diff([*bounds, len(rows)])[:, None]
    return np.asarray(np.add.reduceat(rows, bounds, axis=0) / counts)
