"""Posteriors before and after an edit, as a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from speechvq.analysis.frame_times import find_window_samples
from speechvq.data.audio import Waveform
from speechvq.data.records import SAMPLE_RATE
from speechvq.data.spectrum import compute_power
from speechvq.models.ctc_model import CTCModel
from speechvq.models.vocabulary import BLANK, BLANK_ID, WORD_SEPARATOR
from speechvq.reporting.posterior_maps import draw_posteriors
from speechvq.steering.measures import Span

_MAX_LABELS = 24
_LEAST = 0.1
"""Labels that are nowhere so probable are not shown."""
_MAX_SECONDS = 3.0
_NAMES = {BLANK: "blank", WORD_SEPARATOR: "space"}


def draw_edit(
    model: CTCModel,
    waveform: Waveform,
    head: str,
    log_probs: tuple[Tensor, Tensor],
    spans: Sequence[Span],
    always: Sequence[int] = (),
) -> tuple[str, list[str]]:
    """Draws the posteriors before and after an edit, around what was edited.

    Args:
        model: Whose front end says when a frame is.
        waveform: (S,) at 16 kHz.
        head: Whose labels they are.
        log_probs: (T, N) before and after.
        spans: Frames that were edited.
        always: Labels that are shown in any case.

    Returns:
        SVG text, and the labels of its rows.
    """
    num_frames = len(log_probs[0])
    hop = model.frame_samples
    half = int(_MAX_SECONDS / 2 * SAMPLE_RATE / hop)
    first = max(0, min(begin for begin, _ in spans) - half)
    last = min(num_frames, max(end for _, end in spans) + half)
    before, after = (one[first:last].exp() for one in log_probs)  # (t, N)
    most = np.maximum(before.amax(0).numpy(), after.amax(0).numpy())
    changed = (before - after).abs().amax(0).numpy()
    most[BLANK_ID] = 0.0
    order = [int(label) for label in np.argsort(-(most + changed)) if most[label] >= _LEAST]
    kept = list(dict.fromkeys([*always, *order]))[: _MAX_LABELS - 1]
    peaks = (before + after).argmax(0)
    rows = [BLANK_ID, *sorted(kept, key=lambda label: (int(peaks[label]), label))]
    texts = model.vocabularies[head].labels
    shift = (find_window_samples(model.encoder.front_end) - hop) // 2  # half a hop around centres
    begin, end = first * hop + shift, last * hop + shift
    svg = draw_posteriors(
        {"before": before[:, rows].T.numpy(), "after": after[:, rows].T.numpy()},
        row_labels=[_NAMES.get(texts[label], texts[label]) for label in rows],
        span=(begin / SAMPLE_RATE, end / SAMPLE_RATE),
        marks=[
            ((first * hop + shift) / SAMPLE_RATE, (last * hop + shift) / SAMPLE_RATE)
            for first, last in spans
        ],
        power=compute_power(waveform[begin:end]),
        max_hertz=SAMPLE_RATE / 2,
    )
    return svg, [_NAMES.get(texts[label], texts[label]) for label in rows]
