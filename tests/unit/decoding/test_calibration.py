import numpy as np
import pytest

from speechvq.decoding.calibration import collect_words, compute_calibration, find_correct_words


def test_two_bins_by_hand():
    # Five words with 0.9 of which three are right, five with 0.1 of which one is.
    found = compute_calibration([0.9] * 5 + [0.1] * 5, [1, 1, 1, 0, 0, 1, 0, 0, 0, 0])
    assert found.ece == pytest.approx(0.5 * 0.3 + 0.5 * 0.1)
    assert (found.num_words, found.num_correct) == (10, 4)
    assert found.mean_confidence == pytest.approx(0.5)
    filled = [one for one in found.bins if one.num_words]
    assert [(one.confidence, one.accuracy) for one in filled] == [
        (pytest.approx(0.1), 0.2),
        (pytest.approx(0.9), 0.6),
    ]
    assert len(found.bins) == 15
    entropy = -(0.4 * np.log2(0.4) + 0.6 * np.log2(0.6))
    cost = -(3 * np.log2(0.9) + 2 * np.log2(0.1) + np.log2(0.1) + 4 * np.log2(0.9)) / 10
    assert found.nce == pytest.approx((entropy - cost) / entropy)


def test_calibrated_confidences_stay_below_the_noise_and_others_do_not():
    rng = np.random.default_rng(1)
    given = rng.beta(2, 1, size=3000)
    right = rng.random(3000) < given
    good = compute_calibration(given, right)
    assert good.ece < good.ece_noise < 0.05
    assert good.nce > 0.05
    sure = compute_calibration(given**0.2, right)
    assert sure.ece > 3 * sure.ece_noise
    assert sure.ece == pytest.approx(sure.mean_confidence - sure.accuracy, abs=0.01)
    assert sure.nce < good.nce


def test_edges_and_extremes():
    found = compute_calibration([0.0, 1.0, 1.0], [False, True, True])
    assert found.ece == 0
    assert found.nce == pytest.approx(1, abs=1e-5)
    assert [one.num_words for one in found.bins] == [1, *[0] * 13, 2]
    assert compute_calibration([], []) is None
    assert compute_calibration([0.4, 0.6], [True, True]).nce is None
    with pytest.raises(ValueError, match="within 0 to 1"):
        compute_calibration([1.2], [True])


def test_confidence_of_the_mean_says_nothing():
    assert compute_calibration([0.25] * 4, [1, 0, 0, 0]).nce == pytest.approx(0)


def test_words_are_right_where_the_alignment_has_them():
    assert find_correct_words("a b c", "a x c d") == [True, False, True, False]
    assert find_correct_words("a b", "") == []
    assert find_correct_words("", "a") == [False]


def test_words_without_confidence_are_counted():
    found = collect_words([("a b", "a c", (0.5, 0.25)), ("a", "a b", None), ("a", "a", (0.1, 0.2))])
    assert found == ([0.5, 0.25], [True, False], 3)
