"""The section of a report on sharing: is it language or source, which phones, which codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from speechvq.analysis.code_counts import CodeCounts
from speechvq.analysis.confounds import (
    SourceComparison,
    SourceVerdict,
    compare_with_source,
    compute_code_features,
    measure_sharing_matched,
    measure_sharing_within_sources,
)
from speechvq.analysis.intervals import Estimate
from speechvq.analysis.probes import ProbeSettings, draw_rows
from speechvq.analysis.section import Figure, Section, Table
from speechvq.analysis.sharing import measure_all_sharing
from speechvq.analysis.sharing_rule import Decision, PairSharing, SharingRule
from speechvq.analysis.usage import CodeUsage, measure_usage
from speechvq.decoding.bootstrap import BootstrapUnit
from speechvq.reporting.cells import Cell, Value, round_number
from speechvq.reporting.charts import draw_heat_map
from speechvq.reporting.dendrogram import draw_dendrogram

TITLE = "Codes shared across languages"
_MAX_PROBED_UTTERANCES = 4000
_TONES = {Decision.SHARED: "good", Decision.NOT_SHARED: "bad", Decision.UNDECIDED: "note"}


def create_sharing_section(
    counts: Mapping[str, CodeCounts],
    seed: int,
    *,
    voices: Callable[[CodeCounts], NDArray[np.str_]] | None = None,
    rule: SharingRule | None = None,
    probes: ProbeSettings | None = None,
) -> Section:
    """Measures sharing with its controls and writes it down.

    Args:
        counts: By the name of a codebook ("codebook 0") or of all together; the first stands in
            the findings. Empty for a model without codes.
        seed: Of all draws.
        voices: Tells low from high voices, (U,) "low", "high" or ""; None leaves that control out.
        rule: How sharing is decided.
        probes: How source and language are probed.

    Returns:
        The section; it says why where there are no codes, or one language.
    """
    if not counts:
        return Section(title=TITLE, missing="the model has no quantiser, so there are no codes.")
    languages = sorted({one for table in counts.values() for one in set(table.languages.tolist())})
    if len(languages) < 2:
        return Section(title=TITLE, missing=f"there is one language only, {languages[0]}.")
    rule = rule or SharingRule()
    name, table = next(iter(counts.items()))
    some = np.zeros(len(table.utterances), dtype=bool)
    some[draw_rows(len(some), _MAX_PROBED_UTTERANCES, seed)] = True
    probed = table.select(some)
    groups = np.where(probed.speakers == "", probed.utterances, probed.speakers)
    sources = compare_with_source(
        compute_code_features(probed), probed.languages, probed.sources, groups, seed, probes
    )
    pairs = {
        key: measure_all_sharing(one, np.random.default_rng(seed), rule)
        for key, one in counts.items()
    }
    within = {}
    if sources.verdict is not SourceVerdict.ONE_SOURCE:
        within = measure_sharing_within_sources(table, np.random.default_rng(seed), rule)
    matched = []
    if voices is not None:
        rng = np.random.default_rng(seed)
        matched = measure_sharing_matched(table, voices(table), rng, rule)
    usage = measure_usage(table, np.random.default_rng(seed))
    section = Section(
        title=TITLE,
        limits=_list_limits(sources, pairs[name]),
        is_doubt=sources.verdict.is_warning,
    )
    finding = describe_sharing(pairs[name], rule)
    if len(pairs) > 1:
        finding += f" This and what follows is {name}, the first of {len(pairs)}."
    if sources.verdict.is_warning:
        finding = f"{sources.sentence} So, with this doubt: {finding[:1].lower()}{finding[1:]}"
        section.warnings.append(sources.sentence)
    section.findings.append(finding)
    if not sources.verdict.is_warning:
        section.findings.append(sources.sentence)
    section.findings.extend(
        f"Within the source {source}: {describe_sharing(found, rule)}"
        for source, found in within.items()
    )
    if matched:
        section.findings.append(
            "With as many low voices as high ones in both languages: "
            f"{describe_sharing(matched, rule)}"
        )
    section.findings.append(describe_usage(usage))
    for key, found in pairs.items():
        section.tables.extend(create_tables(key, found))
    if len(usage.compared) > 1:
        section.figures.extend(_draw_languages(usage))
    section.limits.extend(_list_alone(usage))
    section.numbers.update(
        {
            "rule": asdict(rule),
            "source": asdict(sources),
            "pairs": {key: [asdict(pair) for pair in found] for key, found in pairs.items()},
            "pairs_within_source": {
                source: [asdict(pair) for pair in found] for source, found in within.items()
            },
            "pairs_matched_voices": [asdict(pair) for pair in matched],
            "usage": usage.to_json(),
        }
    )
    return section


def describe_sharing(pairs: Sequence[PairSharing], rule: SharingRule) -> str:
    """Returns the finding in a sentence or two, with its nulls and n.

    Args:
        pairs: Pairs of languages.
        rule: How it was decided.
    """
    measured = [pair for pair in pairs if np.isfinite(pair.index.value)]
    total = sum(len(pair.phones) for pair in pairs)
    if not total:
        return "No phone is known in two languages, so nothing is said about sharing."
    counted = {one: sum(pair.count(one) for pair in pairs) for one in Decision}
    text = (
        f"Of {total} comparisons of a phone in two languages ({len(pairs)} pairs of languages), "
        f"{counted[Decision.SHARED]} say that codes are shared, {counted[Decision.NOT_SHARED]} "
        f"that they are not, and {counted[Decision.UNDECIDED]} cannot be told"
    )
    if not measured:
        return f"{text}."
    nearest = max(measured, key=lambda pair: pair.index.value)
    farthest = min(measured, key=lambda pair: pair.index.value)
    shown = [nearest] if nearest is farthest else [nearest, farthest]
    details = "; ".join(
        f"{'–'.join(pair.languages)}: index {format_estimate(pair.index)}, same phones "
        f"{pair.matching_bits:.2f} bits apart, phones paired at random {pair.matching_null:.2f} "
        f"(p = {pair.matching_p_value:.2g}), n = {_count_units(pair)}"
        for pair in shown
    )
    return (
        f"{text}. On a scale from 0 (as far as another phone) to 1 (as near as within a "
        f"language), where above {rule.threshold:g} counts as shared, {details}."
    )


def describe_usage(usage: CodeUsage) -> str:
    """Returns how languages use codes, in words.

    Args:
        usage: What was measured.
    """
    tree = usage.tree
    text = (
        f"{usage.num_shared} of {usage.num_used} codes are used by two languages or more (with "
        f"{usage.min_frames} of {usage.num_frames:,} frames each; {usage.num_shared_null:.0f} if "
        f"languages were permuted by {usage.unit}). A code leaves {usage.mean_entropy:.2f} bits of "
        f"doubt about the language, of {np.log2(len(usage.languages)):.2f} "
        f"({usage.mean_entropy_null:.2f} permuted, p = {usage.entropy_p_value:.2g})"
    )
    if not np.isfinite(tree.correlation):
        return f"{text}. The languages are too few, or too much akin, to compare with families."
    return (
        f"{text}. Distances of languages by their codes follow the family tree with a correlation "
        f"of {tree.correlation:.2f} (p = {tree.p_value:.2g}, {tree.num_pairs} pairs)."
    )


def create_tables(name: str, pairs: Sequence[PairSharing]) -> list[Table]:
    """Returns the table of language pairs and that of their phones; none without common phones.

    Args:
        name: The codebook.
        pairs: Pairs of languages.
    """
    pair_rows: list[list[Cell | Value]] = []
    phone_rows: list[list[Cell | Value]] = []
    for pair in pairs:
        title = "–".join(pair.languages)
        pair_rows.append(
            [
                title,
                *(pair.count(one) for one in Decision),
                _show(pair.index),
                Cell(value=str(pair.decision), tone=_TONES[pair.decision]),
                *(round_number(one) for one in (pair.matching_bits, pair.matching_null)),
                round_number(pair.matching_p_value),
                _count_units(pair),
                pair.reason,
            ]
        )
        phone_rows += [
            [
                title,
                phone.phone,
                *(round_number(one) for one in (phone.within, phone.across, phone.different)),
                _show(phone.excess),
                _show(phone.index),
                *(round_number(one) for one in (phone.observed, phone.permuted, phone.p_value)),
                min(phone.units),
                min(phone.frames),
                Cell(value=str(phone.decision), tone=_TONES[phone.decision]),
                phone.reason,
            ]
            for phone in pair.phones
        ]
    pair_columns = ["languages", *(str(one) for one in Decision), "index (95 %)", "together"]
    pair_columns += ["bits, same phones", "bits, paired at random", "p", "n", "why undecided"]
    phone_columns = ["languages", "phone", "within", "across", "different", "across − within"]
    phone_columns += ["index", "all of A and B", "permuted", "p", "least n", "least frames"]
    phone_columns += ["decision", "why undecided"]
    if not phone_rows:
        return []
    return [
        Table(columns=pair_columns, rows=pair_rows, caption=f"Pairs of languages, {name}."),
        Table(
            columns=phone_columns,
            rows=phone_rows,
            caption=f"Phones, {name}: divergences in bits between halves of like size; all of A "
            "and B against language labels permuted.",
        ),
    ]


def format_estimate(estimate: Estimate) -> str:
    """Returns "0.81 (95 % 0.74–0.88)".

    Args:
        estimate: A figure with its interval.
    """
    if not np.isfinite(estimate.value):
        return "unknown"
    return f"{estimate.value:.2f} (95 % {estimate.low:.2f}–{estimate.high:.2f})"


def _count_units(pair: PairSharing) -> str:
    first, second = pair.num_units
    same = f", {pair.num_common} of them the same" if pair.unit is BootstrapUnit.SPEAKER else ""
    return f"{first} and {second} {pair.unit}s" + (same if pair.num_common else "")


def _draw_languages(usage: CodeUsage) -> list[Figure]:
    order = usage.dendrogram.order
    names = [usage.compared[place] for place in order]
    picture = draw_heat_map(
        usage.distances[np.ix_(order, order)],
        row_labels=names,
        column_labels=names,
        color_label="bits beyond within",
    )
    tree = draw_dendrogram(
        usage.dendrogram.merges, order, usage.compared, x_label="bits beyond those within"
    )
    return [
        Figure(
            picture=picture,
            caption="How far apart languages are in their use of codes, in the order of the "
            "dendrogram. About 0: as near as two halves of one language.",
            alt="Matrix of distances between languages",
        ),
        Figure(
            picture=tree,
            caption="The same as a dendrogram (average linkage).",
            alt="Dendrogram of languages by their codes",
        ),
    ]


def _list_limits(sources: SourceComparison, pairs: Sequence[PairSharing]) -> list[str]:
    limits = [
        "Each phone is decided at 95 %, so that of 40 phones at the very threshold one or two are "
        "decided by chance. The index is of these speakers and these recordings."
    ]
    if any(pair.unit == "utterance" for pair in pairs):
        limits.append(
            "Where speakers are few or unknown, utterances were drawn instead: differences between "
            "speakers then count as differences between languages."
        )
    if sources.verdict.is_warning:
        limits.append(
            f"{sources.verdict[:1].upper()}{sources.verdict[1:]}: what is said to differ between "
            "languages may differ between recordings."
        )
    return limits


def _list_alone(usage: CodeUsage) -> list[str]:
    alone = [name for name in usage.languages if name not in usage.compared]
    if len(usage.compared) < 2:
        alone = usage.languages
    if not alone:
        return []
    return [
        f"How far {', '.join(alone)} {'is' if len(alone) == 1 else 'are'} from other languages in "
        f"the use of codes is not known: that needs two {usage.unit}s of each language."
    ]


def _show(estimate: Estimate) -> Cell:
    known = np.isfinite(estimate.value)
    text = f"{estimate.value:.2f} ({estimate.low:.2f}–{estimate.high:.2f})" if known else ""
    return Cell(value=estimate.value if known else None, text=text)
