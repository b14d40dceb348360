"""Tar and zip archives as sources: members are listed and read as streams, never extracted.

A file in an archive is spelt `archive.tar!/member`, the audio of a row `rows.parquet!/12`.
Standing: `speechvq.data.tree` lists here what a source holds, and preparation reads bytes through
`read_source_bytes`.
"""

from __future__ import annotations

import functools
import os
import tarfile
import threading
import zipfile

from speechvq.data.archive_listing import (
    DAMAGE,
    DEFAULT_LIMITS,
    ArchiveLimits,
    Listing,
    Member,
    describe_damage,
    get_compression,
    list_archive,
    open_tar,
    read_header,
)
from speechvq.data.embedded import ROWS_SUFFIX, read_embedded_audio
from speechvq.data.format_names import ARCHIVE_SUFFIXES
from speechvq.data.storage import find_size, is_remote, open_file, read_file, resolve_path
from speechvq.errors import DataError

SEPARATOR = "!/"
"""Stands between an archive and its member."""


def is_archive(path: str) -> bool:
    """Returns whether a path has the suffix of an archive that is read."""
    return path.lower().endswith(ARCHIVE_SUFFIXES)


def split_member_path(path: str) -> tuple[str, str] | None:
    """Returns archive and member of `archive.tar!/member` or `rows.parquet!/12`; None for a plain
    path.
    """
    position = path.find(SEPARATOR)
    while position >= 0:
        container = path[:position]
        if is_archive(container) or container.lower().endswith(ROWS_SUFFIX):
            return container, path[position + len(SEPARATOR) :]
        position = path.find(SEPARATOR, position + 1)
    return None


def read_source_bytes(root: str, path: str, limits: ArchiveLimits = DEFAULT_LIMITS) -> bytes:
    """Returns the contents of a file of a source.

    Args:
        root: The input directory or URL.
        path: Relative to it; `archive.tar!/member` names a member, `rows.parquet!/12` the audio of
            a row.
        limits: How far an archive may unfold.

    Raises:
        OSError: If the file cannot be read.
        StoreError: If the store does not answer.
        DataError: If the path leads out of the root, the archive lacks the member, is damaged, or
            unfolds beyond its limits.
    """
    parts = split_member_path(path)
    if parts is None:
        return read_file(root, path)
    container, member = parts
    if not is_archive(container):
        return read_embedded_audio(root, container, member)
    return _open_archive(root, container, _find_stamp(root, container), limits, os.getpid()).read(
        member
    )


def list_members(root: str, path: str, limits: ArchiveLimits = DEFAULT_LIMITS) -> Listing:
    """Lists an archive without unpacking anything to the disk; a compressed tar is read through
    once.

    Raises:
        OSError: If the file cannot be opened.
    """
    return _list_members(root, path, _find_stamp(root, path), limits)


@functools.lru_cache(maxsize=32)
def _list_members(root: str, path: str, stamp: object, limits: ArchiveLimits) -> Listing:
    with open_file(root, path) as file:
        return list_archive(file, path, limits)


def _find_stamp(root: str, path: str) -> tuple[int, int]:
    """Returns what changes when the file does, so that nothing old is served from memory."""
    if is_remote(root):
        return find_size(root, path) or 0, 0
    stat = resolve_path(root, path).stat()
    return stat.st_size, stat.st_mtime_ns


@functools.lru_cache(maxsize=8)
def _open_archive(
    root: str, path: str, stamp: object, limits: ArchiveLimits, process: int
) -> _OpenArchive:
    # By process: a forked child shares the position in its parent's open files.
    return _OpenArchive(root, path, limits)


class _OpenArchive:
    """Reads members of one archive.

    A zip or a plain tar is read in any order; a compressed tar forward, and anew for a member that
    stands earlier.
    """

    def __init__(self, root: str, path: str, limits: ArchiveLimits) -> None:
        self._root, self._path, self._limits = root, path, limits
        self._listing = list_members(root, path, limits)
        self._lock = threading.Lock()
        self._file = open_file(root, path)
        is_zip = path.lower().endswith(".zip")
        self._zip = zipfile.ZipFile(self._file) if is_zip else None
        self._compression = "" if is_zip else get_compression(path)
        self._position = -1
        self._stream: tarfile.TarFile | None = None

    def read(self, name: str) -> bytes:
        member = self._listing.members.get(name)
        if member is None:
            raise DataError(f"{self._path} holds no member {name!r} that can be read.")
        with self._lock:
            try:
                data = self._read(member)
            except DAMAGE as error:
                self._stream = None
                raise DataError(
                    f"{self._path}{SEPARATOR}{name} cannot be read: {describe_damage(error)}."
                ) from None
        if len(data) != member.num_bytes:
            raise DataError(
                f"{self._path}{SEPARATOR}{name} must have {member.num_bytes} bytes, but has"
                f" {len(data)}."
            )
        return data

    def _read(self, member: Member) -> bytes:
        if self._zip is not None:
            info = self._zip.filelist[member.offset]
            with self._zip.open(info) as file:
                return file.read(self._limits.max_member_bytes + 1)
        if not self._compression:
            self._file.seek(member.offset)
            return self._file.read(member.num_bytes)
        return self._read_forward(member)

    def _read_forward(self, member: Member) -> bytes:
        if self._stream is None or self._position >= member.offset:
            self._file = open_file(self._root, self._path)  # a decompressor closes what it read
            self._stream = open_tar(self._file, self._compression, self._limits)
            self._position = -1
        info = None
        while self._position < member.offset:
            info = read_header(self._stream)
            self._position += 1
            if info is None:
                raise tarfile.ReadError("unexpected end of data")
        file = self._stream.extractfile(info) if info is not None else None
        return file.read() if file is not None else b""
