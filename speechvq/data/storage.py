"""Where input lies: directories of this machine, or any file system of fsspec (`s3://`, `gs://`,
other machines).

A root is a directory or a URL; a path is relative to it. A path of this machine is confined to its
root, links resolved. Standing: lowest step of reading sources; `speechvq.data.archives` looks into
what is found here.
"""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from speechvq.data.stores import (
    StoreFile,
    ask_store,
    check_store,
    create_store_error,
    find_objects,
)
from speechvq.errors import DataError


class OutsideRootError(DataError):
    """A path leads out of its root, directly or through a link."""


def strip_file_scheme(location: str) -> str:
    """Returns the path of a `file://` URL, which is then confined like any path; other locations as
    they are.
    """
    scheme, separator, path = location.partition("://")
    return path if separator and scheme in ("file", "local") else location


def is_remote(root: str) -> bool:
    """Returns whether a root is a URL rather than a directory of this machine."""
    return "://" in root


def describe_remote_corpus(url: str) -> str:
    """Returns the sentence that says how to read a corpus that lies in a store."""
    scheme, _, place = url.partition("://")
    name = get_source_name(place)
    command = {
        **dict.fromkeys(("s3", "s3a"), f"aws s3 sync --delete s3://{place} {name}"),
        **dict.fromkeys(("gs", "gcs"), f"gcloud storage rsync -r -d gs://{place} {name}"),
    }.get(scheme)
    how = f"`{command}`" if command else "with the store's own tools"
    return (
        "A corpus is read at random places, and so from a directory of this machine only. Copy"
        f" {url} first: {how}."
    )


def get_source_name(root: str) -> str:
    """Returns the last part of a root's name: the name of the source unless the data has one."""
    return root.rstrip("/").rsplit("/", 1)[-1] or root


def is_directory(root: str) -> bool:
    """Returns whether a root is a directory, or a prefix under which a store has files.

    Raises:
        StoreError: If the store cannot be reached.
        MissingDependencyError: If the plug-in for the URL is not installed.
    """
    if not is_remote(root):
        return Path(root).is_dir()
    try:
        return ask_store(root, lambda system, prefix: bool(system.isdir(prefix)))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise create_store_error(root, error) from error


def find_size(root: str, path: str) -> int | None:
    """Returns the size of a file in bytes; None where there is no such file.

    Raises:
        OutsideRootError: If the path leads out of the root.
        OSError: If it cannot be found out, as with a loop of links.
        StoreError: If the store does not answer.
        ValueError: If the path holds a NUL.
    """
    if is_remote(root):
        name = _check_relative(path)
        try:
            info = ask_store(root, lambda system, prefix: system.info(f"{prefix}/{name}"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return int(info["size"] or 0) if info["type"] == "file" else None
    try:
        status = resolve_path(root, path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def open_file(root: str, path: str) -> BinaryIO:
    """Opens a file for reading; the caller closes it.

    Raises:
        OutsideRootError: If the path leads out of the root.
        OSError: If it cannot be opened.
        StoreError: If the store does not answer.
    """
    if is_remote(root):
        return cast(BinaryIO, StoreFile(root, _check_relative(path)))
    return resolve_path(root, path).open("rb")


def read_file(root: str, path: str) -> bytes:
    """Returns the contents of a file; raises what `open_file` does."""
    if is_remote(root):
        name = _check_relative(path)
        try:
            return ask_store(
                root, lambda system, prefix: bytes(system.cat_file(f"{prefix}/{name}"))
            )
        except FileNotFoundError:
            check_store(root)  # perhaps all of it is gone
            raise
    return resolve_path(root, path).read_bytes()


def list_files(
    root: str, unlisted: list[tuple[str, str]] | None = None
) -> Iterator[tuple[str, int]]:
    """Yields every file under a root with its size, by path; directories that are links are not
    entered, hidden ones neither.

    Args:
        root: A directory or URL.
        unlisted: Gets the directories that are links or cannot be read, each with why.

    Raises:
        StoreError: If the store does not answer.
    """
    unlisted = [] if unlisted is None else unlisted

    def add_unreadable(error: OSError) -> None:
        unlisted.append((os.path.relpath(error.filename, root), f"{error.strerror}."))

    if is_remote(root):
        yield from _list_objects(root)
        return
    for folder, folders, names in os.walk(root, onerror=add_unreadable):
        links = [os.path.join(folder, n) for n in folders]  # noqa: PTH118
        unlisted += [
            (
                os.path.relpath(link, root),
                "A link to a directory is not followed; name it as input.",
            )
            for link in sorted(links)
            if os.path.islink(link)  # noqa: PTH114
        ]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            # Strings, not paths: there may be a million files.
            file = os.path.join(folder, name)  # noqa: PTH118
            try:
                size = os.stat(file).st_size  # noqa: PTH116
            except OSError:
                size = 0
            yield os.path.relpath(file, root), size


def resolve_path(root: str, path: str) -> Path:
    """Returns a path of this machine with links resolved.

    Raises:
        OutsideRootError: If it leads out of the root.
    """
    real_root = _resolve_root(root)
    # Strings, not paths: there may be a million files.
    real = os.path.realpath(os.path.join(real_root, path), strict=False)  # noqa: PTH118
    if real != real_root and not real.startswith(real_root.rstrip("/") + "/"):
        raise OutsideRootError("The path leads out of the input directory.")
    return Path(real)


@functools.lru_cache(maxsize=64)
def _resolve_root(root: str) -> str:
    return os.path.realpath(root)


def _check_relative(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise OutsideRootError("The path leads out of the input directory.")
    return path


def _list_objects(root: str) -> Iterator[tuple[str, int]]:
    try:
        objects = ask_store(root, find_objects)
    except OSError as error:
        raise create_store_error(root, error) from error
    yield from sorted(objects)
