"""The division of work: the same for any order of rows, forward through what can only be read so,
by lengths that are about right.
"""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from speechvq.data.audio import encode_flac
from speechvq.data.config import PrepareConfig
from speechvq.data.prepare_plan import plan_preparation
from tests.unit.data.conftest import make_voice, write_manifest
from tests.unit.data.test_archives import write_archive

RATE = 16_000


def _divide(source: Path, minutes: float = 1.0) -> list[list[str]]:
    plan = plan_preparation(
        PrepareConfig(input=[str(source)], language="hin_Deva", part_minutes=minutes)
    )
    return [[row.path for row in part.rows] for part in plan.parts]


def _encode_wav(seconds: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, make_voice(seconds), RATE, format="WAV")
    return file.getvalue()


def test_the_order_of_a_manifest_changes_no_piece(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for number in range(70):  # more than are looked into, of different bytes a second
        level = 0.1 * (number % 5)
        samples = level * rng.standard_normal(int(RATE * (1 + number % 7) / 4))
        soundfile.write(tmp_path / f"{number:02}.flac", samples.clip(-1, 1), RATE)
        rows.append({"path": f"{number:02}.flac", "language": "hin_Deva"})
    write_manifest(tmp_path, rows)
    expected = _divide(tmp_path, 0.2)
    assert len(expected) > 3
    for seed in range(3):
        random.Random(seed).shuffle(rows)
        write_manifest(tmp_path, rows)
        assert _divide(tmp_path, 0.2) == expected


def test_a_compressed_tar_is_read_forward(tmp_path: Path) -> None:
    names = [f"{number}.wav" for number in (3, 1, 4, 0, 2)]
    data = _encode_wav(1)
    archive = write_archive(tmp_path / "in.tar.gz", dict.fromkeys(names, data))
    assert _divide(archive) == [[f"in.tar.gz!/{name}" for name in names]]
    plain = write_archive(tmp_path / "plain.tar", dict.fromkeys(names, data))
    assert _divide(plain) == [[f"plain.tar!/{name}" for name in sorted(names)]]


def test_rows_of_a_table_are_read_forward_and_have_sizes(tmp_path: Path) -> None:
    clips = [{"bytes": encode_flac(make_voice(2, seed=n)), "path": f"{n}.flac"} for n in range(12)]
    (tmp_path / "in").mkdir()
    table = pa.table({"audio": clips, "language": ["hin_Deva"] * len(clips)})
    pq.write_table(table, tmp_path / "in" / "train-00000-of-00001.parquet", row_group_size=4)
    pieces = _divide(tmp_path / "in", 0.1)
    assert len(pieces) > 1
    numbers = [int(path.partition("!/")[2]) for piece in pieces for path in piece]
    assert numbers == list(range(12))


def test_lengths_of_parts_and_of_members_are_estimated(tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    (root / "long.wav").write_bytes(_encode_wav(60))
    row = {"path": "long.wav", "language": "hin_Deva"}
    parts = [{"begin_seconds": 3 * n, "end_seconds": 3 * n + 3} for n in range(10)]
    write_manifest(root, [*(row | part for part in parts), row | {"begin_seconds": 30}])
    plan = plan_preparation(PrepareConfig(input=[str(root)]))
    assert plan.lengths == pytest.approx([3.0] * 10 + [30.0], abs=0.01)
    archive = write_archive(tmp_path / "one.tar", {"a.wav": _encode_wav(60)})
    plan = plan_preparation(PrepareConfig(input=[str(archive)], language="hin_Deva"))
    assert plan.lengths == pytest.approx([60.0], abs=0.01)
