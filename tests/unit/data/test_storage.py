"""Sources on other file systems: the same names, sizes and bytes as on this machine."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from speechvq.data import stores
from speechvq.data.archives import read_source_bytes
from speechvq.data.storage import (
    OutsideRootError,
    find_size,
    get_source_name,
    is_directory,
    list_files,
    open_file,
)
from speechvq.data.tree import FileTree
from speechvq.errors import DataError, MissingDependencyError, StoreError
from tests.unit.data.test_archives import write_archive

ROOT = "memory://bucket/corpus"


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[str]:
    system = fsspec.filesystem("memory")
    archive = write_archive(tmp_path / "x.tar.gz", {"clips/c.wav": b"ccc"})
    system.pipe("/bucket/corpus/a.wav", b"aa")
    system.pipe("/bucket/corpus/deep/x.tar.gz", archive.read_bytes())
    system.pipe("/bucket/secret", b"no")
    yield ROOT
    system.rm("/bucket", recursive=True)


def test_a_store_is_read_as_a_directory_is(bucket: str) -> None:
    assert is_directory(bucket)
    assert not is_directory(bucket + "/nothing")
    assert get_source_name(bucket + "/") == "corpus"
    assert [path for path, _ in list_files(bucket)] == ["a.wav", "deep/x.tar.gz"]
    assert (find_size(bucket, "a.wav"), find_size(bucket, "b.wav")) == (2, None)
    with open_file(bucket, "a.wav") as file:
        assert file.read() == b"aa"
    tree = FileTree(bucket)
    assert list(tree.entries) == ["a.wav", "deep/clips/c.wav"]
    entry = tree.find("deep/clips/c.wav")
    assert entry is not None
    assert read_source_bytes(tree.root, entry.path) == b"ccc"


@pytest.mark.parametrize("path", ["../secret", "/bucket/secret", "deep/../../secret"])
def test_paths_stay_below_the_root(bucket: str, path: str) -> None:
    with pytest.raises(OutsideRootError):
        read_source_bytes(bucket, path)


def test_a_store_without_its_plugin() -> None:
    with (
        mock.patch.dict("sys.modules", {"s3fs": None}),
        mock.patch.dict(_registry, {}, clear=True),  # another test may have used it
        pytest.raises(MissingDependencyError, match=r"speechvq\[cloud\]"),
    ):
        is_directory("s3://bucket/corpus")
    with pytest.raises(DataError, match="nosuch"):
        is_directory("nosuch://bucket")


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "RETRY_SECONDS", (0.0, 0.0))


@pytest.mark.usefixtures("no_pauses")
def test_a_store_that_does_not_answer_ends_the_run(bucket: str) -> None:
    # Not an OSError, as botocore's: it must not be taken for a file that is not there.
    gone = RuntimeError("no route")
    questions = (
        lambda: is_directory(bucket),
        lambda: find_size(bucket, "a.wav"),
        lambda: open_file(bucket, "a.wav"),
        lambda: read_source_bytes(bucket, "a.wav"),
        lambda: list(list_files(bucket)),
        lambda: FileTree(bucket),
    )
    names = ("info", "isdir", "cat_file", "find")
    with mock.patch.multiple(MemoryFileSystem, **dict.fromkeys(names, mock.Mock(side_effect=gone))):
        for ask in questions:
            with pytest.raises(StoreError, match="memory://bucket/corpus cannot be reached: no ro"):
                ask()


@pytest.mark.usefixtures("no_pauses")
def test_a_store_that_goes_away_under_an_open_file(bucket: str) -> None:
    noise = np.random.default_rng(0).bytes(600_000)
    table = pa.table({"audio": [{"bytes": noise, "path": "x"}]})
    with fsspec.open("memory://bucket/corpus/rows.parquet", "wb") as file:
        pq.write_table(table, file)
    with open_file(bucket, "rows.parquet") as file, pq.ParquetFile(file) as parquet:
        gone = mock.Mock(side_effect=RuntimeError("no route"))
        with (
            mock.patch.multiple(MemoryFileSystem, info=gone, cat_file=gone),
            pytest.raises(StoreError, match="no route"),
        ):
            parquet.read_row_group(0)


@pytest.mark.usefixtures("no_pauses")
def test_a_failure_that_passes_is_not_noticed(bucket: str) -> None:
    answers = iter([TimeoutError("slow"), RuntimeError("reset"), b"aa"])
    with mock.patch.object(MemoryFileSystem, "cat_file", side_effect=answers):
        assert read_source_bytes(bucket, "a.wav") == b"aa"


@pytest.mark.usefixtures("no_pauses")
def test_an_object_that_cannot_be_read_is_one_file(bucket: str) -> None:
    refused = mock.Mock(side_effect=PermissionError("Access Denied"))
    with (
        mock.patch.object(MemoryFileSystem, "cat_file", refused),
        pytest.raises(OSError, match="Access Denied"),
    ):
        read_source_bytes(bucket, "a.wav")
    assert refused.call_count == 1, "asking again does not help"
    with pytest.raises(FileNotFoundError):
        read_source_bytes(bucket, "b.wav")


def test_an_object_is_read_in_ranges(bucket: str) -> None:
    data = np.random.default_rng(0).bytes(5_000_000)
    fsspec.filesystem("memory").pipe("/bucket/corpus/tape", data)
    fetched: list[int] = []
    fetch = MemoryFileSystem.cat_file

    def count(self: MemoryFileSystem, path: str, **limits: int) -> bytes:
        fetched.append(limits["end"] - limits["start"])
        return fetch(self, path, **limits)

    with mock.patch.object(MemoryFileSystem, "cat_file", count):
        with open_file(bucket, "tape") as file:
            file.seek(4_000_000)
            assert file.read(10) == data[4_000_000:4_000_010]
            assert fetched == [256 << 10]
            assert (file.seek(-5, io.SEEK_END), file.read()) == (4_999_995, data[-5:])
            assert file.read(1) == b""
        fetched.clear()
        with open_file(bucket, "tape") as file:
            blocks = iter(lambda: file.read(1000), b"")
            assert b"".join(blocks) == data
        assert sum(fetched) == len(data), "nothing is fetched twice"
        assert len(fetched) <= 5
        with (
            open_file(bucket, "tape") as file,
            io.TextIOWrapper(file, "latin-1", newline="") as text,
        ):
            assert text.read() == data.decode("latin-1")


@pytest.mark.usefixtures("no_pauses")
def test_an_object_that_ends_early_is_asked_for_again(bucket: str) -> None:
    answers = iter([b"a", b"aa"])
    with (
        open_file(bucket, "a.wav") as file,
        mock.patch.object(MemoryFileSystem, "cat_file", side_effect=answers),
    ):
        assert file.read() == b"aa"


def test_objects_that_stand_for_directories_are_no_files(bucket: str) -> None:
    found = {
        "/bucket/corpus/": {"size": 0, "type": "file"},
        "/bucket/corpus/deep/": {"size": 0, "type": "file"},
        "/bucket/corpus/a.wav": {"size": 2, "type": "file"},
    }
    with mock.patch.object(MemoryFileSystem, "find", return_value=found):
        assert list(list_files(bucket)) == [("a.wav", 2)]


def test_links_are_resolved_before_anything_is_opened(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_bytes(b"no")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in" / "loop")
    with pytest.raises(OutsideRootError):
        find_size(str(tmp_path / "in"), "link")
    with pytest.raises(OutsideRootError):
        open_file(str(tmp_path / "in"), "link")
    assert dict(list_files(str(tmp_path / "in")))["loop"] == 0
