"""The index and the rows behind it, on a corpus on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from speechvq.data.corpus import CorpusWriter
from speechvq.data.index import load_index
from speechvq.data.records import Utterance
from speechvq.data.rows import RowReader
from speechvq.errors import DataError
from tests.support.corpora import write_tone_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tone_corpus(tmp_path_factory.mktemp("corpus") / "tones")


def test_index_has_every_utterance_of_the_split(corpus: Path) -> None:
    index = load_index([corpus], split="train")
    assert len(index) == 48
    assert index.languages == ("hin_Deva", "tam_Taml")
    assert index.texts is None
    assert sum(index.hours_by_language().values()) == pytest.approx(index.hours)


def test_language_where_and_length_select(corpus: Path) -> None:
    assert len(load_index([corpus], split="train", languages=["tam_Taml"])) == 24
    assert len(load_index([corpus], split="train", where="speaker=train0")) == 16
    index = load_index([corpus], split="train", min_seconds=1.3, max_seconds=1.9)
    assert index.num_too_short > 0
    assert index.num_too_long > 0
    assert len(index) + index.num_too_short + index.num_too_long == 48
    assert index.num_samples.min() >= 20_800
    assert index.num_samples.max() <= 30_400


def test_transcripts_come_on_demand(corpus: Path) -> None:
    index = load_index([corpus], split="dev", needs_text=True)
    assert index.texts is not None
    assert all(index.texts)
    assert index.select(np.array([2])).texts == [index.texts[2]]


def test_unknown_column_is_named(corpus: Path) -> None:
    with pytest.raises(DataError, match="colour"):
        load_index([corpus], split="train", where="colour=red")


def test_the_same_corpus_twice_is_refused(corpus: Path) -> None:
    with pytest.raises(DataError, match="occurs twice"):
        load_index([corpus, corpus], split="train")


def test_rows_are_what_the_index_says_whatever_the_cache(corpus: Path) -> None:
    index = load_index([corpus], split="train")
    small, large = RowReader(index, capacity=1), RowReader(index, capacity=100)
    for position in np.random.default_rng(0).permutation(len(index)):
        waveform = small.read_waveform(int(position))
        assert len(waveform) == index.num_samples[position]
        np.testing.assert_array_equal(waveform, large.read_waveform(int(position)))


def test_wrong_length_is_reported_with_the_id(corpus: Path) -> None:
    index = load_index([corpus], split="train")
    index.num_samples[3] += 1
    with pytest.raises(DataError, match=index.ids[3]):
        RowReader(index, capacity=1).read_waveform(3)


def test_damaged_file_is_named(tmp_path: Path) -> None:
    corpus = write_tone_corpus(tmp_path / "tones", counts={"train": 2})
    (part,) = corpus.glob("split=train/language=tam_Taml/part-*.parquet")
    part.write_bytes(part.read_bytes()[:-100])  # as a copy that was cut short
    with pytest.raises(DataError, match=r"tam_Taml.*part-00000.parquet cannot be read"):
        load_index([corpus], split="train")


def test_damaged_audio_is_named_with_file_and_id(tmp_path: Path) -> None:
    with CorpusWriter(tmp_path / "corpus") as writer:
        writer.add(
            Utterance(
                id="x/1", language="hin_Deva", split="train", audio=b"fLaC no more",
                num_samples=16_000, source="x", recording="x", path="x",
            )
        )  # fmt: skip
    index = load_index([tmp_path / "corpus"], split="train")
    with pytest.raises(DataError, match=r"part-00000.parquet: utterance `x/1`: .* damaged"):
        RowReader(index, capacity=1).read_waveform(0)
