"""Hours by language, source and licence of the utterances that a run uses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from speechvq.data.audio import encode_flac
from speechvq.data.corpus import CorpusWriter
from speechvq.data.index import load_index
from speechvq.data.origins import describe_origins
from speechvq.data.records import Utterance


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rows = [("a", "radio", "cc0", 16_000), ("b", "radio", None, 8_000), ("c", "film", "cc0", 4_000),
            ("d", "radio", "cc0", 12_000)]  # fmt: skip
    with CorpusWriter(tmp_path / "corpus", normalizer="basic-1") as writer:
        for name, source, licence, length in rows:
            writer.add(
                Utterance(
                    id=name,
                    language="hin_Deva",
                    audio=encode_flac(np.zeros(length, np.float32)),
                    num_samples=length,
                    source=source,
                    licence=licence,
                )
            )
    return tmp_path / "corpus"


def test_each_source_and_licence_counts_for_itself(corpus: Path) -> None:
    found = describe_origins(load_index([corpus], split="train"))
    assert found["normalizer"] == "basic-1"
    rows = [(row["source"], row["licence"], row["utterances"]) for row in found["sources"]]
    assert rows == [("film", "cc0", 1), ("radio", None, 1), ("radio", "cc0", 2)]
    assert found["sources"][2]["hours"] == pytest.approx(28_000 / 16_000 / 3600, abs=1e-4)


def test_what_a_run_leaves_out_does_not_count(corpus: Path) -> None:
    index = load_index([corpus], split="train", where="source=radio", min_seconds=0.7)
    (row,) = describe_origins(index)["sources"]
    assert (row["source"], row["licence"], row["utterances"]) == ("radio", "cc0", 2)


def test_nothing_has_no_origin(corpus: Path) -> None:
    index = load_index([corpus], split="test")
    assert describe_origins(index) == {"normalizer": None, "sources": []}
