from __future__ import annotations

import io
import json

import pytest

from speechvq.errors import ModelError
from speechvq.models.vocabulary import (
    BLANK_ID,
    UNKNOWN_ID,
    UNKNOWN_TEXT,
    SentencePieceVocabulary,
    build_character_vocabulary,
    build_grapheme_vocabulary,
    vocabulary_from_json,
)

TEXT = "नमस्ते क्\u200dष दुनिया"


def test_text_survives_labels():
    vocabulary = build_character_vocabulary([TEXT])
    ids = vocabulary.encode(f"  {TEXT} ")
    assert vocabulary.decode(ids) == TEXT
    assert min(ids) > UNKNOWN_ID
    assert vocabulary.labels[:3] == ("<pad>", "<unk>", "|")
    assert ids.count(2) == 2
    assert len(vocabulary) == 3 + len(set(TEXT) - {" "})


def test_order_of_texts_does_not_matter():
    assert (
        build_character_vocabulary(["ba", "dc"]).labels
        == build_character_vocabulary(["cd", "ab", "a"]).labels
        == ("<pad>", "<unk>", "|", "a", "b", "c", "d")
    )


def test_unknown_characters_are_errors_that_show():
    vocabulary = build_character_vocabulary(["ab"])
    assert vocabulary.encode("a|xb") == [3, UNKNOWN_ID, UNKNOWN_ID, 4]
    assert vocabulary.unknown_characters("abx |") == {"x", "|"}
    assert vocabulary.decode([3, BLANK_ID, UNKNOWN_ID, 4]) == f"a{UNKNOWN_TEXT}b"


def test_json_round_trip():
    vocabulary = build_character_vocabulary([TEXT])
    document = json.loads(json.dumps(vocabulary.to_json()))
    assert vocabulary_from_json(document).labels == vocabulary.labels


@pytest.mark.parametrize(
    "document",
    [
        None,
        {},
        {"kind": "character"},
        {"kind": "other", "labels": []},
        {"kind": "character", "labels": ["a", "b"]},
        {"kind": "character", "labels": ["<pad>", "<unk>", "|", "\ud915"]},
        {"kind": "grapheme", "labels": ["<pad>", "<unk>", "|", "\u0915\udc3f"]},
        {"kind": "character", "labels": ["<pad>", "<unk>", "|", "a", "a"]},
        {"kind": "character", "labels": ["<pad>", "<unk>", "|", 3]},
        {"kind": "character", "labels": ["<pad>", "<unk>", "|"], "more": 1},
        {"kind": "sentencepiece", "model": "%%%"},
    ],
)
def test_foreign_json_is_refused(document):
    with pytest.raises(ModelError):
        vocabulary_from_json(document)


def test_sentencepiece():
    sentencepiece = pytest.importorskip("sentencepiece")
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat sat on the mat", "the hat of the cat"] * 20),
        model_writer=file,
        vocab_size=24,
        model_type="bpe",
        minloglevel=2,
    )
    vocabulary = SentencePieceVocabulary(file.getvalue())
    ids = vocabulary.encode("the cat sat")
    assert min(ids) > UNKNOWN_ID
    assert max(ids) < len(vocabulary)
    assert len(ids) < len("the cat sat")
    assert vocabulary.decode(ids) == "the cat sat"
    assert vocabulary.unknown_characters("the ङ") == {"ङ"}
    assert UNKNOWN_ID in vocabulary.encode("ङ")
    document = json.loads(json.dumps(vocabulary.to_json()))
    assert vocabulary_from_json(document).labels == vocabulary.labels
    with pytest.raises(ModelError, match="sentencepiece"):
        SentencePieceVocabulary(b"not a model")


def test_grapheme_clusters_are_labels_and_rare_ones_are_spelled():
    vocabulary = build_grapheme_vocabulary(["क्षि क्षि कि", "क्षि नी"], min_count=2)
    assert "क्षि" in vocabulary.labels
    assert "कि" not in vocabulary.labels  # once only
    assert {"क", "ि", "्", "ष", "न", "ी"} <= set(vocabulary.labels)
    ids = vocabulary.encode("क्षि कि")
    assert [vocabulary.labels[index] for index in ids] == ["क्षि", "|", "क", "ि"]
    assert vocabulary.decode(ids) == "क्षि कि"
    assert vocabulary.unknown_characters("क्षि कीख|") == {"ख", "|"}
    assert vocabulary.encode("ख") == [UNKNOWN_ID]


def test_grapheme_vocabulary_survives_json():
    vocabulary = build_grapheme_vocabulary([TEXT], min_count=1)
    again = vocabulary_from_json(json.loads(json.dumps(vocabulary.to_json())))
    assert again.encode(TEXT) == vocabulary.encode(TEXT)
    assert len(vocabulary.encode(TEXT)) < len(build_character_vocabulary([TEXT]).encode(TEXT))
    assert again.decode(again.encode(TEXT)) == TEXT
