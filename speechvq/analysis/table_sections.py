"""From the files of an analysis (code table, samples of layers) to the sections on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from speechvq.analysis.code_counts import CodeCounts, count_tables
from speechvq.analysis.code_table import MODEL, CodeTable
from speechvq.analysis.language_tree import get_family
from speechvq.analysis.layer_section import create_layer_section, measure_likeness
from speechvq.analysis.pitch import group_by_pitch
from speechvq.analysis.probes import ProbeResult, ProbeSettings, draw_rows, run_probe
from speechvq.analysis.representations import list_layers, read_layer
from speechvq.analysis.section import Section
from speechvq.analysis.sharing_rule import SharingRule
from speechvq.analysis.sharing_section import TITLE as SHARING
from speechvq.analysis.sharing_section import create_sharing_section

_COLUMNS = ("utterance", "language", "speaker", "source", "phone")
_MAX_UTTERANCES = 4000
"""Utterances that the other probes take."""
_MAX_SPEAKERS = 200
"""Speakers that are told apart."""
_MAX_FRAMES = 4000
"""Frames of a layer that the probe for phones takes."""
_PHONE_PERMUTATIONS = 9


@dataclass(frozen=True, kw_only=True)
class _Texts:
    """Texts of rows; "" where unknown."""

    utterance: NDArray[np.str_]
    language: NDArray[np.str_]
    speaker: NDArray[np.str_]
    source: NDArray[np.str_]
    phone: NDArray[np.str_]

    def get_groups(self) -> NDArray[np.str_]:
        """Speakers, or utterances where they are not known or there is one only."""
        if len(np.unique(self.speaker)) == 1:
            return self.utterance
        return np.where(self.speaker == "", self.utterance, self.speaker)


def create_sharing_of_table(
    table: CodeTable,
    seed: int,
    *,
    pitch: Mapping[str, float] | None = None,
    rule: SharingRule | None = None,
    probes: ProbeSettings | None = None,
) -> Section:
    """Measures sharing of the model's codebooks, one by one.

    Args:
        table: The code table.
        seed: Of all draws.
        pitch: Of utterances, Hz, to match voices by.
        rule: How sharing is decided.
        probes: How source and language are probed.

    Returns:
        The section, or why there is none.
    """
    if table.list_columns(MODEL) and not table.num_rows:
        return Section(title=SHARING, missing="there is no frame.")
    counts: dict[str, CodeCounts] = {
        f"codebook {number}": count_tables(table.read([*_COLUMNS, column]), [column])
        for number, column in enumerate(table.list_columns(MODEL))
    }
    voices = None if pitch is None else partial(group_by_pitch, pitch=pitch)
    return create_sharing_section(counts, seed, voices=voices, rule=rule, probes=probes)


def create_layers_of_samples(
    directory: Path, table: CodeTable, seed: int, settings: ProbeSettings | None = None
) -> Section:
    """Probes each layer that was kept and compares languages in the first, middle and last.

    Args:
        directory: Of the analysis.
        table: Its code table.
        seed: Of all draws: all layers see the same folds and permutations.
        settings: Of the probes.

    Returns:
        The section, or why there is none.
    """
    settings = settings or ProbeSettings()
    layers = list_layers(directory)
    probes: dict[str, list[ProbeResult]] = {}
    likeness = {}
    shown = {layers[place] for place in (0, len(layers) // 2, -1)} if layers else set()
    texts: tuple[_Texts, _Texts] | None = None
    names, alone = np.empty(0, dtype=np.str_), list[str]()
    for layer in layers:
        sample = read_layer(directory, layer)
        if texts is None:
            texts = _read_texts(table, sample.utterance_ids, sample.frame_rows)
        spoken, heard = texts
        families = np.array([get_family(one) or "" for one in spoken.language.tolist()])
        groups = spoken.get_groups()
        drawn = draw_rows(len(groups), _MAX_UTTERANCES, seed)
        for name, labels, owners in (
            ("language", spoken.language, groups),
            ("family", families, groups),
            ("source", spoken.source, groups),
            ("speaker", _draw_speakers(spoken.speaker[drawn], seed), spoken.utterance),
        ):
            rng = np.random.default_rng(seed)
            chosen = labels if name == "speaker" else labels[drawn]
            found = run_probe(sample.utterances[drawn], chosen, owners[drawn], rng, settings)
            probes.setdefault(name, []).append(found)
        known = np.flatnonzero(heard.phone != "")
        known = known[draw_rows(len(known), _MAX_FRAMES, seed)]
        few = replace(
            settings, num_permutations=min(settings.num_permutations, _PHONE_PERMUTATIONS)
        )
        frames = sample.frames[known].astype(np.float64)
        rng = np.random.default_rng(seed)
        found = run_probe(frames, heard.phone[known], heard.get_groups()[known], rng, few)
        probes.setdefault("phone", []).append(found)
        names, sizes = np.unique(spoken.language, return_counts=True)
        alone = names[sizes < 2].tolist()
        is_finite = np.isfinite(sample.utterances).all() and np.isfinite(sample.frames).all()
        if layer in shown and len(names) > len(alone) + 1 and is_finite:
            many, often = (~np.isin(one.language, alone) for one in texts)
            likeness[layer] = measure_likeness(
                sample.utterances[many],
                spoken.language[many],
                sample.frames[often],
                heard.language[often],
                heard.phone[often],
            )
    section = create_layer_section(layers, probes, likeness)
    if alone and len(names) > 1:
        section.limits.append(
            f"Layers say nothing about how like {', '.join(alone)} "
            f"{'is' if len(alone) == 1 else 'are'} to other languages: that needs two utterances."
        )
    return section


def _draw_speakers(speakers: NDArray[np.str_], seed: int) -> NDArray[np.str_]:
    """(U,) the same, but "" for all beyond some drawn speakers with two utterances or more."""
    names, counts = np.unique(speakers[speakers != ""], return_counts=True)
    names = names[counts > 1]
    kept = names[draw_rows(len(names), _MAX_SPEAKERS, seed)]
    return np.where(np.isin(speakers, kept), speakers, "")


def _read_texts(
    table: CodeTable, utterances: NDArray[np.str_], rows: NDArray[np.int64]
) -> tuple[_Texts, _Texts]:
    """Of the utterances named, and of the rows of the table."""
    first: dict[str, dict[str, str]] = {}
    at_rows: list[dict[str, str]] = []
    start = 0
    for piece in table.read(_COLUMNS):
        names = np.asarray(piece.column("utterance").to_numpy(), dtype=np.str_)
        places = np.unique(names, return_index=True)[1]
        first.update({one["utterance"]: one for one in _take(piece, places)})
        inside = rows[(rows >= start) & (rows < start + piece.num_rows)] - start
        at_rows += _take(piece, inside)
        start += piece.num_rows
    return _collect([first[name] for name in utterances.tolist()]), _collect(at_rows)


def _take(piece: pa.Table, places: NDArray[np.int64]) -> list[dict[str, str]]:
    return [
        {name: value or "" for name, value in row.items()}
        for row in piece.take(pa.array(places)).to_pylist()
    ]


def _collect(rows: list[dict[str, str]]) -> _Texts:
    return _Texts(**{name: np.array([row[name] for row in rows], dtype=str) for name in _COLUMNS})
