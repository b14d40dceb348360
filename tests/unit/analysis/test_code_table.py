from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from speechvq.analysis.code_table import CodeTableWriter, UtteranceFrames, open_code_table
from speechvq.errors import DataError


def create_rows(name: str, length: int, phones=None, speaker: str | None = "s/x"):
    rng = np.random.default_rng(length)
    return UtteranceFrames(
        utterance=name,
        language="hin_Deva",
        speaker=speaker,
        source="s",
        recording="r",
        times=(0.0175 + 0.02 * np.arange(length)).astype(np.float32),
        codes={"group": rng.integers(0, 9, (length, 2)), "kmeans": rng.integers(0, 9, (length, 2))},
        phones=phones,
    )


def test_the_table_has_the_columns_of_the_contract(tmp_path):
    path = tmp_path / "codes.parquet"
    first, second = create_rows("u1", 3, ["a", None, "sil"]), create_rows("u2", 2, None, None)
    with CodeTableWriter(path, {"group": 2, "kmeans": 2}, rows_a_group=3) as writer:
        writer.add([first, create_rows("none", 0)])
        assert writer.num_rows == 3
        writer.add([second])
    found = pq.read_table(path)
    kinds = {field.name: field.type for field in found.schema}
    assert list(kinds) == [
        *("utterance", "language", "speaker", "source", "recording", "frame", "time"),
        *("group_0", "group_1", "kmeans_0", "kmeans_1", "phone"),
    ]
    assert kinds["frame"] == kinds["group_0"] == pa.int32()
    assert kinds["time"] == pa.float32()
    assert found["utterance"].to_pylist() == ["u1"] * 3 + ["u2"] * 2
    assert found["speaker"].to_pylist() == ["s/x"] * 3 + [None] * 2
    assert found["frame"].to_pylist() == [0, 1, 2, 0, 1]
    assert found["phone"].to_pylist() == ["a", None, "sil", None, None]
    assert found["group_1"].to_pylist() == [
        *first.codes["group"][:, 1],
        *second.codes["group"][:, 1],
    ]
    table = open_code_table(path)
    assert (table.groups, table.num_rows) == ({"group": 2, "kmeans": 2}, 5)
    assert table.list_columns() == ["group_0", "group_1"]
    assert [len(part) for part in table.read(["phone"])] == [3, 2]


def test_a_run_that_fails_leaves_no_table(tmp_path):
    path = tmp_path / "codes.parquet"
    writer = CodeTableWriter(path, {"group": 2, "kmeans": 2})
    with pytest.raises(KeyError), writer:  # told at the end, when what waits is written
        writer.add([replace(create_rows("u1", 3), codes={})])
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "codes.parquet"
    with pytest.raises(DataError, match="cannot be read"):
        open_code_table(path)
    pq.write_table(pa.table({"utterance": ["x"]}), path)
    with pytest.raises(DataError, match="lacks the columns frame"):
        open_code_table(path)
