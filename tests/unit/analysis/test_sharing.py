"""Tables made so that the answer is known: what is planted is found, what is not is not."""

from __future__ import annotations

import numpy as np
import pytest

from speechvq.analysis.code_counts import CodeCounts
from speechvq.analysis.divergence import compute_divergence
from speechvq.analysis.halves import compare_halves, permute_languages
from speechvq.analysis.intervals import _compute_expansion
from speechvq.analysis.sharing import list_common_phones, measure_all_sharing, measure_sharing
from speechvq.analysis.sharing_rule import (
    Decision,
    PairSharing,
    SharingRule,
)
from speechvq.decoding.bootstrap import BootstrapUnit
from tests.support.code_tables import (
    Assign,
    assign_by_language,
    assign_nothing,
    assign_shared,
    create_counts,
    mix,
)

NAMES = ["aaa_Latn", "bbb_Latn"]
QUICK = SharingRule(num_resamples=40, num_permutations=39, num_splits=2)


def create(assign: Assign, seed: int = 0, speakers: tuple[int, int] = (6, 8)) -> CodeCounts:
    languages = {name: {"x": size} for name, size in zip(NAMES, speakers, strict=True)}
    return create_counts(np.random.default_rng(seed), languages, assign, num_phones=4)


def measure(counts: CodeCounts, seed: int = 1, rule: SharingRule = QUICK) -> PairSharing:
    return measure_sharing(counts, NAMES[0], NAMES[1], np.random.default_rng(seed), rule)


def test_planted_sharing_is_found() -> None:
    found = measure(create(assign_shared()))
    assert found.decision is Decision.SHARED
    assert found.count(Decision.SHARED) == 4
    assert found.index.low < 1.0 < found.index.high
    assert found.unit is BootstrapUnit.SPEAKER
    assert found.num_units == (6, 8)
    phone = found.phones[0]
    assert phone.units == (6, 8)
    assert phone.frames == (6 * 2 * 12, 8 * 2 * 12)
    assert phone.different > 0.95
    assert phone.excess.low < 0.0 < phone.excess.high
    assert phone.p_value > 0.05


def test_planted_absence_is_not_sharing() -> None:
    """Codes that tell the phone within each language, and none that both languages use."""
    found = measure(create(assign_by_language(NAMES)))
    assert found.decision is Decision.NOT_SHARED
    assert found.count(Decision.NOT_SHARED) == 4
    assert found.index.high < 0.05
    assert found.phones[0].excess.value > 0.9
    assert found.phones[0].excess.low > 0.5
    assert found.phones[0].p_value == pytest.approx(1 / 40)
    assert found.matching_p_value == 1.0


def test_codes_without_meaning_decide_nothing() -> None:
    found = measure(create(assign_nothing()))
    assert found.decision is Decision.UNDECIDED
    assert "do not tell it" in found.reason
    assert found.count(Decision.UNDECIDED) == 4


def test_half_shared_codes_lie_between() -> None:
    half = measure(create(mix(assign_shared(48), assign_by_language(NAMES), 0.5)))
    assert 0.5 < half.index.value < 0.9
    assert half.phones[0].p_value < 0.05  # language matters, and yet most is shared


def test_excess_is_free_of_the_bias_that_unequal_sizes_bring() -> None:
    """200 codes of equal probability, 8 and 160 frames a speaker: the plain divergence of the same
    distribution is large, between speakers of one language too.
    """
    rng = np.random.default_rng(0)
    excess, plain = [], []
    for _ in range(60):
        first = rng.multinomial(8, np.full(200, 1 / 200), (6, 2)).astype(np.float32)
        second = rng.multinomial(160, np.full(200, 1 / 200), (6, 2)).astype(np.float32)
        figures = compare_halves(first, second, np.array([[1], [0]]), 1e9, 4, rng)
        excess.append(figures[1, 0] - figures[0, 0])
        plain.append(compute_divergence(first.sum(0)[0], second.sum(0)[0]))
    assert np.mean(plain) > 0.3
    assert abs(np.mean(excess)) < 0.02 * np.mean(plain)


def test_permutations_are_not_misled_by_unequal_sizes() -> None:
    rng = np.random.default_rng(0)
    ranks = []
    for _ in range(60):
        first = rng.multinomial(8, np.full(50, 1 / 50), (6, 2)).astype(np.float32)
        second = rng.multinomial(80, np.full(50, 1 / 50), (9, 2)).astype(np.float32)
        observed, permuted = permute_languages(first, second, 39, rng)
        ranks += (permuted >= observed).mean(0).tolist()
    assert np.mean(ranks) == pytest.approx(0.5, abs=0.1)
    assert np.mean(np.array(ranks) < 0.05) < 0.12


