"""Parquet with audio, made by hand after the specifications of its writers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from speechvq.data.archives import read_source_bytes
from speechvq.data.formats import choose_format
from speechvq.data.manifest import read_manifests
from speechvq.data.tree import FileTree
from speechvq.errors import DataError
from tests.unit.data.formats.golden import make_audio, write_tree

CLIPS = [make_audio(0.5 + i / 4, "FLAC") for i in range(5)]


def test_a_hugging_face_dataset(tmp_path: Path) -> None:
    audio = [{"bytes": clip, "path": f"{i}.flac"} for i, clip in enumerate(CLIPS)]
    audio[3] = {"bytes": None, "path": None}
    table = pa.table(
        {
            "client_id": ["s1", "s1", "s2", None, "s3"],
            "audio": pa.array(audio, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            "sentence": ["एक", "दो", None, "चार", "पाँच"],
            "up_votes": [2, 2, 3, 2, 2],
            "locale": ["hi"] * 4 + ["xx"],
            "gender": pa.array([0, 1, 0, 1, 0], pa.int64()),
        }
    )
    root = tmp_path / "cv"
    (root / "hi").mkdir(parents=True)
    pq.write_table(table, root / "hi" / "validation-00000-of-00001.parquet", row_group_size=2)
    assert choose_format(FileTree(str(root))).name == "huggingface"
    rows, rejections = read_manifests([str(root)])
    place = "hi/validation-00000-of-00001.parquet!/"
    assert [(r.path, r.language, r.split, r.speaker, r.transcript) for r in rows] == [
        (f"{place}0", "hin_Deva", "dev", "s1", "एक"),
        (f"{place}1", "hin_Deva", "dev", "s1", "दो"),
        (f"{place}2", "hin_Deva", "dev", "s2", None),
        (f"{place}3", "hin_Deva", "dev", None, "चार"),
    ]
    assert [(row.path, row.language) for row in rejections] == [(f"{place}4", "xx")]
    for index in (2, 0, 1):
        assert read_source_bytes(rows[index].root, rows[index].path) == CLIPS[index]
    with pytest.raises(DataError, match="row 3 holds no audio"):
        read_source_bytes(rows[3].root, rows[3].path)
    for row in ("9", "x", "-1"):
        with pytest.raises(DataError):
            read_source_bytes(str(root), f"{place}{row}")


def test_a_dataset_whose_audio_lies_beside_it(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    audio = pa.array([{"bytes": None, "path": "clips/a.flac"}], kind)
    root = write_tree(tmp_path / "in", {"clips/a.flac": CLIPS[0]})
    pq.write_table(pa.table({"audio": audio, "text": ["एक"]}), root / "train.parquet")
    (row,), _ = read_manifests([str(root)], language="hin_Deva", format="huggingface")
    assert (row.path, row.transcript) == ("clips/a.flac", "एक")


def test_omnilingual_partitions(tmp_path: Path) -> None:
    for corpus, split, language, first in (
        ("mls", "train", "deu_Latn", 0),
        ("fleurs%20plus", "dev", "hin_Deva", 2),
    ):
        folder = tmp_path / f"corpus={corpus}" / f"split={split}" / f"language={language}"
        folder.mkdir(parents=True)
        clips = CLIPS[first : first + 2]
        table = pa.table(
            {
                "text": ["ein text", None],
                "audio_bytes": pa.array(
                    [np.frombuffer(clip, np.int8) for clip in clips], pa.list_(pa.int8())
                ),
                "audio_size": pa.array([8_000, 12_000], pa.int64()),
            }
        )
        pq.write_table(table, folder / "part-0.parquet", row_group_size=100)
    assert choose_format(FileTree(str(tmp_path))).name == "omnilingual"
    rows, rejections = read_manifests([str(tmp_path)])
    assert rejections == []
    assert [(r.source, r.split, r.language, r.transcript, r.seconds) for r in rows] == [
        ("fleurs plus", "dev", "hin_Deva", "ein text", 0.5),
        ("fleurs plus", "dev", "hin_Deva", None, 0.75),
        ("mls", "train", "deu_Latn", "ein text", 0.5),
        ("mls", "train", "deu_Latn", None, 0.75),
    ]
    assert read_source_bytes(rows[3].root, rows[3].path) == CLIPS[1]


def test_damaged_tables(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "in", {"train.parquet": b"PAR1 no parquet at all"})
    with pytest.raises(DataError, match="holds no audio"):
        read_manifests([str(root)])
    rows, (rejection,) = read_manifests([str(root)], format="huggingface", language="hin_Deva")
    assert rows == []
    assert "cannot be read" in rejection.detail
    with pytest.raises(DataError, match="no Parquet file"):
        read_source_bytes(str(root), "train.parquet!/0")
