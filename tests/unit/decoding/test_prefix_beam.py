"""The reference search against exhaustive search over all alignments."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechvq.decoding.ngram import NgramModel
from speechvq.decoding.prefix_beam import search_prefixes
from speechvq.decoding.prefix_scorers import LabelScorer, WordScorer
from tests.support.exhaustive import search_exhaustively

LABELS = ("<pad>", "|", "a", "b")
LEXICON = {"a": (2,), "ab": (2, 3), "bb": (3, 3)}


def create_log_probs(seed, num_frames, sharpness=2.0):
    logits = sharpness * np.random.default_rng(seed).normal(size=(num_frames, len(LABELS)))
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def create_model(seed, tokens, order=2):
    """A model of random numbers, also for n-grams that are not there: no distribution is needed."""
    rng = np.random.default_rng(seed)
    known = [(token,) for token in ("<s>", "</s>", *tokens)]
    pairs = list(itertools.product([k[0] for k in known if k != ("</s>",)], (*tokens, "</s>")))
    chosen = [pair for pair in pairs if order > 1 and rng.random() < 0.6]
    return NgramModel(order, {k: (-rng.random() * 4, -rng.random()) for k in [*known, *chosen]})


def check_equal(found, expected):
    assert {one.labels for one in found} == expected.keys()
    for one in found:
        assert one.score == pytest.approx(expected[one.labels], abs=1e-9)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), num_frames=st.integers(0, 5), separated=st.booleans())
def test_equals_exhaustive_search(seed, num_frames, separated):
    log_probs = create_log_probs(seed, num_frames)
    separator_id = 1 if separated else None
    expected = search_exhaustively(log_probs, separator_id, lambda labels: 0.0)
    found = search_prefixes(log_probs, separator_id=separator_id)
    check_equal(found, expected)
    # All texts together are certain.
    assert np.logaddexp.reduce([one.score for one in found]) == pytest.approx(0, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6), num_frames=st.integers(0, 5), weight=st.floats(0, 3, width=32),
    order=st.integers(1, 2),
)  # fmt: skip
def test_equals_exhaustive_search_with_a_model_of_labels(seed, num_frames, weight, order):
    log_probs = create_log_probs(seed, num_frames)
    model = create_model(seed, ("|", "a"), order)  # "b" is unknown to it
    scorer = LabelScorer(model, LABELS, lm_weight=weight)

    def score_text(labels):
        return weight * model.score_sentence([LABELS[label] for label in labels])

    found = search_prefixes(log_probs, scorer=scorer, separator_id=1)
    check_equal(found, search_exhaustively(log_probs, 1, score_text))
    for one in found:
        assert one.language_score == pytest.approx(score_text(one.labels))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6), num_frames=st.integers(0, 5), weight=st.floats(0, 3, width=32),
    word_score=st.floats(-2, 2, width=32), has_lexicon=st.booleans(), has_model=st.booleans(),
)  # fmt: skip
def test_equals_exhaustive_search_with_a_model_of_words(
    seed, num_frames, weight, word_score, has_lexicon, has_model
):
    log_probs = create_log_probs(seed, num_frames)
    model = create_model(seed, ("a", "ab", "bb")) if has_model else None
    lexicon = LEXICON if has_lexicon else None
    scorer = WordScorer(
        model, LABELS, 1, lm_weight=weight, word_score=word_score, lexicon=lexicon
    )  # fmt: skip

    def score_text(labels):
        words = "".join(LABELS[label] for label in labels).replace("|", " ").split()
        if has_lexicon and not set(words) <= LEXICON.keys():
            return -math.inf
        language = model.score_sentence(words) if model else 0.0
        return weight * language + word_score * len(words)

    found = search_prefixes(log_probs, scorer=scorer, separator_id=1)
    check_equal(found, search_exhaustively(log_probs, 1, score_text))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), beam_size=st.integers(1, 8))
def test_a_beam_gives_lower_bounds_and_a_wide_one_the_truth(seed, beam_size):
    log_probs = create_log_probs(seed, 6)
    exact = {one.labels: one.score for one in search_prefixes(log_probs, separator_id=1)}
    found = search_prefixes(log_probs, beam_size=beam_size, separator_id=1, num_best=3)
    assert 1 <= len(found) <= 3
    assert all(one.score <= exact[one.labels] + 1e-9 for one in found)
    wide = search_prefixes(log_probs, beam_size=10**6, beam_threshold=1e3, separator_id=1)
    check_equal(wide, exact)


def test_other_blanks_and_impossible_labels():
    with np.errstate(divide="ignore"):
        log_probs = np.log(np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]]))
    found = search_prefixes(log_probs, blank_id=2)
    # First frame 0 or 1; then the same, the other, or the blank.
    scores = {one.labels: math.exp(one.score) for one in found}
    assert scores == pytest.approx({(0,): 0.375, (1,): 0.375, (0, 1): 0.125, (1, 0): 0.125})


def test_long_utterances_keep_their_precision():
    log_probs = create_log_probs(1, 400, sharpness=1.0)
    best = search_prefixes(log_probs, beam_size=8, separator_id=1)[0]
    assert -400 * math.log(4) < best.score < 0
    assert len(best.labels) > 50
