"""Language models from text: what enters, what comes out, what is refused."""

import json
import math
import shutil

import numpy as np
import pytest

from speechvq.data.audio import encode_flac
from speechvq.data.corpus import CorpusWriter
from speechvq.data.records import Utterance
from speechvq.decoding.config import TrainLmConfig
from speechvq.decoding.language_model import load_language_model
from speechvq.decoding.lm_text import LmText
from speechvq.decoding.lm_training import describe, train_language_model
from speechvq.decoding.ngram import iterate_arpa, read_arpa
from speechvq.errors import ConfigError, DataError

TRAIN = [
    "the cat sat on the mat",
    "The cat sat on the mat.",
    "the dog sat on the mat",
    "a dog saw the cat",
    "a cat saw the dog",
    "we said that a man walks home, he said",  # holds a sentence of test
    "Good  morning!",  # is one of dev
    "good morning to you",  # merely begins like one
]
DEV = ["good morning", "the cat saw a zebra"]
TEST = ["That a man walks home", "yes"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    directory = tmp_path_factory.mktemp("lm") / "corpus"
    audio = encode_flac(np.zeros(800, np.float32))
    with CorpusWriter(directory, normalizer="basic-1") as writer:
        for split, texts in (("train", TRAIN), ("dev", DEV), ("test", TEST)):
            for number, text in enumerate([*texts, None]):
                writer.add(
                    Utterance(
                        id=f"{split}{number}", language="eng_Latn", split=split, audio=audio,
                        num_samples=800, text=text, source="x" if number < 6 else "y",
                    )
                )  # fmt: skip
    return directory


def configure(output, **keys):
    return TrainLmConfig(language="eng_Latn", output=str(output), **keys)


def test_sentences_of_other_splits_never_enter(corpus, tmp_path):
    extra = tmp_path / "extra.txt"
    extra.write_text("YES\n\nno, never\n... yes ...\nhe said yes\n-- 123 !\n", "utf-8")
    text = LmText(configure(tmp_path / "lm", corpus=str(corpus), text=[str(extra)]))
    sentences = [" ".join(words) for words in text]
    assert sentences == [
        *(line.lower().strip(".") for line in TRAIN[:5]),
        "good morning to you",
        "no never",
        "he said yes",  # one word of test inside of a sentence is no leak
        "123",
    ]
    assert text.counts.excluded == {"dev": 1, "test": 3}
    assert text.counts.num_empty == 1
    assert text.counts.num_lines == len(TRAIN) + 6
    held_out = {line.lower().strip(".") for line in (*DEV, *TEST)}
    assert not held_out & set(sentences)


def test_where_chooses_text_but_not_what_is_kept_out(corpus, tmp_path):
    config = configure(tmp_path / "lm", corpus=str(corpus), where="source=y")
    text = LmText(config)
    assert [" ".join(words) for words in text] == ["good morning to you"]
    assert text.counts.excluded == {"dev": 1}


def test_reserved_words_are_left_out(tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text("a <s> b\na b\nc | d\n", "utf-8")
    keys = {"text": [str(lines)], "normalizer": "verbatim"}
    words = LmText(configure(tmp_path / "a", **keys))
    assert list(words) == [("a", "b"), ("c", "|", "d")]
    letters = LmText(configure(tmp_path / "b", unit="character", **keys))
    assert list(letters) == [("a", "<s>", "b"), ("a", "b")]
    assert letters.counts.num_reserved == 1


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    pytest.importorskip("kaldingram")
    root = tmp_path_factory.mktemp("trained")
    text = root / "more.txt"
    text.write_text("the cat saw the cat\nthe dog saw the cat\nthe dog saw the cat\n", "utf-8")
    keys = {"corpus": str(corpus), "text": [str(text)], "order": 2}
    return {
        unit: (root / unit, train_language_model(configure(root / unit, unit=unit, **keys)))
        for unit in ("word", "character")
    }


def test_words(trained):
    directory, summary = trained["word"]
    assert sorted(path.name for path in directory.iterdir()) == [
        "lexicon.txt", "lm.arpa", "summary.json",
    ]  # fmt: skip
    model = load_language_model(directory)
    assert (model.unit, model.order, model.language) == ("word", 2, "eng_Latn")
    assert next(iter(model.spellings.items())) == ("the", ("t", "h", "e", "|"))
    # The text is what entered, and nothing of dev and test.
    assert model.tokens == set(model.spellings)
    assert model.tokens.isdisjoint({"zebra", "yes", "home"})
    assert summary.num_left_out == {"empty": 0, "reserved": 0, "dev": 1, "test": 1}
    assert summary.num_ngrams[0] == len(model.tokens) + 2
    # dev: good, morning, the, cat, saw, a, zebra
    assert (summary.dev["num_words"], summary.dev["num_oov"]) == (7, 1)
    assert summary.dev["num_unknown"] == 1
    assert "14.3 %" in describe(summary, str(directory))
    document = json.loads((directory / "summary.json").read_text("utf-8"))
    assert document["config"]["order"] == 2


def test_probabilities_of_each_history_sum_to_one(trained):
    for directory, _ in trained.values():
        model = read_arpa(directory / "lm.arpa")
        tokens = {ngram[0] for ngram, _, _ in iterate_arpa(directory / "lm.arpa")} - {"<s>"}
        histories = {(token,) for token in tokens - {"</s>"}} | {("<s>",)}
        for history in histories:
            total = sum(math.exp(model.score(history, token)[1]) for token in tokens)
            assert total == pytest.approx(1, abs=1e-4), history


def test_characters_have_a_separator_between_words(trained):
    model = load_language_model(trained["character"][0])
    assert "|" in model.tokens
    assert all(len(token) == 1 for token in model.tokens)
    letters = read_arpa(model.arpa)
    assert letters.score_sentence("the|cat") > letters.score_sentence("thecat")
    assert trained["character"][1].dev["num_tokens"] == len("good|morning") + len(
        "the|cat|saw|a|zebra"
    )


def test_perplexity_is_kaldingrams(trained, tmp_path):
    from kaldingram.ppl import compute_ppl
    from kaldingram.prune import ArpaParser

    directory, summary = trained["word"]
    (theirs,) = ArpaParser().loadf(directory / "lm.arpa", encoding="utf-8")
    # Theirs counts an unknown word as impossible; so without it.
    lines = ["good morning", "the cat saw a"]
    sentences = [line.split() for line in lines]
    expected = compute_ppl(theirs, lines)["ppl"]
    ours = read_arpa(directory / "lm.arpa").compute_perplexity(sentences)
    assert ours.perplexity == pytest.approx(expected, rel=1e-4)
    assert summary.dev["perplexity"] > 1


def test_an_order_that_the_text_does_not_bear_is_lowered(corpus, tmp_path):
    pytest.importorskip("kaldingram")
    lines = tmp_path / "lines.txt"
    lines.write_text("a b\na c\nd e\n", "utf-8")  # "<s> a" occurs twice, no trigram does
    summary = train_language_model(configure(tmp_path / "lm", text=[str(lines)], order=3))
    assert (summary.order, summary.requested_order) == (2, 3)
    told = describe(summary, "lm")
    assert "no 3-gram occurs twice" in told
    assert "nothing kept dev and test sentences out" in told
    scores = [p for ngram, p, _ in iterate_arpa(tmp_path / "lm" / "lm.arpa") if ngram != ("<s>",)]
    assert min(scores) > -10
    lines.write_text("a b\nc d\n", "utf-8")
    with pytest.raises(DataError, match="too little"):
        train_language_model(configure(tmp_path / "none", text=[str(lines)]))


def test_pruning_makes_it_smaller(corpus, tmp_path):
    pytest.importorskip("kaldingram")
    sizes = []
    for name, keys in (("whole", {}), ("pruned", {"prune": 0.01})):
        config = configure(tmp_path / name, corpus=str(corpus), order=2, lexicon_size=3, **keys)
        sizes.append(train_language_model(config).num_ngrams[1])
        assert len(load_language_model(tmp_path / name).spellings) == 3
    assert sizes[1] < sizes[0]


def test_bad_configurations_name_every_problem(tmp_path):
    config = configure(tmp_path, order=9, unit="syllable", where="source=x", min_counts=[-1])
    with pytest.raises(ConfigError) as refused:
        train_language_model(config)
    for key in ("`corpus=DIR`", "`where`", "`unit`", "`order`", "`min_counts`"):
        assert key in str(refused.value)
    assert "`prune`" in configure(tmp_path, text=["x"], min_counts=[0, 2]).validate()[0]
    keys = {"text": ["x"], "order": 6, "prune": 1e-8}
    assert "`min_counts`" in configure(tmp_path, **keys).validate()[0]
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / "lines.txt").write_text("a b\n")
    with pytest.raises(ConfigError, match="`output` must be new"):
        train_language_model(configure(tmp_path, text=[str(tmp_path / "lines.txt")]))
    assert (tmp_path / "thesis.txt").exists()


def test_text_that_leaves_nothing_is_refused(corpus, tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text("yes\nYes!\n...\n", "utf-8")
    output = tmp_path / "lm"
    config = configure(output, corpus=str(corpus), text=[str(lines)], where="source=nobody")
    with pytest.raises(DataError, match=r"of 3 lines 0 are left.*2 a sentence of another split"):
        train_language_model(config)
    assert list(tmp_path.iterdir()) == [lines]
    lines.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        train_language_model(configure(output, text=[str(lines)]))
    with pytest.raises(DataError, match="is none"):
        train_language_model(configure(output, text=["nowhere.txt"]))


@pytest.mark.skipif(shutil.which("lmplz") is not None, reason="lmplz is there")
def test_order_6_says_what_it_needs(tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text("a b\nb a\n", "utf-8")
    with pytest.raises(DataError, match=r"lmplz.*PATH"):
        train_language_model(configure(tmp_path / "lm", text=[str(lines)], order=6))