def draw_speakers(
    rng: np.random.Generator, concentration: float, difference: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Twice (8, 1, 30): what the same people say in two languages, each in their own way; of the
    second language, a share of the frames has the first code.
    """
    ways = rng.dirichlet(np.full(30, concentration / 30), 8)
    first, second = (
        np.stack([rng.multinomial(60, (1 - by) * way + by * np.eye(30)[0]) for way in ways])
        for by in (0.0, difference)
    )
    return first[:, None].astype(np.float32), second[:, None].astype(np.float32)


def test_who_speaks_both_languages_does_not_make_them_alike() -> None:
    """Without knowing who is who, halves of two languages have speakers in common, and those of one
    language have none.
    """
    rng = np.random.default_rng(0)
    excess: dict[int, list[float]] = {0: [], 8: []}
    for num_common, found in excess.items():
        for resample in (False, True):
            for _ in range(30):
                sides = draw_speakers(rng, 3.0)
                figures = compare_halves(
                    *sides,
                    np.array([[0]]),
                    1e9,
                    4,
                    rng,
                    num_common=num_common,
                    resample=resample,
                )
                found.append(figures[1, 0] - figures[0, 0])
    assert np.mean(excess[0]) < -0.05
    assert abs(np.mean(excess[8])) < 0.01


def test_permutations_exchange_the_languages_of_who_speaks_both() -> None:
    rng = np.random.default_rng(0)
    ranks: dict[tuple[float, int], list[float]] = {}
    for difference in (0.0, 0.1):
        for num_common in (0, 8):
            found = ranks.setdefault((difference, num_common), [])
            for _ in range(60):
                sides = draw_speakers(rng, 10.0, difference)
                observed, permuted = permute_languages(*sides, 39, rng, num_common=num_common)
                found.append(float((permuted >= observed).mean()))
    assert np.mean(ranks[0.0, 8]) == pytest.approx(0.5, abs=0.1)
    assert np.mean(ranks[0.0, 0]) > 0.8  # nothing is ever found, whatever there is
    found_by = {key: np.mean(np.array(ranks[0.1, key]) < 0.05) for key in (0, 8)}
    assert found_by[8] > found_by[0] + 0.2


def test_half_of_the_phones_shared_while_all_codes_are_in_both_languages() -> None:
    def assign(language: str, source: str, phone: int) -> np.ndarray:
        moved = {3: 4, 4: 5, 5: 3} if language == NAMES[1] else {}
        return assign_shared()(language, source, moved.get(phone, phone))

    languages = {name: {"x": 8} for name in NAMES}
    found = measure(create_counts(np.random.default_rng(0), languages, assign))
    decisions = [phone.decision for phone in found.phones]
    assert decisions == [Decision.SHARED] * 3 + [Decision.NOT_SHARED] * 3


def test_strong_speakers_are_no_difference_between_languages() -> None:
    languages = {name: {"x": 8} for name in NAMES}
    found, alike = (
        measure(
            create_counts(
                np.random.default_rng(0), languages, assign_shared(), concentration=concentration
            )
        )
        for concentration in (4.0, 1000.0)
    )
    assert found.phones[0].within > 3 * alike.phones[0].within
    assert found.decision is Decision.SHARED
    assert found.count(Decision.NOT_SHARED) == 0
    assert found.index.low < 1.0 < found.index.high


def test_few_speakers_leave_utterances() -> None:
    found = measure(create(assign_shared(), speakers=(3, 8)))
    assert found.unit is BootstrapUnit.UTTERANCE
    assert found.num_units == (6, 16)


def test_too_little_speech_says_so() -> None:
    counts = create(assign_shared(), speakers=(5, 5))
    found = measure(counts, rule=SharingRule(min_frames=10_000))
    assert found.decision is Decision.UNDECIDED
    assert found.reason == "0 phones occur often enough in both, 3 are needed"
    assert {phone.decision for phone in found.phones} == {Decision.UNDECIDED}
    assert "10000 frames" in found.phones[0].reason


def test_one_language_makes_no_pair() -> None:
    counts = create(assign_shared())
    rng = np.random.default_rng(0)
    assert measure_all_sharing(counts.select(counts.languages == NAMES[0]), rng, QUICK) == []
    assert list_common_phones(counts, NAMES[0], "ccc_Latn") == []
    assert measure_sharing(counts, NAMES[0], "ccc_Latn", rng, QUICK).phones == []


def test_same_seed_same_result() -> None:
    counts = create(assign_shared())
    assert measure(counts) == measure(counts)


@pytest.mark.parametrize(
    "assign", [assign_by_language(NAMES), assign_nothing(12)], ids=["absent", "meaningless"]
)
def test_sharing_is_seldom_seen_where_there_is_none(assign: Assign) -> None:
    rule = SharingRule(num_resamples=20, num_permutations=1, num_splits=1, min_frames=10)
    decided = [
        measure(create(assign, seed, (5, 5)), seed, rule).decision is Decision.SHARED
        for seed in range(10)
    ]
    assert sum(decided) == 0


def test_intervals_of_few_units_are_widened_as_students_are() -> None:
    """Against tabulated quantiles of Student's distribution, 97.5 %."""
    for units, quantile in ((5, 2.7764), (8, 2.3646), (30, 2.0452)):
        expected = quantile / 1.95996 * np.sqrt(units / (units - 1))
        assert _compute_expansion(units, 0.975) == pytest.approx(expected, rel=0.005)
