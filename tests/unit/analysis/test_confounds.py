"""A source that looks like a language is flagged; language that is language is not."""

from __future__ import annotations

import numpy as np
import pytest

from speechvq.analysis.code_counts import CodeCounts, count_codes
from speechvq.analysis.confounds import (
    SourceComparison,
    SourceVerdict,
    compare_with_source,
    compute_code_features,
    match_groups,
    measure_sharing_within_sources,
)
from speechvq.analysis.probes import ProbeSettings
from speechvq.analysis.sharing import measure_sharing
from speechvq.analysis.sharing_rule import Decision, SharingRule
from tests.support.code_tables import (
    Assign,
    assign_by_language,
    assign_by_source,
    assign_shared,
    create_columns,
    create_counts,
    mix,
)

NAMES, SOURCES = ["aaa_Latn", "bbb_Latn"], ["radio", "phone"]
QUICK = SharingRule(num_resamples=30, num_permutations=19, num_splits=2)
QUICK_PROBES = ProbeSettings(num_permutations=5, num_resamples=50)
CROSSED = {NAMES[0]: {"radio": 16, "phone": 4}, NAMES[1]: {"radio": 4, "phone": 16}}


def create(languages: dict[str, dict[str, int]], assign: Assign) -> CodeCounts:
    return create_counts(np.random.default_rng(0), languages, assign, num_phones=4)


def compare(counts: CodeCounts) -> SourceComparison:
    return compare_with_source(
        compute_code_features(counts),
        counts.languages,
        counts.sources,
        counts.speakers,
        0,
        QUICK_PROBES,
    )


def test_planted_source_is_flagged() -> None:
    """Codes follow the source alone. Language is read too, as most of A is from the radio."""
    found = compare(create(CROSSED, assign_by_source(SOURCES)))
    assert found.verdict is SourceVerdict.SOURCE
    assert found.verdict.is_warning
    assert found.language.accuracy.value > 0.6
    assert set(found.source_within) == set(NAMES)
    for probe in found.language_within.values():
        assert probe.accuracy.value < 0.8
    assert found.sentence.startswith("Source is as readable as language: language 0.")
    assert "permuted" in found.sentence


def test_planted_language_is_not() -> None:
    found = compare(create(CROSSED, assign_by_language(NAMES)))
    assert found.verdict is SourceVerdict.LANGUAGE
    assert not found.verdict.is_warning


def test_unlike_phones_do_not_hide_a_source() -> None:
    """Languages that use their phones unlike are told by any codes, but that is no difference of
    the codes of a phone.
    """
    half = mix(assign_shared(48), assign_by_source(SOURCES), 0.5)
    columns = create_columns(np.random.default_rng(0), CROSSED, half, num_phones=6)
    number = np.array([int(phone[1:]) for phone in columns["phone"].tolist()])
    weight = np.where(columns["language"] == NAMES[0], number, 5 - number)
    kept = np.random.default_rng(1).random(len(number)) < (1 + weight) / 6
    counts = count_codes(**{name: column[kept] for name, column in columns.items()})
    found = compare(counts)
    assert found.verdict is SourceVerdict.SOURCE
    shares = counts.sum_codes() / counts.sum_codes().sum(1, keepdims=True)
    pooled = compare_with_source(
        np.sqrt(shares), counts.languages, counts.sources, counts.speakers, 0, QUICK_PROBES
    )
    assert pooled.language.accuracy.value > found.language.accuracy.value + 0.1


def test_a_source_that_few_speakers_of_a_language_have_is_flagged() -> None:
    """Two of eight speakers are too few to learn the source from within a language; over all
    languages it is plain, and language is not.
    """
    rng = np.random.default_rng(0)
    speaker = np.repeat(np.arange(48), 2)
    language = speaker // 8
    is_far = (speaker % 8 < 2) ^ (language % 2 == 1)
    features = rng.normal(size=(96, 40))
    features[:, 0] += 3.0 * is_far
    found = compare_with_source(
        features,
        [f"l{number}" for number in language],
        np.where(is_far, "far", "near"),
        [f"s{number}" for number in speaker],
        0,
        QUICK_PROBES,
    )
    assert found.source.skill.low > 0.5
    assert all(probe.skill.low < 0.0 for probe in found.source_within.values())
    assert found.verdict is SourceVerdict.SOURCE


def test_sources_and_languages_that_change_nothing_are_no_doubt() -> None:
    counts = create_counts(
        np.random.default_rng(0), CROSSED, assign_shared(), num_phones=4, concentration=1000.0
    )
    found = compare(counts)
    assert found.verdict is SourceVerdict.NEITHER
    assert not found.verdict.is_warning


def test_a_source_for_each_language_cannot_be_told_from_language() -> None:
    languages = {NAMES[0]: {"radio": 5}, NAMES[1]: {"phone": 5}}
    found = compare(create(languages, assign_by_language(NAMES)))
    assert found.verdict is SourceVerdict.CONFOUNDED
    assert found.language_within == found.source_within == {}
    one = compare(create({name: {"radio": 5} for name in NAMES}, assign_by_language(NAMES)))
    assert one.verdict is SourceVerdict.ONE_SOURCE
    assert not one.verdict.is_warning


def test_what_a_source_hides_is_found_within_it() -> None:
    """Same phones, same codes, but each source has its own: over all sources, languages that were
    recorded apart seem to share little.
    """
    languages = {NAMES[0]: {"radio": 12, "phone": 5}, NAMES[1]: {"radio": 5, "phone": 60}}
    counts = create(languages, assign_by_source(SOURCES))
    overall = measure_sharing(counts, NAMES[0], NAMES[1], np.random.default_rng(0), QUICK)
    inside = measure_sharing_within_sources(counts, np.random.default_rng(0), QUICK)
    assert set(inside) == set(SOURCES)
    for pairs in inside.values():
        assert [pair.decision for pair in pairs] == [Decision.SHARED]
        assert pairs[0].index.value == pytest.approx(1.0, abs=0.1)
    assert overall.index.value < 0.7
    apart = create({NAMES[0]: {"radio": 5}, NAMES[1]: {"phone": 5}}, assign_shared())
    assert measure_sharing_within_sources(apart, np.random.default_rng(0), QUICK) == {}


def test_matched_groups_hold_as_many_of_each_language() -> None:
    half = mix(assign_shared(48), assign_by_language(NAMES), 0.5)
    counts = create({NAMES[0]: {"radio": 6}, NAMES[1]: {"radio": 4}}, half)
    sexes = np.array(["f", "m"])[[int(name[-1]) % 2 for name in counts.speakers.tolist()]]
    sexes[counts.speakers == "aaa_Latn-radio-1"] = "f"
    sexes[0] = ""
    matched = match_groups(counts, sexes, NAMES, np.random.default_rng(0))
    label = dict(zip(counts.utterances.tolist(), sexes.tolist(), strict=True))
    table = {
        (name, sex): sum(
            label[one] == sex for one in matched.utterances[matched.languages == name].tolist()
        )
        for name in NAMES
        for sex in ("f", "m", "")
    }
    assert table == {
        **{(name, "f"): 4 for name in NAMES},
        **{(name, "m"): 4 for name in NAMES},
        **{(name, ""): 0 for name in NAMES},
    }
    assert len(match_groups(counts, sexes, [*NAMES, "ccc"], np.random.default_rng(0)).counts) == 0
