"""A spectrogram as a PNG: light enough to stand beside every player of a page."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.image import imsave
from numpy.typing import ArrayLike

_RANGE_DB = 70.0
_NUM_ROWS = 96
_MAX_COLUMNS = 480


def draw_spectrogram(power: ArrayLike) -> bytes:
    """Draws a power spectrogram, time to the right, frequency upwards.

    Args:
        power: (F, K): frames by frequency bins; the loudest 70 dB are shown.

    Returns:
        A PNG of 96 rows and at most 480 columns. The same power gives the same bytes.
    """
    cells = np.asarray(power, dtype=np.float64)
    cells = _shrink(_shrink(cells, _MAX_COLUMNS).T, _NUM_ROWS)
    level = 10 * np.log10(cells + 1e-12)
    top = float(level.max(initial=-120.0))
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


def _shrink(rows: np.ndarray, limit: int) -> np.ndarray:
    """Averages neighbouring rows until there are at most so many."""
    if len(rows) <= limit:
        return rows
    bounds = np.linspace(0, len(rows), limit + 1).astype(int)[:-1]
    counts = np.diff([*bounds, len(rows)])[:, None]
    return np.asarray(np.add.reduceat(rows, bounds, axis=0) / counts)
