"""Sources on other file systems: the same names, sizes and bytes as on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

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
from speechvq.errors import DataError, MissingDependencyError
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


def test_a_store_that_does_not_answer() -> None:
    with (
        mock.patch.object(MemoryFileSystem, "isdir", side_effect=RuntimeError("no credentials")),
        pytest.raises(DataError, match="memory://bucket cannot be reached: no credentials"),
    ):
        is_directory("memory://bucket")


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
