"""Writing that survives a power cut: to the disk first, then under its name."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
"""What file systems without directory entries of their own answer to a sync of a directory."""


def write_durably(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all; when this returns, it is on the disk.

    Args:
        path: Its final place; an older file there is replaced.
        content: Its bytes.

    Raises:
        OSError: It could not be written; an older file is as it was.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_files(directory: Path) -> None:
    """Bring the files of a directory, and their names, to the disk."""
    for path in directory.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_directory(directory)


def sync_directory(path: Path) -> None:
    """Bring the names in a directory to the disk, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)
