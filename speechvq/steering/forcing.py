"""Makes planned edits, many as rows of one batch, and sums up what they did."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from speechvq.analysis.intervals import Estimate
from speechvq.nn.activation_additions import Addition
from speechvq.nn.code_edits import Edit
from speechvq.steering.estimates import estimate_ratios
from speechvq.steering.material import UtterancePass
from speechvq.steering.measures import SpanMeasures, measure_spans, widen
from speechvq.steering.plan import Arm, ArmKind, PlannedEdit


@dataclass(frozen=True, kw_only=True)
class MadeEdit:
    """A planned edit and what it did."""

    planned: PlannedEdit
    measures: SpanMeasures


@dataclass(frozen=True, kw_only=True)
class ArmSummary:
    """Means over the edits of one arm, with intervals of a bootstrap over utterances.

    Attributes:
        arm: Which.
        num_edits: Edits.
        num_utterances: In which they were made.
        effect: Nats, see `SpanMeasures`.
        effect_without_blank: Nats.
        success: Share of edits after which the target stands in the decoded text of the window.
        window_kl: Nats a frame.
        off_kl: Nats a frame.
        rest_change: Edit distance of the rest of the hypotheses, over its labels.
        off_share: `off_kl` over `window_kl`.
    """

    arm: Arm
    num_edits: int
    num_utterances: int
    effect: Estimate
    effect_without_blank: Estimate
    success: Estimate
    window_kl: Estimate
    off_kl: Estimate
    rest_change: Estimate
    off_share: float


def make_edits(
    utterance: UtterancePass,
    planned: Iterable[PlannedEdit],
    *,
    window: int,
    off_distance: int,
    max_rows: int,
    advance: Callable[[int], None],
) -> list[MadeEdit]:
    """Makes all edits of one utterance.

    Args:
        utterance: The utterance.
        planned: Its edits.
        window: Frames to each side of a span that are patched too.
        off_distance: See `measure_spans`.
        max_rows: Edits at a time.
        advance: Called after each batch with its rows.
    """
    by_layer: dict[int, list[PlannedEdit]] = {}
    for one in planned:
        by_layer.setdefault(one.first_layer, []).append(one)
    made = []
    for _, group in sorted(by_layer.items()):
        for begin in range(0, len(group), max_rows):
            part = group[begin : begin + max_rows]
            made += _make_batch(utterance, part, window, off_distance)
            advance(len(part))
    return made


def _make_batch(
    utterance: UtterancePass, planned: Sequence[PlannedEdit], window: int, off_distance: int
) -> list[MadeEdit]:
    edits: list[Edit] = []
    additions: list[Addition] = []
    for row, one in enumerate(planned):
        patch = widen(one.span, window, utterance.num_frames)
        if one.arm.kind is ArmKind.difference:
            additions += one.create_additions(row, patch)
        else:
            edits += one.create_edits(row, patch)
    measures = measure_spans(
        utterance.log_probs,
        utterance.run(len(planned), edits, additions),
        targets=[one.labels for one in planned],
        spans=[one.span for one in planned],
        window=window,
        off_distance=off_distance,
    )
    return [
        MadeEdit(planned=one, measures=found) for one, found in zip(planned, measures, strict=True)
    ]


def summarize_arms(made: Sequence[MadeEdit], *, seed: int) -> list[ArmSummary]:
    """Sums edits up by arm."""
    by_arm: dict[Arm, list[MadeEdit]] = {}
    for one in made:
        by_arm.setdefault(one.planned.arm, []).append(one)
    return [_summarize(arm, group, seed) for arm, group in by_arm.items()]


def _summarize(arm: Arm, made: Sequence[MadeEdit], seed: int) -> ArmSummary:
    names = [one.planned.utterance for one in made]
    found = [one.measures for one in made]
    effect, without_blank, success, window_kl = estimate_ratios(
        [(m.effect, m.effect_without_blank, m.success, m.window_kl) for m in found],
        [1] * len(found),
        names,
        seed=seed,
    )
    kept = [number for number, m in enumerate(found) if not math.isnan(m.off_kl)]
    off_kl = Estimate()
    if kept:
        [off_kl] = estimate_ratios(
            [(found[number].off_kl,) for number in kept],
            [1] * len(kept),
            [names[number] for number in kept],
            seed=seed,
        )
    [rest] = estimate_ratios(
        [(m.rest_edits,) for m in found], [m.rest_labels for m in found], names, seed=seed
    )
    return ArmSummary(
        arm=arm,
        num_edits=len(found),
        num_utterances=len(set(names)),
        effect=effect,
        effect_without_blank=without_blank,
        success=success,
        window_kl=window_kl,
        off_kl=off_kl,
        rest_change=rest,
        off_share=off_kl.value / window_kl.value if window_kl.value > 0 else math.nan,
    )
