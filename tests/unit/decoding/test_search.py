"""flashlight-text against our reference; both against what a vocabulary and a lexicon allow."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from speechvq.decoding.config import BeamSettings
from speechvq.decoding.contract import compare_with_vocabulary
from speechvq.decoding.flashlight_search import FlashlightSearch
from speechvq.decoding.hypotheses import Hypothesis, merge_hypotheses
from speechvq.decoding.language_model import load_language_model
from speechvq.decoding.ngram import read_arpa
from speechvq.decoding.prefix_beam import search_prefixes
from speechvq.decoding.prefix_scorers import LabelScorer
from speechvq.decoding.search import ReferenceSearch
from speechvq.errors import ModelError
from speechvq.models.vocabulary import CharacterVocabulary

VOCABULARY = CharacterVocabulary("ab")
SEPARATOR = 2
EXHAUSTIVE = {"beam_size": 10**5, "beam_threshold": 1e5, "num_best": 10**6}
seeds = given(
    seed=st.integers(0, 10**6), num_frames=st.integers(1, 5), weight=st.floats(0, 2, width=32),
    word_score=st.floats(-2, 2, width=32),
)  # fmt: skip
quickly = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def create_log_probs(seed, num_frames):
    logits = 2 * np.random.default_rng(seed).normal(size=(num_frames, len(VOCABULARY)))
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def create(search, directory):
    model = None if directory is None else load_language_model(directory)
    lexicon = {}
    if model is not None:
        contract = compare_with_vocabulary(
            model, VOCABULARY, language="mdw_Latn", separator_id=SEPARATOR
        )
        contract.check(model)
        lexicon = contract.lexicon
    return search(VOCABULARY, separator_id=SEPARATOR, model=model, lexicon=lexicon)


def check_equal(found, expected):
    scores = {one.text: one.score for one in found}
    assert scores == pytest.approx({one.text: one.score for one in expected}, abs=1e-4)


@pytest.fixture
def flashlight():
    return pytest.importorskip("flashlight.lib.text")


@pytest.mark.usefixtures("flashlight")
@pytest.mark.parametrize("unit", ["word", None])
def test_flashlight_gives_the_n_best_of_the_reference(write_model, unit):
    directory = write_model() if unit else None
    theirs, ours = create(FlashlightSearch, directory), create(ReferenceSearch, directory)

    @quickly
    @seeds
    def check(seed, num_frames, weight, word_score):
        chosen = BeamSettings(lm_weight=weight, word_score=word_score, **EXHAUSTIVE)
        log_probs = create_log_probs(seed, num_frames)
        check_equal(theirs.search(log_probs, chosen), ours.search(log_probs, chosen))

    check()


@pytest.mark.usefixtures("flashlight")
def test_flashlight_with_a_model_of_characters_scores_every_separator(write_model):
    """It weighs labels as they come, later separators that separate nothing among them (ours
    leaves those out); the text begins after a separator that costs nothing.
    """
    directory = write_model(unit="character")
    theirs = create(FlashlightSearch, directory)
    ngrams = read_arpa(directory / "lm.arpa")

    @quickly
    @seeds
    def check(seed, num_frames, weight, word_score):
        chosen = BeamSettings(lm_weight=weight, word_score=word_score, **EXHAUSTIVE)
        log_probs = create_log_probs(seed, num_frames)
        first = np.full((1, len(VOCABULARY)), -np.inf)
        first[0, SEPARATOR] = 0.0
        scorer = AfterSeparator(ngrams, VOCABULARY.labels, lm_weight=weight)
        raw = search_prefixes(np.concatenate([first, log_probs]), scorer=scorer)
        texts = merge_hypotheses((as_text(one) for one in raw), num_best=10**6)
        check_equal(theirs.search(log_probs, chosen), texts)

    check()


class AfterSeparator(LabelScorer):
    def start(self):
        return None

    def extend(self, state, label):
        return (super().start(), 0.0) if state is None else super().extend(state, label)

    def finish(self, state):
        return -np.inf if state is None else super().finish(state)


def as_text(one):
    return Hypothesis(
        text=VOCABULARY.decode(one.labels), score=one.score, language_score=one.language_score
    )


@pytest.mark.parametrize("search", [FlashlightSearch, ReferenceSearch])
def test_only_words_of_the_lexicon_are_written(write_model, search):
    if search is FlashlightSearch:
        pytest.importorskip("flashlight.lib.text")
    decoder = create(search, write_model())
    for seed in range(20):
        found = decoder.search(create_log_probs(seed, 12), BeamSettings(num_best=5))
        assert 1 <= len(found) <= 5
        assert {word for one in found for word in one.text.split()} <= {"a", "ab", "bb"}
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


@pytest.mark.parametrize("search", [FlashlightSearch, ReferenceSearch])
def test_a_language_model_changes_what_the_acoustics_leave_open(write_model, search):
    if search is FlashlightSearch:
        pytest.importorskip("flashlight.lib.text")
    # "a", a separator, then "ab" and "bb" alike: the model has seen "a ab", not "a bb".
    probs = np.full((5, len(VOCABULARY)), 1e-6)
    for frame, label in enumerate((3, 2, 3, 4, 4)):
        probs[frame, label] = 1.0
    probs[2, 4] = 1.0
    probs[3, 4], probs[3, 0] = 0.5, 0.5
    log_probs = np.log(probs / probs.sum(axis=1, keepdims=True))
    decoder = create(search, write_model())
    found = decoder.search(log_probs, BeamSettings(lm_weight=1.0, num_best=10))
    assert found[0].text == "a ab"


def test_pieces_need_flashlight_for_a_model(write_model):
    with pytest.raises(ModelError, match="decoder=beam"):
        ReferenceSearch(
            VOCABULARY, separator_id=None, model=load_language_model(write_model()), lexicon={}
        )


@pytest.mark.usefixtures("flashlight")
def test_pieces_with_a_lexicon(write_model):
    """Where pieces hold the spaces, words follow one another without a label between."""

    class Pieces:
        labels = ("<pad>", "<unk>", "\u2581a", "\u2581b", "b")

        def encode(self, text):
            return {"a": [2], "ab": [2, 4], "bb": [3, 4]}[text]

        def decode(self, ids):
            return "".join(self.labels[i] for i in ids).replace("\u2581", " ").strip()

        def unknown_characters(self, text):
            return set(text) - set("ab")

    model = load_language_model(write_model())
    contract = compare_with_vocabulary(model, Pieces(), language="mdw_Latn", separator_id=None)
    contract.check(model)
    search = FlashlightSearch(Pieces(), separator_id=None, model=model, lexicon=contract.lexicon)
    probs = np.full((4, 5), 1e-4)
    for frame, label in enumerate((2, 4, 2, 0)):  # ▁a b ▁a, then blank
        probs[frame, label] = 1.0
    found = search.search(np.log(probs / probs.sum(axis=1, keepdims=True)), BeamSettings())
    assert found[0].text == "ab a"


@pytest.mark.usefixtures("flashlight")
def test_a_damaged_model_is_refused(write_model):
    directory = write_model(unit="character")
    model = load_language_model(directory)
    (directory / "lm.bin").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"lm\.bin cannot be read by KenLM"):
        FlashlightSearch(VOCABULARY, separator_id=SEPARATOR, model=model, lexicon={})
