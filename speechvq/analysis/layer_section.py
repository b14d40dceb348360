"""The section of a report on layers: what probes read from each, and how alike languages are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechvq.analysis.probes import ProbeResult
from speechvq.analysis.section import Figure, Section, Table
from speechvq.analysis.sharing_section import format_estimate
from speechvq.analysis.similarity import (
    Dendrogram,
    compute_centre_distances,
    compute_cka_matrix,
    compute_phone_centres,
    link_average,
)
from speechvq.models.bottlenecks import BottleneckConfig
from speechvq.models.config_json import config_to_json
from speechvq.reporting.cells import Cell, Value, round_number
from speechvq.reporting.charts import Series, draw_heat_map, draw_lines
from speechvq.reporting.dendrogram import draw_dendrogram

TITLE = "Layers"
_MIN_PHONES = 4


@dataclass(frozen=True, kw_only=True)
class LanguageLikeness:
    """How alike J languages are in one layer.

    Attributes:
        languages: Their codes.
        distances: (J, J) between the centres of their utterances, in standard deviations.
        phones: Phones that all of them have.
        cka: (J, J) debiased CKA of their phones' centres; None with fewer than 4 phones.
        dendrogram: Of `distances`, by average linkage.
    """

    languages: list[str]
    distances: NDArray[np.float64]
    phones: list[str]
    cka: NDArray[np.float64] | None
    dendrogram: Dendrogram


def measure_likeness(
    utterances: NDArray[np.floating],
    utterance_languages: NDArray[np.str_],
    frames: NDArray[np.floating],
    frame_languages: NDArray[np.str_],
    frame_phones: NDArray[np.str_],
) -> LanguageLikeness:
    """Compares languages in one layer.

    Args:
        utterances: (U, D) means over utterances; two of each language at least.
        utterance_languages: (U,).
        frames: (N, D) a sample of frames.
        frame_languages: (N,).
        frame_phones: (N,) "" where unknown.
    """
    languages, distances = compute_centre_distances(utterances, utterance_languages)
    phones: list[str] = []
    cka = None
    if len(frames):
        names, phones, centres = compute_phone_centres(frames, frame_phones, frame_languages)
        if len(phones) >= _MIN_PHONES and names == languages:
            cka = compute_cka_matrix(centres)
    return LanguageLikeness(
        languages=languages,
        distances=distances,
        phones=phones,
        cka=cka,
        dendrogram=link_average(distances),
    )


def create_layer_section(
    layers: Sequence[int],
    probes: Mapping[str, Sequence[ProbeResult]],
    likeness: Mapping[int, LanguageLikeness],
) -> Section:
    """Writes down what probes read and how alike languages are.

    Args:
        layers: Numbers of L layers; 0 is the input of the first.
        probes: L results by target ("language", "family", "speaker", "source", "phone").
        likeness: By layer, for those that are to be drawn.

    Returns:
        The section; it says why where nothing could be probed.
    """
    made = {name: found for name, found in probes.items() if not all(one.reason for one in found)}
    left = {name: found[0].reason for name, found in probes.items() if name not in made and found}
    if not made and not likeness:
        why = "; ".join(f"{name}: {reason}" for name, reason in left.items())
        return Section(title=TITLE, missing=why or "no representations were kept.")
    section = Section(title=TITLE)
    for name, found in made.items():
        section.findings.append(_describe(name, layers, found))
    broken = sorted(
        {
            layer
            for found in made.values()
            for layer, one in zip(layers, found, strict=True)
            if one.reason
        }
    )
    if broken:
        section.warnings.append(
            f"Layers {', '.join(map(str, broken))} hold what is no number: did the model diverge?"
        )
    section.limits.extend(f"No probe for {name}: {reason}." for name, reason in left.items())
    if made:
        section.figures.append(_draw_probes(layers, made))
        section.tables.append(_create_table(layers, made))
        section.limits.append(
            "A probe says what can be read from a layer by a linear map, not what the model uses."
        )
    for layer, one in likeness.items():
        section.figures.extend(_draw_likeness(layer, one))
    section.numbers.update(
        {
            "layers": list(layers),
            "probes": {name: [asdict(one) for one in found] for name, found in probes.items()},
            "likeness": {str(layer): _to_json(one) for layer, one in likeness.items()},
        }
    )
    return section


def _describe(name: str, layers: Sequence[int], probes: Sequence[ProbeResult]) -> str:
    values = [one.accuracy.value for one in probes]
    place = int(np.nanargmax(values))
    best = probes[place]
    begin = f"A probe reads the {name} best from layer {layers[place]}:"
    if not (best.accuracy.low > best.chance and best.accuracy.value > best.null_high):
        begin = (
            f"That a probe can read the {name} from any layer is not shown; best from layer "
            f"{layers[place]}:"
        )
    return (
        f"{begin} mean recall "
        f"{format_estimate(best.accuracy)} of {len(best.classes)} classes, where guessing gives "
        f"{best.chance:.2f} and permuted labels {best.null_mean:.2f}, {best.null_high:.2f} at most "
        f"(p = {best.p_value:.2g}), "
        f"n = {best.num_groups} groups that were not learnt from; from the first layer "
        f"{values[0]:.2f}, from the last {values[-1]:.2f}."
    )


def _draw_probes(layers: Sequence[int], probes: Mapping[str, Sequence[ProbeResult]]) -> Figure:
    series = [
        Series(
            name=name,
            x=list(layers),
            y=[one.skill.value for one in found],
            low=[one.skill.low for one in found],
            high=[one.skill.high for one in found],
        )
        for name, found in probes.items()
    ]
    highest = np.nanmax(
        [
            (one.null_high - one.chance) / (1 - one.chance)
            for found in probes.values()
            for one in found
        ]
    )
    levels = {"best of permuted labels": float(highest)} if np.isfinite(highest) else {}
    return Figure(
        picture=draw_lines(
            series,
            x_label="layer",
            y_label="from chance (0) to always right (1)",
            whole_x=True,
            levels=levels,
        ),
        caption="What a linear probe reads from each layer on groups it has not heard, with 95 % "
        "intervals.",
        alt="Curves of probe accuracy by layer",
    )


def _create_table(layers: Sequence[int], probes: Mapping[str, Sequence[ProbeResult]]) -> Table:
    rows: list[list[Cell | Value]] = [
        [
            name,
            layer,
            *(round_number(x) for x in (one.accuracy.value, one.accuracy.low, one.accuracy.high)),
            *(round_number(x) for x in (one.chance, one.null_mean, one.p_value)),
            one.num_samples,
            one.num_groups,
            ", ".join(one.left_out),
        ]
        for name, found in probes.items()
        for layer, one in zip(layers, found, strict=True)
    ]
    columns = ["target", "layer", "mean recall", "low", "high", "chance", "permuted", "p", "rows"]
    return Table(
        columns=[*columns, "groups", "left out"], rows=rows, caption="Probes, layer by layer."
    )


def add_bottlenecks(section: Section, bottlenecks: Sequence[BottleneckConfig]) -> None:
    """Adds which layers have bottlenecks of codes; nothing where none has."""
    if not bottlenecks:
        return
    section.numbers["bottlenecks"] = [config_to_json(one) for one in bottlenecks]
    section.tables.append(
        Table(
            columns=["layer", "part", "codebooks", "codes of each", "active in a frame"],
            rows=[
                [
                    *(one.layer + 1, str(one.site), one.num_codebooks),
                    *(one.codebook_size, one.num_active),
                ]
                for one in bottlenecks
            ],
            caption="Bottlenecks of codes; `speechvq concepts` says what they stand for, and "
            "counts layers from 0.",
        )
    )


def _draw_likeness(layer: int, likeness: LanguageLikeness) -> list[Figure]:
    order = likeness.dendrogram.order
    names = [likeness.languages[place] for place in order]
    figures = [
        Figure(
            picture=draw_heat_map(
                likeness.distances[np.ix_(order, order)],
                row_labels=names,
                column_labels=names,
                color_label="std. deviations",
            ),
            caption=f"Layer {layer}: distances between the centres of languages, in the order of "
            "the dendrogram.",
            alt=f"Matrix of distances of languages in layer {layer}",
        ),
        Figure(
            picture=draw_dendrogram(
                likeness.dendrogram.merges,
                order,
                likeness.languages,
                x_label="distance, standard deviations",
            ),
            caption=f"Layer {layer}: the same as a dendrogram (average linkage).",
            alt=f"Dendrogram of languages in layer {layer}",
        ),
    ]
    if likeness.cka is not None:
        figures.append(
            Figure(
                picture=draw_heat_map(
                    likeness.cka[np.ix_(order, order)],
                    row_labels=names,
                    column_labels=names,
                    color_label="debiased CKA",
                ),
                caption=f"Layer {layer}: do languages lay out their phones alike? Debiased CKA of "
                f"the centres of {len(likeness.phones)} phones that all have; 0 for unrelated.",
                alt=f"Matrix of CKA of languages in layer {layer}",
            )
        )
    return figures


def _to_json(likeness: LanguageLikeness) -> dict[str, Any]:
    return {
        "languages": likeness.languages,
        "distances": likeness.distances.tolist(),
        "phones": likeness.phones,
        "cka": None if likeness.cka is None else likeness.cka.tolist(),
        "merges": likeness.dendrogram.merges.tolist(),
        "order": [int(place) for place in likeness.dendrogram.order],
    }
