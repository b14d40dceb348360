"""Asking a store (`s3://`, `gs://`, any file system of fsspec) so that a hiccup costs a second, an
object that cannot be read one file, and a store that is gone the run, with a sentence.

Standing: under `speechvq.data.storage`, which reads inputs, and `speechvq.data.publish`, which
writes to stores. Plug-ins raise errors of their own at every kind of failure; what leaves this
module is an `OSError` about one object, or a `StoreError` about the store.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any, TypeVar

import fsspec

from speechvq.errors import DataError, MissingDependencyError, StoreError

RETRY_SECONDS = (1.0, 4.0, 15.0)
"""Pauses before a question is asked again; plug-ins retry some failures by themselves as well."""
_PLUGINS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}
_LISTING_COMMANDS = {
    **dict.fromkeys(("s3", "s3a"), "aws s3 ls"),
    **dict.fromkeys(("gs", "gcs"), "gcloud storage ls"),
}
_FIRST_BLOCK_BYTES = 256 << 10
_LAST_BLOCK_BYTES = 16 << 20
FINAL_ERRORS = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
"""The store has answered: there is no such object, and asking again is no use."""

ResultT = TypeVar("ResultT")


def open_store(url: str) -> tuple[Any, str]:
    """Returns the file system of a URL, and the path of the URL in it.

    Raises:
        DataError: If there is no such kind of store.
        MissingDependencyError: If the plug-in is not installed.
    """
    scheme = url.partition("://")[0]
    try:
        system, prefix = fsspec.core.url_to_fs(url)
    except ImportError:
        raise MissingDependencyError(
            _PLUGINS.get(scheme, scheme), "cloud", f"read or write {scheme}://"
        ) from None
    except ValueError as error:
        raise DataError(f"{url} is no address of a store: {error}.") from None
    return system, str(prefix).rstrip("/")


def ask_store(url: str, question: Callable[[Any, str], ResultT]) -> ResultT:
    """Asks until there is an answer, a few times.

    Args:
        url: A directory of the store.
        question: Is given the file system and the directory's path in it.

    Raises:
        FileNotFoundError: If there is no such object.
        OSError: If this cannot be answered although the store answers.
        StoreError: If the store does not answer.
    """
    system, prefix = open_store(url)
    try:
        return retry(lambda: question(system, prefix))
    except FINAL_ERRORS:
        raise
    except Exception as error:  # each plug-in has errors of its own
        failure = error
    check_store(url)
    raise OSError(_describe(failure)) from failure


def retry(action: Callable[[], ResultT]) -> ResultT:
    """Does something that may fail for a moment, a few times; raises the last failure."""
    for pause in RETRY_SECONDS:
        try:
            return action()
        except FINAL_ERRORS:
            raise
        except Exception as error:  # each plug-in has errors of its own
            if _is_refusal(error):
                raise
        time.sleep(pause)
    return action()


def find_objects(system: Any, prefix: str) -> list[tuple[str, int]]:
    """Returns the names of what lies below a prefix, with sizes, without the objects that stand for
    directories.
    """
    found = system.find(prefix, detail=True)
    names = ((name.removeprefix(prefix).lstrip("/"), info) for name, info in found.items())
    return [
        (name, int(info.get("size") or 0))
        for name, info in names
        if name and not name.endswith("/") and info["type"] == "file"
    ]


def check_store(url: str) -> None:
    """Asks for a directory of a store.

    Raises:
        StoreError: If the store does not answer, or has nothing of that name.
    """
    system, prefix = open_store(url)
    try:
        system.invalidate_cache()
        system.info(prefix)
    except Exception as error:  # each plug-in has errors of its own
        raise create_store_error(url, error) from error


def create_store_error(
    url: str, error: BaseException, what: str = "cannot be reached"
) -> StoreError:
    """Returns the error that says which store does not answer, why, and what to do."""
    scheme = url.partition("://")[0]
    command = _LISTING_COMMANDS.get(scheme)
    tools = f"`{command} {url}`" if command else "the store's own tools"
    return StoreError(
        f"{url} {what}: {_describe(error)}. Check address, network and credentials with"
        f" {tools}, then run the same command again: it goes on where it was."
    )


def _is_refusal(error: Exception) -> bool:
    """Returns whether asking again is no use: credentials are missing, or do not suffice."""
    return isinstance(error, PermissionError) or "Credential" in type(error).__name__


def _describe(error: BaseException) -> str:
    return (str(error) or type(error).__name__).rstrip(".")


class StoreFile(io.BufferedIOBase):
    """An object of a store as a file for reading, by ranges.

    What is read forward comes in blocks that grow from 256 KB to 16 MB, so that a table or an
    archive takes few requests; a member in the middle of an archive is read alone.

    Args:
        url: A directory of the store.
        path: The object, relative to it.

    Raises:
        OSError: If there is no such object.
        StoreError: If the store does not answer.
    """

    def __init__(self, url: str, path: str) -> None:
        self._url, self._path = url, path
        info = ask_store(url, lambda system, prefix: system.info(f"{prefix}/{path}"))
        if info["type"] != "file":
            raise IsADirectoryError(f"{path} is no file.")
        self._size = int(info["size"])
        self._position = self._begin = 0
        self._block = b""
        self._block_bytes = _FIRST_BLOCK_BYTES

    def readable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def tell(self) -> int:
        """Returns the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves the position; nothing is read."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("A position must not be negative.")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """Returns so many bytes, fewer only at the end."""
        end = self._size if size is None or size < 0 else min(self._size, self._position + size)
        begin = self._position
        if end <= begin:
            return b""
        block_end = self._begin + len(self._block)
        if not (self._begin <= begin and end <= block_end):
            self._load(begin, end, block_end)
        self._position = end
        return self._block[begin - self._begin : end - self._begin]

    def read1(self, size: int = -1, /) -> bytes:
        """Returns up to so many bytes, what is at hand where none are named."""
        return self.read(_FIRST_BLOCK_BYTES if size < 0 else size)

    def _load(self, begin: int, end: int, block_end: int) -> None:
        """Makes the block hold a range; what it holds of it already is not read again."""
        is_forward = self._begin <= begin <= block_end and block_end > 0
        growth = 2 * self._block_bytes if is_forward else _FIRST_BLOCK_BYTES
        self._block_bytes = min(_LAST_BLOCK_BYTES, growth)
        kept = self._block[begin - self._begin :] if is_forward else b""
        first = begin + len(kept)
        last = min(self._size, max(end, first + self._block_bytes))
        self._block = kept + self._fetch(first, last)
        self._begin = begin

    def _fetch(self, begin: int, end: int) -> bytes:
        def fetch(system: Any, prefix: str) -> bytes:
            data = bytes(system.cat_file(f"{prefix}/{self._path}", start=begin, end=end))
            if len(data) != end - begin:
                raise OSError(f"{self._path} ended at byte {begin + len(data)} of {self._size}")
            return data

        return ask_store(self._url, fetch)
