import json
import unicodedata
from dataclasses import asdict

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechvq.decoding.alignment import (
    EditCounts,
    Unit,
    align,
    count_confusions,
    count_edits,
    split_units,
)
from speechvq.decoding.bootstrap import MIN_SPEAKERS, BootstrapUnit, resample_sums
from speechvq.decoding.scoring import (
    compare_systems,
    compute_error_rate,
    score_utterances,
)

texts = st.lists(st.text(alphabet="ab क़ि", max_size=12), min_size=1, max_size=6)


def create_counts(errors, lengths):
    zeros = np.zeros(len(errors), dtype=np.int64)
    return EditCounts(
        substitutions=np.array(errors),
        deletions=zeros,
        insertions=zeros,
        reference_lengths=np.array(lengths),
    )


def compute_distance(a, b):
    """Textbook edit distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


@settings(max_examples=60, deadline=None)
@given(references=texts, hypotheses=texts, unit=st.sampled_from(Unit))
def test_counts_are_the_edit_distance_and_add_up(references, hypotheses, unit):
    count = min(len(references), len(hypotheses))
    references, hypotheses = references[:count], hypotheses[:count]
    counts = count_edits(references, hypotheses, unit)
    for row, (said, heard) in enumerate(zip(references, hypotheses, strict=True)):
        a, b = split_units(said, unit), split_units(heard, unit)
        assert counts.errors[row] == compute_distance(a, b)
        assert counts.reference_lengths[row] == len(a)
        assert len(a) - counts.deletions[row] + counts.insertions[row] == len(b)
        pairs = align(said, heard, unit)
        assert [x for x, _ in pairs if x is not None] == a
        assert [y for _, y in pairs if y is not None] == b
        assert sum(x != y for x, y in pairs) == counts.errors[row]


def test_rates_are_those_of_jiwer():
    said = ["the cat sat", "on the mat today", "नमस्ते दुनिया", "x"]
    heard = ["the cat sit down", "on mat", "नमस्ते दुनीया", ""]
    scores = score_utterances(said, heard, normalizer="basic-1", seconds=[1, 2, 3, 4]).summarize()
    assert scores.wer.rate == pytest.approx(jiwer.wer(said, heard))
    assert scores.cer.rate == pytest.approx(jiwer.cer(said, heard))
    without = [[text.replace(" ", "") for text in side] for side in (said, heard)]
    assert scores.cer_no_spaces.rate == pytest.approx(jiwer.cer(*without))
    assert scores.cer.rate != pytest.approx(scores.cer_no_spaces.rate)
    assert scores.seconds == 10
    assert scores.num_empty_hypotheses == 1


def test_corpus_rate_is_not_the_mean_of_rates():
    scores = score_utterances(["a", "b c d e"], ["x", "b c d e"], normalizer="n").summarize()
    assert scores.wer.rate == pytest.approx(1 / 5)


def test_empty_references_count_as_insertions_and_not_in_the_denominator():
    counts = count_edits(["", "a b"], ["x y z", "a b"], Unit.WORD)
    assert counts.insertions.tolist() == [3, 0]
    assert counts.reference_lengths.tolist() == [0, 2]
    scores = score_utterances(["", "a b"], ["x y z", "a b"], normalizer="n").summarize()
    assert scores.wer.rate == pytest.approx(1.5)
    assert scores.num_empty_references == 1


def test_nothing_but_empty_references_has_no_rate():
    scores = score_utterances(["", ""], ["x", ""], normalizer="n").summarize()
    assert scores.wer.rate is None
    assert scores.wer.low is None
    assert scores.wer.errors == 1


def test_unicode_forms_do_not_count_as_errors():
    composed, decomposed = "क़लम é", unicodedata.normalize("NFD", "क़लम é")
    assert composed != decomposed
    counts = count_edits([composed], [decomposed], Unit.CHARACTER)
    assert counts.errors.tolist() == [0]
    # A vowel sign is a character of its own: i against ii.
    assert count_edits(["कि"], ["की"], Unit.CHARACTER).errors.tolist() == [1]


def test_confusions():
    confusions = count_confusions(["a b", "a c"], ["x b", "x"], Unit.WORD)
    assert confusions == {("a", "x"): 2, ("c", None): 1}


def test_groups_add_up_to_all():
    said = ["a b", "c", "d e f", "g"]
    heard = ["a x", "c", "d", "h"]
    scores = score_utterances(said, heard, normalizer="n", seconds=[1, 2, 3, 4])
    groups = scores.summarize_by(["q", "p", "q", "p"])
    assert [group.name for group in groups] == ["p", "q"]
    total = scores.summarize()
    assert sum(group.wer.errors for group in groups) == total.wer.errors == 4
    assert sum(group.seconds for group in groups) == total.seconds == 10
    json.dumps([asdict(group) for group in groups])


def test_interval_is_repeatable_and_covers_as_often_as_it_says():
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(200):
        counts = create_counts(rng.binomial(20, 0.3, size=60), [20] * 60)
        rate = compute_error_rate(counts, num_resamples=300)
        assert rate == compute_error_rate(counts, num_resamples=300)
        covered += rate.low <= 0.3 <= rate.high
    assert 0.88 <= covered / 200 <= 0.99


def test_interval_has_the_width_of_theory():
    rng = np.random.default_rng(1)
    counts = create_counts(rng.binomial(10, 0.4, size=2000), [10] * 2000)
    rate = compute_error_rate(counts)
    deviation = np.sqrt(0.4 * 0.6 / 20000)
    assert rate.high - rate.low == pytest.approx(2 * 1.96 * deviation, rel=0.12)


def test_one_utterance_has_no_interval():
    assert compute_error_rate(create_counts([1], [2])).low is None


def test_resampling_in_pieces_keeps_every_sample(monkeypatch):
    monkeypatch.setattr("speechvq.decoding.bootstrap._CHUNK", 50)
    sums = resample_sums(np.ones((20, 2), dtype=np.int64), 101, seed=1)
    assert sums.shape == (101, 2)
    assert (sums == 20).all()


def test_systems_that_are_the_same_do_not_differ():
    counts = create_counts([1, 2, 3, 0], [4, 4, 4, 4])
    result = compare_systems(counts, counts)
    assert result.difference == 0
    assert result.p_value == 1


def test_pairing_finds_a_small_steady_difference():
    rng = np.random.default_rng(3)
    hard = rng.binomial(20, rng.uniform(0.1, 0.9, size=300))
    better = np.maximum(hard - rng.binomial(1, 0.3, size=300), 0)
    a, b = create_counts(hard, [20] * 300), create_counts(better, [20] * 300)
    result = compare_systems(a, b)
    assert result.difference == pytest.approx((better.sum() - hard.sum()) / 6000)
    assert result.low <= result.difference <= result.high < 0
    assert result.p_value < 0.01
    # Each on its own has an interval that covers the other: only the pairing tells.
    assert compute_error_rate(b).high > compute_error_rate(a).low
    assert compare_systems(b, a).difference == pytest.approx(-result.difference)


def test_p_values_of_equal_systems_are_rarely_small():
    rng = np.random.default_rng(5)
    small = 0
    for _ in range(100):
        lengths = [10] * 40
        a, b = (create_counts(rng.binomial(10, 0.5, size=40), lengths) for _ in range(2))
        small += compare_systems(a, b, num_resamples=400).p_value < 0.05
    assert small <= 14


def test_other_references_are_refused():
    with pytest.raises(ValueError, match="same utterances"):
        compare_systems(create_counts([1], [2]), create_counts([1], [3]))


def test_interval_over_speakers_is_wider_by_the_root_of_their_utterances():
    # Each speaker's 16 utterances are one and the same: 40 independent observations, not 640.
    rng = np.random.default_rng(7)
    errors = np.repeat(rng.binomial(10, 0.4, size=40), 16)
    speakers = np.repeat([f"s{number:02}" for number in range(40)], 16)
    rate = compute_error_rate(create_counts(errors, [10] * 640), speakers)
    assert (rate.unit, rate.num_units) == (BootstrapUnit.SPEAKER, 40)
    wider = (rate.high - rate.low) / (rate.utterance_high - rate.utterance_low)
    assert wider == pytest.approx(4, rel=0.1)
    one_each = compute_error_rate(create_counts(errors[::16], [10] * 40))
    assert (rate.low, rate.high) == (one_each.low, one_each.high)
    assert one_each.utterance_low is None


def test_speakers_of_independent_utterances_change_little():
    rng = np.random.default_rng(8)
    counts = create_counts(rng.binomial(10, 0.4, size=900), [10] * 900)
    rate = compute_error_rate(counts, [f"s{number % 90}" for number in range(900)])
    wider = (rate.high - rate.low) / (rate.utterance_high - rate.utterance_low)
    assert 0.75 < wider < 1.25


def test_interval_over_speakers_covers_other_speakers():
    rng = np.random.default_rng(9)
    covered = {"speakers": 0, "utterances": 0}
    names = np.repeat([f"s{number}" for number in range(30)], 10)
    for _ in range(100):
        skills = rng.uniform(0.1, 0.5, size=30)
        errors = rng.binomial(10, np.repeat(skills, 10))
        rate = compute_error_rate(create_counts(errors, [10] * 300), names, num_resamples=300)
        covered["speakers"] += rate.low <= 0.3 <= rate.high
        covered["utterances"] += rate.utterance_low <= 0.3 <= rate.utterance_high
    assert covered["speakers"] >= 87
    assert covered["utterances"] <= 80


@pytest.mark.parametrize(
    "speakers",
    [
        ["a", "b", "c", "d"] * 5,
        ["a", "b", "c", "d", "e", "f", "g", "h", "i", ""] * 2,
        [""] * 20,
    ],
)
def test_few_or_nameless_speakers_are_not_drawn(speakers):
    assert MIN_SPEAKERS == 5
    counts = create_counts([1, 2] * 10, [4] * 20)
    assert compute_error_rate(counts, speakers) == compute_error_rate(counts)


def test_paired_test_over_speakers_doubts_what_one_speaker_shows():
    # The second system is better for the 50 utterances of one speaker of ten, and worse for none.
    speakers = np.repeat([f"s{number}" for number in range(10)], 50)
    gain = (speakers == "s3").astype(int) * 3
    a, b = create_counts([5] * 500, [10] * 500), create_counts(5 - gain, [10] * 500)
    by_utterance = compare_systems(a, b)
    by_speaker = compare_systems(a, b, list(speakers))
    assert by_speaker.difference == by_utterance.difference == pytest.approx(-0.03)
    assert (by_utterance.unit, by_speaker.unit) == ("utterance", "speaker")
    assert by_utterance.p_value < 0.001
    # A resample misses that speaker with probability 0.9^10 = 0.35.
    assert by_speaker.p_value == pytest.approx(2 * 0.9**10, rel=0.05)
