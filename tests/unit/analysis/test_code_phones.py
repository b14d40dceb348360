"""Statistics of made-up tables, whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from speechvq.analysis import phone_section
from speechvq.analysis.code_phones import (
    compare_distances,
    compute_code_given_phone,
    compute_error,
    compute_mean_features,
    compute_phone_given_code,
    draw_chance_table,
    score_codes,
    score_features,
)
from speechvq.analysis.code_table import CodeTableWriter, UtteranceFrames, open_code_table
from speechvq.analysis.config import AnalyzeConfig
from speechvq.analysis.phone_counts import compute_shift_curve, count_phones, has_more_combinations
from speechvq.analysis.phone_section import create_phone_section, score_table
from speechvq.analysis.phones import compute_pnmi, count_pairs
from speechvq.analysis.section import Section
from speechvq.analysis.time_shift import add_shift


def create_table(tmp_path, utterances):
    """`utterances`: (speaker, language, phones, codes (T, G)) each."""
    path = tmp_path / "codes.parquet"
    groups = {"group": np.shape(utterances[0][3])[1]}
    with CodeTableWriter(path, groups) as writer:
        for number, (speaker, language, phones, codes) in enumerate(utterances):
            rows = UtteranceFrames(
                utterance=f"u{number}",
                language=language,
                speaker=speaker,
                source="s",
                recording="r",
                times=np.arange(len(phones), dtype=np.float32),
                codes={"group": np.asarray(codes)},
                phones=phones,
            )
            writer.add([rows])
    return open_code_table(path)


def test_counts_of_a_small_table(tmp_path):
    table = create_table(
        tmp_path,
        [
            (None, "hin_Deva", ["a", "a", "sil", None], [[7, 1], [7, 2], [3, 1], [9, 9]]),
            ("s/x", "mdw_Latn", ["a", "i"], [[3, 1], [7, 1]]),
        ],
    )
    one = count_phones(table, ["group_0"])
    assert one is not None
    assert one.phones == ("a", "i", "sil")
    assert one.codes.tolist() == [[3], [7]]
    assert one.counts.tolist() == [[1, 2], [0, 1], [1, 0]]
    assert (one.unit, one.num_units, one.num_frames) == ("utterance", 2, 5)
    both = count_phones(table, ["group_0", "group_1"])
    assert both is not None
    assert both.codes.tolist() == [[3, 1], [7, 1], [7, 2]]
    assert both.counts.tolist() == [[1, 1, 1], [0, 1, 0], [1, 0, 0]]
    speech = both.without_silence()
    assert speech.phones == ("a", "i")
    rebuilt = np.bincount(speech.pairs, weights=speech.frames, minlength=speech.counts.size)
    assert rebuilt.reshape(speech.counts.shape).tolist() == speech.counts.tolist()
    only = count_phones(table, ["group_0"], languages=["mdw_Latn"])
    assert only is not None
    assert only.counts.tolist() == [[1, 0], [0, 1]]
    assert count_phones(table, ["group_0"], languages=["eng_Latn"]) is None


def test_counts_are_those_of_all_frames_at_once(tmp_path):
    rng = np.random.default_rng(0)
    utterances = []
    for number in range(12):
        phones = rng.choice(["a", "i", "u", "sil"], 40).tolist()
        utterances.append((f"s{number % 6}", "hin_Deva", phones, rng.integers(0, 5, (40, 2))))
    counts = count_phones(create_table(tmp_path, utterances), ["group_0", "group_1"])
    assert counts is not None
    phones = [counts.phones.index(p) for one in utterances for p in one[2]]
    codes = np.concatenate([one[3] for one in utterances])
    assert counts.counts.tolist() == count_pairs(phones, codes).tolist()
    assert (counts.unit, counts.num_units) == ("speaker", 6)
    of_first = counts.frames[counts.units == counts.units[0]].sum()
    assert of_first == 80


def test_codebooks_are_not_scored_together_beyond_a_number_of_combinations(tmp_path, monkeypatch):
    codes = [[0, 1], [1, 1], [0, 0], [1, 0], [0, 1]]
    table = create_table(tmp_path, [("s", "hin_Deva", list("abcab"), codes)] * 2)
    columns = table.list_columns()
    assert has_more_combinations(table, columns, 3)
    assert not has_more_combinations(table, columns, 4)
    names = [score.name for score in score_table(table, ["hin_Deva"], 1)]
    assert names[0] == "model, all codebooks"
    monkeypatch.setattr(phone_section, "MAX_COMBINATIONS", 3)
    names = [score.name for score in score_table(table, ["hin_Deva"], 1)]
    assert names == ["model, codebook 0", "model, codebook 1"]


def test_scores_of_codes_that_are_phones_and_of_codes_that_are_not(tmp_path):
    rng = np.random.default_rng(1)
    names = np.array(["a", "i", "u", "o"])
    utterances = []
    for number in range(20):
        phone = rng.integers(0, 4, 100)
        codes = np.stack([phone, rng.integers(0, 4, 100)], axis=1)
        utterances.append((f"s{number % 7}", "hin_Deva", names[phone].tolist(), codes))
    table = create_table(tmp_path, utterances)
    right = score_codes("right", count_phones(table, ["group_0"]), seed=1)
    wrong = score_codes("wrong", count_phones(table, ["group_1"]), seed=1)
    assert right.pnmi == right.phone_purity == right.cluster_purity == pytest.approx(1)
    assert right.pnmi_adjusted == pytest.approx(1)
    assert (right.num_frames, right.num_phones, right.num_codes) == (2000, 4, 4)
    assert right.perplexity == pytest.approx(4, abs=0.02)
    assert wrong.pnmi < wrong.pnmi_chance_high + 0.002
    assert wrong.pnmi_adjusted == pytest.approx(0, abs=0.005)
    assert wrong.pnmi_low < wrong.pnmi < wrong.pnmi_high
    assert wrong.unit == "speaker"


def test_chance_tables_keep_totals_and_are_permutations():
    rng = np.random.default_rng(2)
    phones, codes = rng.integers(0, 4, 400), rng.integers(0, 9, 400) ** 2
    counts = count_pairs(phones, codes)
    drawn = [draw_chance_table(counts, rng) for _ in range(200)]
    assert all((one.sum(0) == counts.sum(0)).all() for one in drawn)
    assert all((one.sum(1) == counts.sum(1)).all() for one in drawn)
    permuted = [compute_pnmi(count_pairs(rng.permutation(phones), codes)) for _ in range(200)]
    ours = [compute_pnmi(one) for one in drawn]
    assert np.mean(ours) == pytest.approx(np.mean(permuted), rel=0.05)
    assert np.std(ours) == pytest.approx(np.std(permuted), rel=0.25)


def test_an_error_needs_two_units(tmp_path):
    table = create_table(tmp_path, [(None, "hin_Deva", ["a", "i"], [[0], [1]])])
    counts = count_phones(table, ["group_0"])
    assert counts is not None
    assert math.isnan(compute_error(counts, np.random.default_rng(0)))


def test_the_error_is_the_spread_of_repeated_experiments(tmp_path):
    """Utterances differ in how well their codes name phones, as speakers do."""
    rng = np.random.default_rng(7)

    def repeat(number: int):
        utterances = []
        for _ in range(30):
            phones = rng.integers(0, 3, 60)
            noise = rng.random(60) < rng.choice([0.1, 0.9])
            codes = np.where(noise, rng.integers(0, 3, 60), phones)
            names = [f"p{one}" for one in phones]
            utterances.append((None, "x", names, codes[:, None]))
        folder = tmp_path / str(number)
        folder.mkdir()
        counts = count_phones(create_table(folder, utterances), ["group_0"])
        assert counts is not None
        return counts

    repeated = [repeat(number) for number in range(16)]
    spread = np.std([compute_pnmi(one.counts) for one in repeated], ddof=1)
    errors = [compute_error(one, rng, num_resamples=50) for one in repeated[:6]]
    assert np.mean(errors) == pytest.approx(spread, rel=0.4)


def test_shares():
    counts = np.array([[3, 0, 0], [1, 4, 0]])
    assert compute_phone_given_code(counts).tolist() == [[0.75, 0, 0], [0.25, 1, 0]]
    assert compute_code_given_phone(counts).tolist() == [[1, 0, 0], [0.2, 0.8, 0]]


def test_phones_that_lag_show_in_the_shift_curve(tmp_path):
    rng = np.random.default_rng(3)
    utterances = []
    for _ in range(5):
        codes = rng.integers(0, 5, 200)
        phones = [None, None, *(f"p{code}" for code in codes[:-2])]  # two frames late
        utterances.append((None, "hin_Deva", phones, codes[:, None]))
    table = create_table(tmp_path, utterances)
    curve = compute_shift_curve(table, ["group_0"], [-2, 0, 2])
    assert curve[2] == pytest.approx(1)
    assert max(curve[:2]) < 0.1


@pytest.mark.parametrize(
    ("lag", "error", "is_told"), [(2, 0.01, True), (2, 0.6, False), (0, 0, False)]
)
def test_alignments_that_lag_are_told_unless_it_may_be_noise(tmp_path, lag, error, is_told):
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 5, 200)
    phones = [*[None] * lag, *(f"p{code}" for code in codes[: 200 - lag])]
    table = create_table(tmp_path, [(None, "hin_Deva", phones, codes[:, None])])
    section = Section(title="Codes")
    add_shift(section, table, 0.02, error)
    assert section.numbers["shift"]["best_milliseconds"]["group"] == pytest.approx(20 * lag, abs=1)
    assert any("`alignment_shift=-0.04" in text for text in section.warnings) == is_told
    assert len(section.warnings) == is_told


def test_shifts_do_not_cross_utterances(tmp_path):
    utterances = [(None, "hin_Deva", [name] * 2, [[code]] * 2) for name, code in ("a0", "b1")]
    utterances = [(a, b, c, np.array(d, dtype=np.int64)) for a, b, c, d in utterances]
    table = create_table(tmp_path, utterances)
    assert compute_shift_curve(table, ["group_0"], [1, -1]) == pytest.approx([1, 1])


def test_features_known_by_codes(tmp_path):
    phones = ["a", "i", "p", "b", "sil"] * 40
    codes = [[0 if phone in "ai" else 1] for phone in phones]
    counts = count_phones(create_table(tmp_path, [(None, "x", phones, codes)]), ["group_0"])
    assert counts is not None
    features = {
        "a": np.array([1.0, 1.0, 1.0]),
        "i": np.array([1.0, 1.0, -1.0]),
        "p": np.array([1.0, -1.0, -1.0]),
        "b": np.array([1.0, -1.0, 1.0]),
    }
    scores = score_features(counts, ["seg", "syl", "voi"], features, seed=1)
    assert [one.name for one in scores] == ["syl", "voi"]  # seg does not vary
    assert scores[0].share == pytest.approx(1)
    assert scores[1].share == pytest.approx(0)
    assert scores[0].chance < 0.05
    assert scores[0].num_frames == 160
    means, totals = compute_mean_features(counts, features)
    assert means.tolist() == [[1, 1, 0], [1, -1, 0]]
    assert totals.tolist() == [80, 80]


def test_neighbours_that_sound_alike_are_found_and_others_are_not():
    rng = np.random.default_rng(4)
    sounds = rng.normal(size=(40, 3))
    vectors = np.concatenate([sounds, rng.normal(0, 0.1, size=(40, 5))], axis=1)
    near = compare_distances("c", "articulation", vectors, sounds, seed=1, num_permutations=199)
    assert near is not None
    assert near.rho > 0.9
    assert near.p_value == pytest.approx(1 / 200)
    other = rng.normal(size=(40, 8))
    far = compare_distances("c", "articulation", other, sounds, seed=1, num_permutations=199)
    assert far is not None
    assert far.p_value > 0.05
    assert far.rho < near.null_high + 0.1
    assert compare_distances("c", "x", vectors[:4], sounds[:4], seed=1) is None
    assert compare_distances("c", "x", np.ones((9, 2)), sounds[:9], seed=1) is None


def test_one_phone_says_that_there_is_nothing_to_tell_apart(tmp_path):
    table = create_table(tmp_path, [("s/x", "hin_Deva", ["a"] * 6, [[n % 3] for n in range(6)])])
    config = AnalyzeConfig(corpus="c", model="m", output="o")
    section = create_phone_section(config, table, None, frame_seconds=0.02, languages=["hin_Deva"])
    assert section.missing == "there is one phone only, so nothing to be told apart."
