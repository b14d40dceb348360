"""What an edit does to the labels of one utterance: pure functions of log-probabilities.

A span is [first frame, frame after the last). The window is the span and so many frames to each
side of it: that is patched, and there the effect is measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from speechvq.decoding.alignment import Unit, count_edits
from speechvq.models.vocabulary import BLANK_ID

Span = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class SpanMeasures:
    """One edit's measures, P before and P' after it, p the target (the sum of its labels).

    Attributes:
        effect: log Σ_t P'(p | t) − log Σ_t P(p | t) over the window, nats; blank is a label.
        effect_without_blank: The same with P(p | t) / (1 − P(blank | t)): among labels.
        success: 1 if the best path has the target in the window, else 0.
        window_kl: KL(P ‖ P') in nats, mean over the frames of the window.
        off_kl: The same over frames farther than `off_distance` from the span; NaN without any.
        rest_edits: Edit distance of what the best paths say outside of the window.
        rest_labels: Labels that it said there before.
    """

    effect: float
    effect_without_blank: float
    success: int
    window_kl: float
    off_kl: float
    rest_edits: int
    rest_labels: int


def widen(span: Span, margin: int, num_frames: int) -> Span:
    """A span and `margin` frames to each side, within the utterance."""
    return max(0, span[0] - margin), min(num_frames, span[1] + margin)


def measure_spans(
    before: Tensor,
    after: Tensor,
    *,
    targets: Sequence[Tensor],
    spans: Sequence[Span],
    window: int,
    off_distance: int,
) -> list[SpanMeasures]:
    """Measures R edits of one utterance.

    Args:
        before: (T, N) log-probabilities without an edit.
        after: (R, T, N) with one edit each.
        targets: R long tensors, labels that count as the target.
        spans: R spans, without the window.
        window: Frames to each side.
        off_distance: Frames farther than this from the span are off it.
    """
    divergence = compute_divergence(before, after)  # (R, T)
    paths = after.argmax(-1)  # (R, T)
    path = before.argmax(-1)
    num_frames = len(before)
    results = []
    for row, (labels, span) in enumerate(zip(targets, spans, strict=True)):
        begin, end = widen(span, window, num_frames)
        near = widen(span, off_distance, num_frames)
        off = torch.cat([divergence[row, : near[0]], divergence[row, near[1] :]])
        old, new = before[begin:end], after[row, begin:end]
        rest = [collapse_rest(one, (begin, end)) for one in (path, paths[row])]
        results.append(
            SpanMeasures(
                effect=compute_log_mass(new, labels) - compute_log_mass(old, labels),
                effect_without_blank=compute_log_mass(exclude_blank(new), labels)
                - compute_log_mass(exclude_blank(old), labels),
                success=int(torch.isin(paths[row, begin:end], labels).any()),
                window_kl=float(divergence[row, begin:end].mean()),
                off_kl=float(off.mean()) if len(off) else math.nan,
                rest_edits=count_label_edits(*rest),
                rest_labels=len(rest[0]),
            )
        )
    return results


def compute_divergence(before: Tensor, after: Tensor) -> Tensor:
    """KL(P ‖ P') of each frame, nats.

    Args:
        before: (T, N) log-probabilities P.
        after: (R, T, N) log-probabilities P'.

    Returns:
        (R, T) float64, exactly 0 where nothing changed.
    """
    double = before.double()
    return (double.exp() * (double - after.double())).sum(-1)


def compute_log_mass(log_probs: Tensor, labels: Tensor) -> float:
    """Logarithm of Σ over frames and labels of P, nats, of (S, N) log-probabilities."""
    return float(log_probs[:, labels].double().flatten().logsumexp(0))


def exclude_blank(log_probs: Tensor) -> Tensor:
    """(T, N) log-probabilities normalised over all labels but the blank, which gets −∞."""
    others = log_probs.double().clone()
    others[:, BLANK_ID] = -math.inf
    return others.log_softmax(-1)


def collapse(path: Tensor) -> list[int]:
    """Labels of a path (T,): repeats merged, blanks removed."""
    kept = path != BLANK_ID
    kept[1:] &= path[1:] != path[:-1]
    labels: list[int] = path[kept].tolist()
    return labels


def collapse_rest(path: Tensor, window: Span) -> list[int]:
    """Labels of a path before and after a window; a label that reaches across its end counts."""
    return collapse(path[: window[0]].clone()) + collapse(path[window[1] :].clone())


def count_label_edits(first: Sequence[int], second: Sequence[int]) -> int:
    """Edit distance of two rows of labels."""
    if list(first) == list(second):
        return 0
    texts = [" ".join(map(str, labels)) for labels in (first, second)]
    return int(count_edits(texts[:1], texts[1:], Unit.WORD).errors.sum())
