import math

import pytest

from speechvq.decoding.language_model import load_language_model
from speechvq.decoding.ngram import NgramModel, iterate_arpa, read_arpa
from speechvq.errors import ModelError

LN10 = math.log(10)


@pytest.fixture
def arpa(write_model):
    return write_model() / "lm.arpa"


def test_back_off_is_the_definition(arpa):
    model = read_arpa(arpa)
    assert model.order == 2
    assert len(model) == 11
    history = model.start()
    for token, expected in (
        ("a", -0.4),  # there
        ("ab", -0.3),
        ("bb", -0.25 - 1.1),  # not there: back-off of "ab"
        ("zzz", -0.15 - 100.0),  # unknown, as KenLM has it
        ("a", -0.7),  # an unknown history has no weight
    ):
        history, score = model.score(history, token)
        assert score == pytest.approx(expected * LN10), token
    assert history == ("a",)
    assert model.score_sentence(["a", "ab"]) == pytest.approx((-0.4 - 0.3 - 0.5) * LN10)
    assert model.score_sentence([]) == pytest.approx((-0.3 - 0.6) * LN10)


def test_perplexity_leaves_unknown_words_out_and_counts_them(arpa):
    found = read_arpa(arpa).compute_perplexity([("a", "ab"), ("a", "zzz")])
    known = (-0.4 - 0.3 - 0.5) + (-0.4 - 0.6)  # the end of the second after an unknown word
    assert found.perplexity == pytest.approx(10 ** (-known / 5))
    assert (found.num_sentences, found.num_tokens, found.num_unknown) == (2, 4, 1)
    assert found.unknown_rate == 0.25
    assert NgramModel(2, {}).compute_perplexity([]).perplexity is None


def test_reading_only_what_is_needed_gives_the_same(arpa):
    sentences = [("a", "ab"), ("bb", "a")]
    small, whole = read_arpa(arpa, sentences), read_arpa(arpa)
    assert len(small) < len(whole)
    assert small.compute_perplexity(sentences) == whole.compute_perplexity(sentences)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "after the last"),
        (lambda text: "nonsense\n" + text, "line 1"),
        (lambda text: text[:120], "3-grams|1-grams|2-grams"),
        (lambda text: text.replace("-0.7\ta", "x\ta"), "line 8"),
        (lambda text: text.replace("-0.7\ta", "nan\ta"), "line 8"),
        (lambda text: text.replace("ngram 2=6", "ngram 2=7"), "7 2-grams"),
        (lambda text: text.replace("ngram 2=6", "ngram 2=5"), r"end"),
        (lambda text: text.replace("\\end\\\n", ""), "after the last"),
    ],
)
def test_damaged_files_are_refused_with_the_line(arpa, change, message):
    arpa.write_text(change(arpa.read_text("utf-8")), "utf-8")
    with pytest.raises(ModelError, match=message):
        list(iterate_arpa(arpa))


def test_directories_that_are_none_are_refused(write_model, tmp_path):
    with pytest.raises(ModelError, match="train_lm"):
        load_language_model(tmp_path / "nothing")
    with pytest.raises(ModelError, match=r"`order` is 3, but lm\.arpa has order 2"):
        load_language_model(write_model("order", order=3))
    with pytest.raises(ModelError, match="`unit`"):
        load_language_model(write_model("unit", arpa="x", unit="syllable"))
    with pytest.raises(ModelError, match=r"lexicon\.txt, line 2"):
        load_language_model(write_model("lexicon", lexicon=["a\ta |", "ab"]))
    with pytest.raises(ModelError, match="format_version"):
        load_language_model(write_model("version", format_version=2))


def test_agrees_with_kenlm(arpa):
    pytest.importorskip("flashlight.lib.text")
    from flashlight.lib.text.decoder.kenlm import KenLM
    from flashlight.lib.text.dictionary import Dictionary

    tokens = ["a", "ab", "bb", "zzz"]
    theirs, ours = KenLM(str(arpa), Dictionary(tokens)), read_arpa(arpa)
    for sentence in (["a", "ab", "bb"], ["zzz", "a", "a"], [], ["bb", "bb", "zzz"]):
        state, total = theirs.start(False), 0.0
        for token in sentence:
            state, score = theirs.score(state, tokens.index(token))
            total += score
        total += theirs.finish(state)[1]
        assert ours.score_sentence(sentence) == pytest.approx(total * LN10, rel=1e-5)
