"""Labels for utterances without text: what they may be for, and that nothing else is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fairseq2")

from speechvq.data.audio import encode_flac
from speechvq.data.corpus import CorpusWriter
from speechvq.data.label_tables import write_label_table
from speechvq.data.records import SAMPLE_RATE, Flag, Utterance
from speechvq.errors import DataError
from speechvq.training.finetune_config import FinetuneConfig
from speechvq.training.label_overlay import load_pool
from speechvq.training.recognition_data import load_recognition_data, load_transcribed

SECONDS = 1.0
FLAGS = {"1": Flag.DIGITS.value, "copy": Flag.NEAR_DUPLICATE.value}
"""Flags of texts with these signs."""


def write_corpus(directory: Path, rows: Sequence[tuple[str, str | None]], **changes: str) -> Path:
    """Write (split, text) as utterances u0, u1, …; `changes` are recordings by id."""
    rng = np.random.default_rng(0)
    with CorpusWriter(directory, normalizer="basic-1") as writer:
        for number, (split, text) in enumerate(rows):
            name = f"u{number}"
            audio = rng.normal(0, 0.1, round(SECONDS * SAMPLE_RATE)).astype(np.float32)
            writer.add(
                Utterance(
                    id=name, language="hin_Deva", split=split, audio=encode_flac(audio),
                    num_samples=len(audio), text=text, source="s", path=name,
                    recording=changes.get(name, name),
                    flags=[flag for sign, flag in FLAGS.items() if text and sign in text],
                )
            )  # fmt: skip
    return directory


def create_config(corpus: Path, tables: Sequence[Path] = (), **changes: object) -> FinetuneConfig:
    values = {
        "language": ["hin_Deva"], "output": "run", "corpus": [str(corpus)],
        "labels": [str(path) for path in tables], **changes,
    }  # fmt: skip
    return FinetuneConfig(**values)  # type: ignore[arg-type]


def write_table(path: Path, **texts: str) -> Path:
    write_label_table(path, ("id", "text"), texts.items())
    return path


ROWS = [("train", "abc"), ("train", None), ("train", "ab 1"), ("train", None), ("dev", "ab")]


def test_labels_join_the_transcribed_and_leave_the_vocabulary(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", ROWS)
    table = write_table(tmp_path / "t.tsv", u1="CAB a!", u2="ab q", u0="another", u3="")
    data = load_recognition_data(create_config(corpus, [table]))
    assert dict(zip(data.train.ids, data.train.texts or [], strict=True)) == {
        "u0": "abc",  # the corpus' own text stays
        "u1": "cab a",
        "u2": "ab q",  # flagged for its digits: as good as untranscribed
    }
    assert data.vocabularies["hin_Deva"].labels[3:] == ("a", "b", "c")
    notes = " ".join(data.notes)
    assert "1 of the `labels` are of transcribed utterances" in notes
    assert "'q' ×1 (first in `u2`)" in notes
    assert load_recognition_data(create_config(corpus)).train.ids == ["u0"]


def test_lengths_count_for_labels_too(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", [*ROWS, ("train", None)])
    table = write_table(tmp_path / "t.tsv", u1="abc" * 40)
    data = load_recognition_data(create_config(corpus, [table]))
    assert data.train.ids == ["u0"]
    assert "`u1` (120 labels" in " ".join(data.notes)


def test_dev_is_refused_whatever_filters_say(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", ROWS)
    table = write_table(tmp_path / "t.tsv", u1="abc", u4="abc")
    with pytest.raises(DataError, match="`u4` is of split `dev`"):
        load_recognition_data(create_config(corpus, [table], where="source=s"))


def test_pool_is_what_is_not_learned_from_and_not_held_out(tmp_path: Path) -> None:
    rows = [*ROWS, ("test", "ab"), ("train", None)]
    corpus = write_corpus(tmp_path / "corpus", rows, u5="shared", u3="shared")
    notes: list[str] = []
    config = create_config(corpus)
    transcribed, _ = load_transcribed(config, notes)
    pool = load_pool(config, transcribed, notes)
    assert transcribed.ids == ["u0"]
    assert pool.ids == ["u1", "u2", "u6"]  # u3 is of a recording that test has a part of
    assert pool.texts is None
    assert "1 utterances of split `train` are cut from recordings" in notes[-1]


def test_copies_of_held_out_utterances_are_not_labelled(tmp_path: Path) -> None:
    rows = [("train", "abc"), ("train", "copy 1"), ("train", "ab 1")]
    for name, held_out, expected in (("a", "ab", ["u1", "u2"]), ("b", "copy", ["u2"])):
        corpus = write_corpus(tmp_path / name, [*rows, ("test", held_out)])
        config = create_config(corpus)
        assert load_pool(config, load_transcribed(config, [])[0], []).ids == expected


def test_texts_outside_of_the_subset_change_nothing(tmp_path: Path) -> None:
    texts = ["abc", "bcd", "abd", "acd", "cab", "dab"]
    rows = [("train", text) for text in texts] + [("dev", "ab")]
    clean = write_corpus(tmp_path / "clean", rows)
    subset = load_recognition_data(create_config(clean, max_train_seconds=2.5)).train.ids
    assert len(subset) == 2
    poison = [
        (split, text if f"u{n}" in subset or split == "dev" else "zzz " * 9)
        for n, (split, text) in enumerate(rows)
    ]
    poisoned = write_corpus(tmp_path / "poisoned", poison)
    other = next(f"u{n}" for n in range(6) if f"u{n}" not in subset)
    table = write_table(tmp_path / "t.tsv", **{other: "ab"})
    first, second = (
        load_recognition_data(create_config(corpus, [table], max_train_seconds=2.5))
        for corpus in (clean, poisoned)
    )
    assert first.train.ids == second.train.ids
    assert set(first.train.ids) == {*subset, other}
    assert first.train.texts == second.train.texts
    assert first.vocabularies["hin_Deva"].to_json() == second.vocabularies["hin_Deva"].to_json()
    assert first.notes == second.notes
