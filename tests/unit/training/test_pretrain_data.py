"""Pretraining has the utterances that its configuration asks for, and says what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("fairseq2")

from speechvq.errors import DataError
from speechvq.training.pretrain_config import PretrainConfig
from speechvq.training.pretrain_data import load_pretrain_data
from tests.support.corpora import write_tone_corpus


def test_language_that_the_corpus_lacks_is_named(tmp_path: Path) -> None:
    corpus = write_tone_corpus(tmp_path / "tones", counts={"train": 1})
    config = PretrainConfig(
        output=str(tmp_path / "run"), corpus=[str(corpus)], languages=["tam_Taml", "tam_Latn"]
    )
    with pytest.raises(DataError, match=r"no utterance of tam_Latn, .* but of tam_Taml"):
        load_pretrain_data(config)
    config.languages = ["tam_Taml"]
    data = load_pretrain_data(config)
    assert data.train.languages == ("tam_Taml",)
    assert ["no split `dev`" in note for note in data.notes] == [True]
