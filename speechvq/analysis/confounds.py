"""Is it language, or where the recordings are from? Controls for what travels with language.

Where each language has a source of its own, differences of channel, style and speakers look like
differences of language, and no statistic can tell. Three controls: a probe for the source beside
the one for the language (`compare_with_source`), the same analysis within each source that holds
several languages (`measure_sharing_within_sources`), and groups matched by what else differs, such
as sex or pitch (`match_groups`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechvq.analysis.code_counts import CodeCounts
from speechvq.analysis.divergence import normalize
from speechvq.analysis.intervals import Estimate
from speechvq.analysis.probes import ProbeResult, ProbeSettings, run_probe
from speechvq.analysis.sharing import measure_all_sharing, measure_sharing
from speechvq.analysis.sharing_rule import PairSharing, SharingRule


class SourceVerdict(StrEnum):
    """What the two probes say."""

    LANGUAGE = "language is more readable than source"
    SOURCE = "source is as readable as language"
    CONFOUNDED = "language and source cannot be told apart"
    NEITHER = "neither language nor source can be read from the codes of the phones"
    ONE_SOURCE = "there is one source only"
    UNDECIDED = "too few speakers to tell language from source"

    @property
    def is_warning(self) -> bool:
        """Whether results about languages must not be believed without this sentence."""
        return self in (SourceVerdict.SOURCE, SourceVerdict.CONFOUNDED, SourceVerdict.UNDECIDED)


@dataclass(frozen=True, kw_only=True)
class SourceComparison:
    """Probes for language and for source.

    Attributes:
        language: Probe for the language, over all sources.
        source: Probe for the source, over all languages.
        language_within: Probe for the language, within each source that holds several.
        source_within: Probe for the source, within each language that has several.
        verdict: What follows.
        sentence: The same in words with numbers, for the first lines of a report.
    """

    language: ProbeResult
    source: ProbeResult
    language_within: dict[str, ProbeResult]
    source_within: dict[str, ProbeResult]
    verdict: SourceVerdict
    sentence: str


def compute_code_features(counts: CodeCounts) -> NDArray[np.float64]:
    """Pooled codes of each utterance beyond what its phones explain, as vectors.

    Languages differ in how often they use their phones, and that alone would make them readable,
    also where every phone has the same codes everywhere: no source would ever be as readable. So
    from the square roots of the shares of codes (whose distances are those of Hellinger) are taken
    those of the shares that the utterance's phones lead one to expect, over all languages. Where no
    phone is known, that is one and the same for all.

    Args:
        counts: The table.

    Returns:
        (U, C).
    """
    shape = (len(counts.utterances), len(counts.phones), len(counts.codes))
    utterance, phone, code = counts.cells.T
    met, said = np.zeros(shape[1:]), np.zeros(shape[:2])
    np.add.at(met, (phone, code), counts.counts)
    np.add.at(said, (utterance, phone), counts.counts)
    expected = np.nan_to_num(normalize(said)) @ np.nan_to_num(normalize(met))  # (U, C)
    shares = np.nan_to_num(normalize(counts.sum_codes()))
    return np.asarray(np.sqrt(shares) - np.sqrt(expected))


def compare_with_source(
    features: ArrayLike,
    languages: ArrayLike,
    sources: ArrayLike,
    groups: ArrayLike,
    seed: int,
    settings: ProbeSettings | None = None,
) -> SourceComparison:
    """Compares how readable source and language are.

    The fair comparison holds one of them fixed: language within a source, source within a language.
    SOURCE is said where the mean skill of the second reaches the lower end of the first (or of
    language over all, where no language has two sources but each source holds several); NEITHER,
    where it does so because the intervals of both hold chance, and that of the source over all.
    CONFOUNDED, where every source holds one language only: then whatever tells sources apart tells
    languages apart too.

    Args:
        features: (U, D), one row an utterance, such as `compute_code_features`.
        languages: (U,).
        sources: (U,).
        groups: (U,) speakers, or utterances.
        seed: Of each probe's random numbers.
        settings: Of the probes.
    """
    values, names = np.asarray(features, dtype=np.float64), np.asarray(languages, dtype=str)
    origins, owners = np.asarray(sources, dtype=str), np.asarray(groups, dtype=str)

    def probe(labels: NDArray[np.str_], kept: NDArray[np.bool_]) -> ProbeResult:
        rng = np.random.default_rng(seed)
        return run_probe(values[kept], labels[kept], owners[kept], rng, settings)

    everything = np.ones(len(names), dtype=bool)
    language, source = probe(names, everything), probe(origins, everything)
    language_within = {
        one: found
        for one in np.unique(origins).tolist()
        if not (found := probe(names, origins == one)).reason
    }
    source_within = {
        one: found
        for one in np.unique(names).tolist()
        if not (found := probe(origins, names == one)).reason
    }
    is_mixed = any(len(np.unique(names[origins == one])) > 1 for one in np.unique(origins))
    verdict = _judge(language, source, language_within, source_within, is_mixed=is_mixed)
    if len(np.unique(origins)) < 2:
        verdict = SourceVerdict.ONE_SOURCE
    return SourceComparison(
        language=language,
        source=source,
        language_within=language_within,
        source_within=source_within,
        verdict=verdict,
        sentence=_describe(verdict, language, source, language_within, source_within),
    )


def measure_sharing_within_sources(
    counts: CodeCounts, rng: np.random.Generator, rule: SharingRule | None = None
) -> dict[str, list[PairSharing]]:
    """Measures sharing between languages within each source that holds several.

    Args:
        counts: The table.
        rng: Source of splits, samples and permutations.
        rule: How it is decided.

    Returns:
        Pairs of languages by source; empty where every source holds one language.
    """
    found = {}
    for source in np.unique(counts.sources).tolist():
        part = counts.select(counts.sources == source)
        if len(np.unique(part.languages)) > 1:
            found[source] = measure_all_sharing(part, rng, rule)
    return found


def measure_sharing_matched(
    counts: CodeCounts,
    groups: ArrayLike,
    rng: np.random.Generator,
    rule: SharingRule | None = None,
) -> list[PairSharing]:
    """Measures each pair of languages on as many utterances of each group in both.

    Args:
        counts: The table.
        groups: (U,) such as sex or a range of pitch; "" where it is not known.
        rng: Source of choices, splits, samples and permutations.
        rule: How it is decided.

    Returns:
        The pairs that have a group in common.
    """
    found = []
    for pair in combinations(sorted(set(counts.languages.tolist())), 2):
        matched = match_groups(counts, groups, pair, rng)
        if len(matched.counts):
            found.append(measure_sharing(matched, *pair, rng, rule))
    return found


def match_groups(
    counts: CodeCounts, groups: ArrayLike, languages: Sequence[str], rng: np.random.Generator
) -> CodeCounts:
    """Keeps as many utterances of each group in each language: of the women, of the low voices.

    Args:
        counts: The table.
        groups: (U,) such as sex or a range of pitch; "" where it is not known: left out.
        languages: Which languages are matched; the others are left out.
        rng: Draws the utterances that stay.

    Returns:
        A smaller table; without utterances where no group occurs in all languages.
    """
    labels = np.asarray(groups, dtype=str)
    keep = np.zeros(len(labels), dtype=bool)
    for group in np.unique(labels[labels != ""]):
        members = [
            np.flatnonzero((labels == group) & (counts.languages == one)) for one in languages
        ]
        size = min(map(len, members))
        for one in members:
            keep[rng.permutation(one)[:size]] = True
    return counts.select(keep)


def _judge(
    language: ProbeResult,
    source: ProbeResult,
    language_within: dict[str, ProbeResult],
    source_within: dict[str, ProbeResult],
    *,
    is_mixed: bool,
) -> SourceVerdict:
    if not is_mixed:
        return SourceVerdict.CONFOUNDED
    if language_within and source_within:
        readable, rival = _average(language_within), _average(source_within)
    elif language_within and not source.reason:
        readable, rival = _average(language_within), source.skill
    elif source_within and not language.reason:
        readable, rival = language.skill, _average(source_within)
    else:
        return SourceVerdict.UNDECIDED
    if rival.value < readable.low:
        return SourceVerdict.LANGUAGE
    is_noise = not any(one.low > 0.0 for one in (readable, rival, source.skill))
    return SourceVerdict.NEITHER if is_noise else SourceVerdict.SOURCE


def _average(probes: dict[str, ProbeResult]) -> Estimate:
    """Mean skill, its ends those of independent probes."""
    skills = [probe.skill for probe in probes.values()]
    value = float(np.mean([skill.value for skill in skills]))
    count = len(skills)
    below = float(np.sqrt(sum((skill.value - skill.low) ** 2 for skill in skills))) / count
    above = float(np.sqrt(sum((skill.high - skill.value) ** 2 for skill in skills))) / count
    return Estimate(value=value, low=value - below, high=value + above)


def _describe(
    verdict: SourceVerdict,
    language: ProbeResult,
    source: ProbeResult,
    language_within: dict[str, ProbeResult],
    source_within: dict[str, ProbeResult],
) -> str:
    parts = [
        f"{name} {probe.accuracy.value:.2f} (95 % {probe.accuracy.low:.2f}–"
        f"{probe.accuracy.high:.2f}, chance {probe.chance:.2f}, permuted {probe.null_mean:.2f}, "
        f"n = {probe.num_groups})"
        for name, probe in (("language", language), ("source", source))
        if not probe.reason
    ]
    for name, held, probes in (
        ("language", "source", language_within),
        ("source", "language", source_within),
    ):
        if probes:
            skill = _average(probes)
            parts.append(
                f"{name} within one {held} {skill.value:.2f} of the way from chance to always right"
            )
    text = str(verdict)
    return f"{text[:1].upper()}{text[1:]}" + (f": {'; '.join(parts)}." if parts else ".")
