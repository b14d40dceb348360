"""What all concepts together say: medians, PNMI and usage of codebooks, codes across languages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechvq.analysis.code_phones import compute_chance, compute_perplexity
from speechvq.analysis.code_table import SILENCE
from speechvq.analysis.concept_files import ConceptKind, ConceptRow
from speechvq.analysis.concept_null import IntArray, adjust_p_values
from speechvq.analysis.concept_scores import ConceptCounts
from speechvq.analysis.concept_search import FloatArray
from speechvq.analysis.phones import compute_pnmi
from speechvq.nn.places import Place

PRECISE, RECALLED = 0.5, 0.1
PURE = 0.8


@dataclass(frozen=True, kw_only=True)
class CodebookFacts:
    """One codebook on test.

    Attributes:
        place: Of its bottleneck.
        head: Its number there.
        num_codes: V.
        num_dead: Codes that nothing chose, on dev or on test.
        perplexity: Of all slots.
        pnmi: Of the most similar code; None without two phones.
        pnmi_chance: Of random tables with the same totals.
        num_frequent: Codes that were chosen on dev and have enough frames with a known phone on
            test; 0 without phones.
        pure: Share of these of which `PURE` of the frames with a known phone have one phone, the
            one that is most frequent on dev; None without any.
        num_same: Codes whose most frequent phone is the same in all languages (two or more) in
            which they have enough frames; None with one language.
        num_different: Such codes with unlike phones.
    """

    place: Place
    head: int
    num_codes: int
    num_dead: int
    perplexity: float
    pnmi: float | None = None
    pnmi_chance: float | None = None
    num_frequent: int = 0
    pure: float | None = None
    num_same: int | None = None
    num_different: int | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        document = {key: value for key, value in vars(self).items() if key != "place"}
        return {"layer": self.place.layer, "site": str(self.place.site)} | document


def describe_codebook(
    place: Place,
    head: int,
    codes: tuple[IntArray, IntArray],
    num_codes: int,
    phones: IntArray | None,
    counts: tuple[ConceptCounts, ConceptCounts] | None,
    languages: IntArray,
    *,
    min_support: int,
    seed: int,
) -> CodebookFacts:
    """Computes the facts of one codebook.

    Args:
        place: Of its bottleneck.
        head: Its number there.
        codes: (N, k) of dev and of test, the most similar first.
        num_codes: V.
        phones: (N,) of test, below 0 where unknown; None without phones.
        counts: Of phones, on dev and test.
        languages: (N,) number of the language of each frame of test.
        min_support: Frames that a code needs, in each language where these are compared.
        seed: Of chance.
    """
    used = [np.bincount(one.reshape(-1), minlength=num_codes) for one in codes]
    facts = CodebookFacts(
        place=place,
        head=head,
        num_codes=num_codes,
        num_dead=int(((used[0] + used[1]) == 0).sum()),
        perplexity=compute_perplexity(used[1]),
    )
    if phones is None or counts is None:
        return facts
    known = phones >= 0
    num_phones = len(counts[1].labels)
    places = phones[known] * num_codes + codes[1][known, 0]
    table = np.bincount(places, minlength=num_phones * num_codes).reshape(num_phones, num_codes)
    table = table[table.sum(1) > 0][:, table.sum(0) > 0]
    if len(table) >= 2:
        chance = compute_chance(table, np.random.default_rng(seed))
        facts = replace(facts, pnmi=compute_pnmi(table), pnmi_chance=float(np.mean(chance)))
    main = counts[0].both.argmax(0)  # (V,) chosen on dev
    frames = counts[1].codes.numpy()
    hits = counts[1].both.gather(0, main[None])[0].numpy()
    seen = (frames >= min_support) & (counts[0].codes.numpy() > 0)
    if seen.any():
        pure = float((hits[seen] / frames[seen] >= PURE).mean())
        facts = replace(facts, pure=pure, num_frequent=int(seen.sum()))
    num_languages = int(languages.max(initial=0)) + 1
    if num_languages > 1:
        places = (languages[known, None] * num_phones + phones[known, None]) * num_codes
        cells = np.bincount(
            (places + codes[1][known]).reshape(-1),
            minlength=num_languages * num_phones * num_codes,
        ).reshape(num_languages, num_phones, num_codes)
        enough = cells.sum(1) >= min_support  # (J, V)
        mains = cells.argmax(1)
        both = enough.sum(0) >= 2
        low = np.where(enough, mains, num_phones).min(0)
        high = np.where(enough, mains, -1).max(0)
        same = both & (low == high)
        facts = replace(facts, num_same=int(same.sum()), num_different=int((both & ~same).sum()))
    return facts


def finish_rows(rows: Sequence[ConceptRow], worth: Sequence[float]) -> list[ConceptRow]:
    """Marks the best place of each concept, by what it was worth on dev, and adjusts p-values over
    all rows.
    """
    best: dict[tuple[str, str], int] = {}
    for number, row in enumerate(rows):
        key = (row.kind, row.concept)
        if key not in best or worth[number] > worth[best[key]]:
            best[key] = number
    adjusted: list[float | None] = [None] * len(rows)
    if rows and all(row.p is not None for row in rows):
        adjusted = list(adjust_p_values(np.array([row.p for row in rows])).tolist())
    chosen = set(best.values())
    return [
        replace(row, is_best_place=number in chosen, p_adjusted=adjusted[number])
        for number, row in enumerate(rows)
    ]


def summarize_kind(
    kind: ConceptKind,
    rows: Sequence[ConceptRow],
    nulls: Sequence[FloatArray],
    any_neurons: Mapping[str, float],
) -> dict[str, Any]:
    """The numbers of one kind, at the best place of each concept (chosen on dev); rare concepts and
    silence among phones are left out.

    Args:
        kind: Which.
        rows: All rows.
        nulls: Of each codebook (2, P, L), worth on dev and precision on test among permuted labels,
            L in the order of the rows of a codebook; none for concepts of utterances.
        any_neurons: By concept the precision of the best neuron of all layers, if it was measured.

    Returns:
        JSON values.
    """
    own = [row for row in rows if row.kind is kind]
    best = [row for row in own if row.is_best_place]
    shown = [row for row in best if is_counted(row)]
    tested = [row for row in own if row.p_adjusted is not None and not row.is_rare]
    document: dict[str, Any] = {
        "concepts": len(best),
        "rare": sum(row.is_rare for row in best),
        "measured": len(shown),
        "median_precision": _median([row.precision for row in shown]),
        "median_recall": _median([row.recall for row in shown]),
        "median_lift": _median([row.lift for row in shown]),
        "median_neuron_precision": _median([row.neuron_precision for row in shown]),
        "median_any_neuron_precision": _median([any_neurons.get(row.concept) for row in shown]),
        "median_union_precision": _median([row.union_precision for row in shown]),
        "median_union_recall": _median([row.union_recall for row in shown]),
        "share_precise": _share([is_precise(row) for row in shown]),
        "share_significant": _share([(row.p_adjusted or 0) <= 0.05 for row in tested]),
        "median_permuted_precision": None,
        "p": None,
    }
    if nulls and shown and nulls[0].shape[1]:
        medians = _compute_null_medians(nulls, own, shown)
        document["median_permuted_precision"] = float(medians.mean())
        reached = (medians >= document["median_precision"]).sum()
        document["p"] = float((1 + reached) / (1 + len(medians)))
    return document


def is_counted(row: ConceptRow) -> bool:
    """Whether a concept enters medians."""
    return not row.is_rare and not (row.kind is ConceptKind.phone and row.concept == SILENCE)


def is_precise(row: ConceptRow) -> bool:
    """Whether a code stands for the concept, on test."""
    return row.precision >= PRECISE and row.recall >= RECALLED


def summarize_codebooks(facts: Sequence[CodebookFacts]) -> dict[str, Any]:
    """Sums and shares over codebooks, JSON values."""
    num_codes = sum(one.num_codes for one in facts)
    pure = [
        (one.pure * one.num_frequent, one.num_frequent) for one in facts if one.pure is not None
    ]
    languages = [one for one in facts if one.num_same is not None]
    best = max(
        (one for one in facts if one.pnmi is not None), key=lambda one: one.pnmi or 0, default=None
    )
    return {
        "codes": num_codes,
        "frequent_codes": sum(one.num_frequent for one in facts),
        "dead_codes": sum(one.num_dead for one in facts),
        "median_perplexity": _median([one.perplexity for one in facts]),
        "best_pnmi": None if best is None else best.pnmi,
        "best_pnmi_chance": None if best is None else best.pnmi_chance,
        "share_pure": sum(a for a, _ in pure) / max(1, sum(b for _, b in pure)) if pure else None,
        "codes_same_phone_across_languages": sum(one.num_same or 0 for one in languages)
        if languages
        else None,
        "codes_different_phones_across_languages": sum(one.num_different or 0 for one in languages)
        if languages
        else None,
    }


def _compute_null_medians(
    nulls: Sequence[FloatArray], own: Sequence[ConceptRow], shown: Sequence[ConceptRow]
) -> NDArray[np.float64]:
    """(P,) the median of each permutation, places chosen on its own dev."""
    joint = np.stack(nulls)  # (B, 2, P, L)
    names = [row.concept for row in own[: joint.shape[3]]]
    columns = [names.index(row.concept) for row in shown]
    best = joint[:, 0].argmax(0)  # (P, L)
    picked = np.take_along_axis(joint[:, 1], best[None], axis=0)[0]
    return np.asarray(np.median(picked[:, columns], axis=1))


def _median(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.median(present)) if present else None


def _share(values: Sequence[bool]) -> float | None:
    return sum(values) / len(values) if values else None
