"""Writing that survives a power cut: to the disk first, then under its name."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
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


@contextlib.contextmanager
def create_directory(output: Path) -> Iterator[Path]:
    """Gives a directory to fill, which then stands at its place whole; or not at all, should the
    filling fail.

    Args:
        output: Its place: new, or an empty directory.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        yield work
        output.mkdir(exist_ok=True)  # with the rights of any new directory
        work.chmod(output.stat().st_mode & 0o777)
        work.replace(output)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


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
