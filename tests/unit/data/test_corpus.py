"""What goes into a corpus comes out of it, bit for bit."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechvq.data.audio import decode_flac, encode_flac
from speechvq.data.corpus import (
    CORPUS_SCHEMA,
    CorpusWriter,
    list_partitions,
    parse_where,
    read_corpus_info,
    read_utterances,
)
from speechvq.data.records import Utterance
from speechvq.errors import DataError

FLAC = encode_flac(np.linspace(-0.5, 0.5, 800, dtype=np.float32))


def _utterance(number: int, **changes: object) -> Utterance:
    values: dict[str, object] = {
        "id": f"s/{number}.wav",
        "language": "hin_Deva",
        "audio": FLAC,
        "num_samples": 800,
        "source": "s",
        "recording": f"{number}.wav",
        "path": f"{number}.wav",
        "end_seconds": 0.05,
    }
    return Utterance(**(values | changes))  # type: ignore[arg-type]


def _write(path: Path, utterances: list[Utterance]) -> Path:
    with CorpusWriter(path, normalizer="basic-1") as writer:
        for utterance in utterances:
            writer.add(utterance)
    return path


_optional = st.none() | st.floats(-100, 100, width=32)
_utterances = st.builds(
    Utterance,
    id=st.text(max_size=8),
    language=st.sampled_from(["hin_Deva", "mdw_Latn"]),
    split=st.sampled_from(["train", "test"]),
    audio=st.binary(max_size=20),
    num_samples=st.integers(0, 2**40),
    text=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    raw_text=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    source=st.sampled_from(["a", "b"]),
    speaker=st.none() | st.just("x"),
    start_seconds=st.floats(0, 1e6),
    snr_db=_optional,
    speech_ratio=_optional,
    original_channels=st.none() | st.integers(1, 8),
    flags=st.lists(st.sampled_from(["digits", "pipe"])),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(_utterances, min_size=1, max_size=150))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[Utterance]) -> None:
    corpus = _write(tmp_path_factory.mktemp("c") / "corpus", rows)
    wanted = sorted(rows, key=lambda row: (row.split, row.language))
    assert list(read_utterances(corpus)) == wanted


@given(st.integers(0, 2**32 - 1), st.integers(1, 3000))
@settings(max_examples=30, deadline=None)
def test_flac_is_exact(seed: int, size: int) -> None:
    pcm = np.random.default_rng(seed).integers(-32768, 32768, size)
    waveform = (pcm / 32768).astype(np.float32)
    np.testing.assert_array_equal(decode_flac(encode_flac(waveform)), waveform)


def test_flac_clips_what_is_beyond_full_scale() -> None:
    waveform = np.array([2.0, -2.0, 1.0, -1.0], np.float32)
    np.testing.assert_allclose(decode_flac(encode_flac(waveform)), [1, -1, 1, -1], atol=4e-5)


def test_same_rows_same_bytes_in_row_groups_of_64(tmp_path: Path) -> None:
    rows = [_utterance(number) for number in range(130)]
    files = [list_partitions(_write(tmp_path / name, rows))[0].files[0] for name in ("a", "b")]
    assert files[0].read_bytes() == files[1].read_bytes()
    metadata = pq.ParquetFile(files[0]).metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [64, 64, 2]


def test_schema_and_record_have_the_same_fields() -> None:
    assert {field.name for field in fields(Utterance)} - {"split"} == set(CORPUS_SCHEMA.names)


def test_parts_partitions_and_counts(tmp_path: Path) -> None:
    rows = [_utterance(n, split="dev" if n % 5 == 0 else "train") for n in range(10)]
    rows += [_utterance(10, language="mdw_Latn")]
    with CorpusWriter(tmp_path / "c", rows_per_part=3) as writer:
        for row in rows:
            writer.add(row)
    partitions = list_partitions(tmp_path / "c")
    assert [(p.split, p.language, len(p.files)) for p in partitions] == [
        ("dev", "hin_Deva", 1),
        ("train", "hin_Deva", 3),
        ("train", "mdw_Latn", 1),
    ]
    info = read_corpus_info(tmp_path / "c")
    assert info["splits"]["train"]["hin_Deva"] == {
        "num_utterances": 8,
        "num_samples": 6400,
        "hours": pytest.approx(6400 / 16000 / 3600, abs=1e-6),
    }


def test_any_reader_of_hive_partitions_reads_a_corpus(tmp_path: Path) -> None:
    corpus = _write(tmp_path / "c", [_utterance(1), _utterance(2, language="mdw_Latn")])
    table = ds.dataset(corpus, format="parquet", partitioning="hive", exclude_invalid_files=True)
    rows = table.to_table(columns=["id", "language", "split"]).to_pylist()
    assert {"id": "s/2.wav", "language": "mdw_Latn", "split": "train"} in rows
    assert len(rows) == 2


def test_filters_and_columns(tmp_path: Path) -> None:
    rows = [_utterance(1, speaker="x"), _utterance(2, source="t", speaker="x"), _utterance(3)]
    corpus = _write(tmp_path / "c", rows)
    found = list(read_utterances(corpus, where="source=s,speaker=x", columns=["num_samples"]))
    assert [(row.id, row.num_samples, row.audio) for row in found] == [("s/1.wav", 800, b"")]
    assert list(read_utterances(corpus, splits=["test"])) == []
    assert len(list(read_utterances(corpus, languages=["hin_Deva"]))) == 3
    assert parse_where(" source = s ") == {"source": "s"}
    with pytest.raises(DataError, match="no column 'colour'"):
        list(read_utterances(corpus, columns=["colour"]))
    with pytest.raises(DataError, match="'colour'"):
        parse_where("colour=red")
    with pytest.raises(DataError, match="column=value"):
        parse_where("source")


def test_a_failed_writer_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with CorpusWriter(tmp_path / "c") as writer:
            for number in range(100):
                writer.add(_utterance(number))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no complete corpus.*speechvq prepare"):
        list_partitions(tmp_path)
    (tmp_path / "corpus.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        list_partitions(tmp_path)
    (tmp_path / "corpus.json").write_text('{"format": "speechvq-corpus", "format_version": 9}')
    with pytest.raises(DataError, match="must be 1, but is 9"):
        list_partitions(tmp_path)
    _write(tmp_path / "c", [])
    with pytest.raises(DataError, match="no utterance"):
        list_partitions(tmp_path / "c")
    with pytest.raises(DataError, match="new or empty"):
        CorpusWriter(tmp_path / "c")


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    corpus = _write(tmp_path / "c", [_utterance(1)])
    file = list_partitions(corpus)[0].files[0]
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(DataError, match="part-00000"):
        list(read_utterances(corpus))
