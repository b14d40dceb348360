import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechvq.decoding.alignment import Unit
from speechvq.decoding.hypotheses import (
    EMPTY,
    Hypothesis,
    choose_oracle,
    compute_posteriors,
    compute_word_confidences,
    merge_hypotheses,
)


def create(*pairs):
    return [Hypothesis(text=text, score=math.log(p), language_score=0.0) for text, p in pairs]


def test_one_text_counts_once_with_all_its_probability():
    found = merge_hypotheses(create(("a", 0.2), ("b", 0.3), ("a", 0.4), ("c", 0.1)), 2)
    assert [one.text for one in found] == ["a", "b"]
    assert math.exp(found[0].score) == pytest.approx(0.6)
    assert [one.text for one in merge_hypotheses(create(("b", 0.5), ("a", 0.5)), 9)] == ["a", "b"]


@given(st.lists(st.floats(-1e4, 0), min_size=1, max_size=6))
def test_posteriors_are_shares(scores):
    found = [Hypothesis(text="a", score=score, language_score=0.0) for score in scores]
    assert compute_posteriors(found).sum() == pytest.approx(1)


def test_confidences_are_the_posterior_of_the_word_in_its_place():
    found = create(("a b c", 0.5), ("a c", 0.3), ("a x c", 0.1), ("b c", 0.1))
    assert compute_word_confidences(found) == pytest.approx([0.9, 0.6, 1.0])
    assert compute_word_confidences([EMPTY]) == []
    assert compute_word_confidences([]) == []
    # The same word elsewhere is no support.
    assert compute_word_confidences(create(("a b", 0.5), ("b", 0.5)))[0] == pytest.approx(0.5)


def test_oracle_is_the_best_in_its_unit():
    texts = ["ab cd", "xx cd ef", "ab cx ex"]  # 1, 1, 2 words; 3, 2, 2 characters
    assert choose_oracle("ab cd ef", texts, Unit.WORD) == 0
    assert choose_oracle("ab cd ef", texts, Unit.CHARACTER) == 1
