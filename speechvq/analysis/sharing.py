"""Does a phone have the same codes in two languages? For every phone, with nulls and intervals.

`speechvq.analysis.sharing_rule` says what is measured and how it is decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from speechvq.analysis.code_counts import (
    SILENCE,
    UNKNOWN,
    CodeCounts,
    choose_unit,
    form_units,
    match_units,
)
from speechvq.analysis.halves import (
    Counts,
    average_known,
    compare_halves,
    draw_references,
    permute_languages,
    permute_phones,
)
from speechvq.analysis.sharing_rule import (
    ACROSS,
    DIFFERENT,
    WITHIN,
    PairSharing,
    PhoneSharing,
    SharingRule,
    decide,
    estimate_excess,
)


def list_common_phones(counts: CodeCounts, first: str, second: str) -> list[str]:
    """Returns the phones that both languages have, without silence and unaligned frames.

    Args:
        counts: The table.
        first: A language.
        second: Another.
    """
    of_cells = counts.languages[counts.cells[:, 0]]
    found = [
        set(counts.phones[np.unique(counts.cells[of_cells == language, 1])].tolist())
        for language in (first, second)
    ]
    return sorted((found[0] & found[1]) - {UNKNOWN, SILENCE})


def measure_all_sharing(
    counts: CodeCounts,
    rng: np.random.Generator,
    rule: SharingRule | None = None,
    languages: Sequence[str] | None = None,
) -> list[PairSharing]:
    """Measures each pair of languages.

    Args:
        counts: Codes by utterance and phone, of one codebook or all.
        rng: Source of splits, samples and permutations.
        rule: How it is decided; None for the defaults.
        languages: Which; None for all, in the order of their codes.

    Returns:
        One result a pair; none where there is one language only.
    """
    names = sorted(set(counts.languages.tolist())) if languages is None else languages
    return [measure_sharing(counts, *pair, rng, rule) for pair in combinations(names, 2)]


def measure_sharing(
    counts: CodeCounts,
    first: str,
    second: str,
    rng: np.random.Generator,
    rule: SharingRule | None = None,
) -> PairSharing:
    """Measures for every phone of two languages whether its codes are the same.

    Args:
        counts: Codes by utterance and phone, of one codebook or all.
        first: A language.
        second: Another.
        rng: Source of splits, samples and permutations.
        rule: How it is decided; None for the defaults.

    Returns:
        All common phones, also those that are too rare; with too few of them for a comparison the
        result is undecided and says why.
    """
    rule = rule or SharingRule()
    unit = choose_unit(counts, (first, second))
    names = list_common_phones(counts, first, second)
    sides, owners = [], []
    for language in (first, second):
        rows, found = form_units(counts, language, unit)
        sides.append(counts.sum_by(rows, len(found), names))
        owners.append(found)
    *orders, num_common = match_units(*owners)
    sides = [side[order] for side, order in zip(sides, orders, strict=True)]
    num_units = (len(sides[0]), len(sides[1]))
    units = np.stack([(side.sum(2) > 0).sum(0) for side in sides], axis=1)  # (P, 2)
    frames = np.stack([side.sum((0, 2)) for side in sides], axis=1).astype(np.int64)
    phones = [
        PhoneSharing(
            phone=name,
            units=(int(units[place, 0]), int(units[place, 1])),
            frames=(int(frames[place, 0]), int(frames[place, 1])),
            reason=f"fewer than {rule.min_units} {unit}s or {rule.min_frames} frames",
        )
        for place, name in enumerate(names)
    ]
    enough = ((units >= rule.min_units) & (frames >= rule.min_frames)).all(1)
    kept = np.flatnonzero(enough)
    if len(kept) < rule.min_phones:
        return PairSharing(
            languages=(first, second),
            unit=unit,
            num_units=num_units,
            num_common=num_common,
            phones=phones,
            reason=f"{len(kept)} phones occur often enough in both, {rule.min_phones} are needed",
        )
    used = np.flatnonzero(np.sum([side[:, kept].sum((0, 1)) for side in sides], axis=0))
    a, b = (np.ascontiguousarray(side[:, kept][..., used]) for side in sides)
    figures, samples = _bootstrap(a, b, num_common, rng, rule)
    observed, permuted = permute_languages(a, b, rule.num_permutations, rng, num_common=num_common)
    for place, index in enumerate(kept.tolist()):
        one, few = figures[:, place], samples[..., place]
        estimate, decision, reason = decide(one, few, min(phones[index].units), rule)
        null = permuted[:, place]
        phones[index] = PhoneSharing(
            phone=phones[index].phone,
            units=phones[index].units,
            frames=phones[index].frames,
            within=float(one[WITHIN]),
            across=float(one[ACROSS]),
            different=float(one[DIFFERENT]),
            excess=estimate_excess(one, few, min(phones[index].units), rule.level),
            index=estimate,
            observed=float(observed[place]),
            permuted=float(np.nanmean(null)),
            p_value=float((1 + (null >= observed[place] - 1e-9).sum()) / (1 + len(null))),
            decision=decision,
            reason=reason,
        )
    pooled = np.stack([average_known(sample.T) for sample in samples])  # (R, 3)
    estimate, decision, reason = decide(average_known(figures.T), pooled, min(num_units), rule)
    bits, null_bits, p_value = permute_phones(a, b, rule.num_permutations, rng)
    return PairSharing(
        languages=(first, second),
        unit=unit,
        num_units=num_units,
        num_common=num_common,
        phones=phones,
        index=estimate,
        decision=decision,
        reason=reason,
        matching_bits=bits,
        matching_null=null_bits,
        matching_p_value=p_value,
    )


def _bootstrap(
    first: Counts, second: Counts, num_common: int, rng: np.random.Generator, rule: SharingRule
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(3, P) within, across, different in bits; and (R, 3, P) of bootstrap samples."""
    references, size = draw_references(first, second, rule.max_references, rng)

    def compare(num_splits: int, *, resample: bool) -> NDArray[np.float64]:
        return compare_halves(
            first,
            second,
            references,
            size,
            num_splits,
            rng,
            num_common=num_common,
            resample=resample,
        )

    figures = compare(4 * rule.num_splits, resample=False)
    samples = [compare(rule.num_splits, resample=True) for _ in range(rule.num_resamples)]
    return figures, np.stack(samples)
