"""A file is written whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from speechvq import durable
from speechvq.durable import create_directory, sync_directory, sync_files, write_durably


def test_file_is_written_and_replaced(tmp_path: Path) -> None:
    for content in (b"one", b"another"):
        write_durably(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_failure_keeps_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_durably(tmp_path / "file", b"one")

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_durably(tmp_path / "file", b"another")
    assert (tmp_path / "file").read_bytes() == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("number", "is_fatal"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_file_system_without_synced_directories_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_fatal: bool
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, "sync")

    monkeypatch.setattr(durable.os, "fsync", fail)
    if is_fatal:
        with pytest.raises(OSError, match="sync"):
            sync_directory(tmp_path)
    else:
        sync_directory(tmp_path)


def test_every_file_and_the_directory_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"content")
    synced: list[int] = []
    monkeypatch.setattr(durable.os, "fsync", lambda number: synced.append(os.fstat(number).st_ino))
    sync_files(tmp_path)
    paths = (tmp_path / "one", tmp_path / "two", tmp_path)
    assert sorted(synced) == sorted(path.stat().st_ino for path in paths)


def test_directory_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "output"
    with create_directory(output) as work:
        (work / "file").write_text("whole")
        assert not output.exists()
    assert [path.name for path in output.parent.iterdir()] == ["output"]
    assert (output / "file").read_text() == "whole"
    with pytest.raises(FileNotFoundError), create_directory(tmp_path / "other") as work:
        (work / "missing" / "file").write_text("half")
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert output.stat().st_mode == output.parent.stat().st_mode
