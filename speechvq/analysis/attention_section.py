"""The section of a report on attention: head × layer maps, against uniform and shuffled nulls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from speechvq.analysis.attention import FIELDS, WINDOWS, AttentionTally, HeadFigures
from speechvq.analysis.attention_pass import MAX_SECONDS, AttentionExample
from speechvq.analysis.section import Figure, Section, Table
from speechvq.data.records import SAMPLE_RATE
from speechvq.reporting.cells import Cell, Value, round_number
from speechvq.reporting.charts import draw_heat_map
from speechvq.reporting.time_maps import draw_time_maps

TITLE = "Attention"
_WIDEST = len(WINDOWS) - 1
_ERRORS = 1.96
"""Standard errors on each side of a 95 % interval."""


def create_attention_section(
    tally: AttentionTally,
    frame_seconds: float,
    examples: Sequence[AttentionExample] = (),
    *,
    num_too_long: int = 0,
) -> Section:
    """Writes down where heads look.

    A head counts as local where the interval of its share of weight within the widest window is
    above one half, and above both nulls. Layers are counted from 1, as in the section on
    layers: there 0 is the input of the first, and l what the l-th gives.

    Args:
        tally: Over utterances.
        frame_seconds: From one frame to the next.
        examples: Utterances to draw with the most and the least local head.
        num_too_long: Utterances that were drawn, but are too long to be watched.

    Returns:
        The section; it says why where no utterance was long enough.
    """
    layers = tally.layers
    too_long = (
        f"{num_too_long} utterances are longer than {MAX_SECONDS:g} s and not among those of which "
        "attention was watched: the memory for it grows with the square of the length."
    )
    if not layers:
        why = f"no utterance has {tally.min_frames} frames, more than the widest window."
        return Section(title=TITLE, missing=f"{why} {too_long}" if num_too_long else why)
    broken = [one for one in layers if not np.isfinite(tally.get_means(one).distance).all()]
    layers = [layer for layer in layers if layer not in broken]
    if not layers:
        return Section(title=TITLE, missing="the weights are no numbers: did the model diverge?")
    means = [tally.get_means(layer) for layer in layers]
    errors = [tally.get_errors(layer) for layer in layers]
    share = np.stack([one.local[:, _WIDEST] for one in means])  # (L, H)
    low = share - _ERRORS * np.stack([one.local[:, _WIDEST] for one in errors])
    shuffled = np.stack([one.shuffled_local[:, _WIDEST] for one in means])
    uniform = np.stack([one.uniform_local[:, _WIDEST] for one in means])
    distance = np.stack([one.distance for one in means]) * 1000 * frame_seconds  # (L, H) ms
    is_local = low > np.maximum(np.maximum(shuffled, uniform), 0.5) + 1e-9
    reach = 1000 * frame_seconds * WINDOWS[_WIDEST]
    count = tally.get_count(layers[0])
    uniform_distance = np.mean([one.uniform_distance.mean() for one in means])
    section = Section(
        title=TITLE,
        findings=[
            f"{is_local.sum()} of {is_local.size} heads put more than half of their weight within "
            f"{reach:.0f} ms to each side (lower end of the 95 % interval, and above both "
            f"nulls); the mean share over heads is {share.mean():.2f}, where uniform attention has "
            f"{uniform.mean():.2f} and rows exchanged between queries {shuffled.mean():.2f}, "
            f"n = {count} utterances.",
            f"The mean distance is {distance.mean():.0f} ms (heads: {distance.min():.0f} to "
            f"{distance.max():.0f}), where uniform attention has "
            f"{1000 * frame_seconds * uniform_distance:.0f} ms.",
        ],
        limits=[
            "Attention weights say where a head looks, not what it takes from there. Intervals are "
            "over utterances; those of one speaker are alike."
        ],
    )
    if broken:
        names = ", ".join(str(layer + 1) for layer in broken)
        section.warnings.append(f"Layers {names} hold what is no number: did the model diverge?")
    if num_too_long:
        section.limits.append(too_long)
    if count < 2:
        section.warnings.append("There is one utterance, so no interval, and no head is counted.")
    section.figures.extend(
        _draw(pick, layers, means, color_label, caption)
        for pick, color_label, caption in (
            (
                lambda one: one.local[:, _WIDEST],
                f"share within ±{WINDOWS[_WIDEST]} frames",
                "Share of weight near the query.",
            ),
            (
                lambda one: one.distance * 1000 * frame_seconds,
                "mean distance, ms",
                "Mean distance of the frame that is looked at.",
            ),
            (lambda one: one.entropy, "entropy, bits", "How spread the weight of a query is."),
            (
                lambda one: one.diagonality,
                "diagonality",
                "1 − mean distance over that of uniform attention: 1 on the diagonal.",
            ),
        )
    )
    section.figures.extend(_draw_example(one, layers, share) for one in examples)
    section.tables.append(_create_table(layers, means, errors, frame_seconds))
    section.numbers.update(
        {
            "windows": list(WINDOWS),
            "frame_seconds": frame_seconds,
            "num_utterances": count,
            "layers": [layer + 1 for layer in layers],
            "num_local_heads": int(is_local.sum()),
            "num_heads": int(is_local.size),
            "means": [_to_json(one) for one in means],
            "standard_errors": [_to_json(one) for one in errors],
        }
    )
    return section


def _draw(
    pick: Callable[[HeadFigures], NDArray[np.float64]],
    layers: list[int],
    means: list[HeadFigures],
    color_label: str,
    caption: str,
) -> Figure:
    matrix = np.stack([pick(one) for one in means]).T  # (H, L)
    picture = draw_heat_map(
        matrix,
        row_labels=[str(head) for head in range(len(matrix))],
        column_labels=[str(layer + 1) for layer in layers],
        x_label="layer",
        y_label="head",
        color_label=color_label,
    )
    return Figure(picture=picture, caption=caption, alt=f"Head by layer map: {color_label}")


def _draw_example(
    example: AttentionExample, layers: list[int], share: NDArray[np.float64]
) -> Figure:
    """The heads that over all utterances look nearest and farthest, on one of them.

    Args:
        example: The utterance.
        layers: Numbers of the L layers, from 0.
        share: (L, H) share of weight within the widest window.
    """
    maps = {}
    for place in (share.argmax(), share.argmin()):
        row, head = divmod(int(place), share.shape[1])
        title = (
            f"layer {layers[row] + 1}, head {head}: {share[row, head]:.2f} of the weight within "
            f"±{WINDOWS[_WIDEST]} frames"
        )
        maps[title] = example.weights[layers[row], head]
    picture = draw_time_maps(
        maps,
        span=example.span,
        power=example.power,
        max_hertz=SAMPLE_RATE / 2,
        labels=[(one.phone or "?", one.begin_seconds, one.end_seconds) for one in example.phones],
    )
    known = "with its phones" if example.phones else "its phones are unknown"
    return Figure(
        picture=picture,
        caption=f"{example.language}, {example.utterance}, {known}: the most and the least local "
        "head. Each row is a query; the weight that it gives to frames outside of this span is not "
        "shown.",
        alt=f"Spectrogram and attention maps of {example.utterance}",
    )


def _create_table(
    layers: list[int], means: list[HeadFigures], errors: list[HeadFigures], frame_seconds: float
) -> Table:
    rows: list[list[Cell | Value]] = []
    for layer, mean, error in zip(layers, means, errors, strict=True):
        for head in range(len(mean.distance)):
            scale = 1000 * frame_seconds
            values = [
                *(scale * one[head] for one in (mean.distance, error.distance)),
                *(scale * one[head] for one in (mean.uniform_distance, mean.shuffled_distance)),
                *mean.local[head],
                mean.uniform_local[head, _WIDEST],
                mean.shuffled_local[head, _WIDEST],
                mean.entropy[head],
                mean.diagonality[head],
            ]
            rows.append([layer + 1, head, *(round_number(float(value)) for value in values)])
    widest = f"±{WINDOWS[_WIDEST]}"
    columns = ["layer", "head", "distance, ms", "standard error", "uniform", "shuffled"]
    columns += [f"share ±{window}" for window in WINDOWS]
    columns += [f"uniform {widest}", f"shuffled {widest}", "entropy, bits", "diagonality"]
    return Table(columns=columns, rows=rows, caption="Heads: means over utterances.")


def _to_json(figures: HeadFigures) -> dict[str, object]:
    return {name: getattr(figures, name).tolist() for name in FIELDS}
