"""Publishing: a complete corpus is copied to a store or another directory, and kept up to date
there.

    <url>/corpus.json       written last, and removed before anything else changes
    <url>/published.json    sizes and digests of what was copied
    <url>/split=train/…     as in the corpus

Only what is new or changed is copied, and what the corpus has no longer is removed; a publication
that was interrupted goes on. Measurements and the report are left out: they hold rejected audio.
Standing: last step of `speechvq.data.prepare`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from speechvq.data.corpus import CORPUS_FILE, read_corpus_info, write_text_atomically
from speechvq.data.progress import PublishProgress
from speechvq.data.storage import is_remote
from speechvq.data.stores import FINAL_ERRORS, create_store_error, find_objects, open_store, retry
from speechvq.data.vocabulary import VOCABULARY_FILE
from speechvq.errors import ConfigError, StoreError

PUBLISHED_FILE = "published.json"
"""At the URL: what stands there, by size and digest."""
PUBLICATIONS_FILE = "publications.json"
"""In the corpus: where it was published."""
_FORMAT = "speechvq-published"
_TABLES = ("summary.json", VOCABULARY_FILE, "rejected.tsv", "rejected.parquet")
_MARKS = (PUBLISHED_FILE, CORPUS_FILE)
_PART = re.compile(r"split=[^/]+/language=[^/]+/part-\d+\.parquet")
_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "adl", "oss", "oci"})
"""They have no directories, and an object appears whole or not at all."""
_NUM_COPIES_AT_ONCE = 4
_SECONDS_BETWEEN_NOTES = 10.0

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class FileDigest:
    """What a file held when it was copied."""

    num_bytes: int
    blake2b: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """What publishing did, in files."""

    num_copied: int
    num_removed: int
    num_kept: int


def check_target(url: str) -> None:
    """Says at once that a corpus cannot be published at a URL.

    Raises:
        ConfigError: If something else stands there.
        MissingDependencyError: If the plug-in for the URL is not installed.
        StoreError: If the store does not answer.
    """
    _Target(url).list_files()


def publish_corpus(corpus: Path, url: str) -> Published:
    """Makes a URL hold what a complete corpus holds.

    Args:
        corpus: The corpus; nothing else may write to it.
        url: A URL of fsspec, or a directory.

    Raises:
        ConfigError: If something else stands at the URL.
        DataError: If the corpus is not complete.
        StoreError: If the store does not answer; the same command goes on.
    """
    read_corpus_info(corpus)
    target = _Target(url)
    files = _list_corpus(corpus)
    found = target.list_files()
    _note_publication(corpus, url)
    total = sum((corpus / path).stat().st_size for path in files)
    with PublishProgress(total) as progress:
        same = dict(_find_same(corpus, files, found, target.read_digests(), progress))
        changed = [path for path in files if path not in same]
        stale = [path for path in found if path not in files and path != PUBLISHED_FILE]
        if changed or stale:
            target.remove(CORPUS_FILE)
            same.pop(CORPUS_FILE, None)
            target.write_digests(same)
            for path in stale:
                target.remove(path)
            _copy(corpus, target, [path for path in changed if path != CORPUS_FILE], same, progress)
            _complete(corpus, target, same)
    return Published(
        num_copied=len(changed),
        num_removed=len(stale),
        num_kept=len(files) - len(changed),
    )


def list_publications(corpus: Path) -> tuple[str, ...]:
    """Returns the URLs where a corpus was published, in full or in part."""
    try:
        return tuple(json.loads((corpus / PUBLICATIONS_FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return ()


def _note_publication(corpus: Path, url: str) -> None:
    place = url if is_remote(url) else str(Path(url).resolve())
    urls = sorted({*list_publications(corpus), place})
    write_text_atomically(corpus / PUBLICATIONS_FILE, json.dumps(urls) + "\n")


def _list_corpus(corpus: Path) -> list[str]:
    """Returns what is published, `corpus.json` last."""
    parts = (path.relative_to(corpus).as_posix() for path in corpus.glob("split=*/language=*/*"))
    tables = [name for name in _TABLES if (corpus / name).is_file()]
    return [*sorted(filter(_PART.fullmatch, parts)), *tables, CORPUS_FILE]


def _find_same(
    corpus: Path,
    files: Sequence[str],
    found: dict[str, int],
    digests: dict[str, FileDigest],
    progress: PublishProgress,
) -> Iterator[tuple[str, FileDigest]]:
    """Yields the files that stand at the URL as they are."""
    for path in files:
        size = (corpus / path).stat().st_size
        if path in digests and found.get(path) == size == digests[path].num_bytes:
            digest = _digest_file(corpus / path)
            if digest == digests[path]:
                progress.advance(size)
                yield path, digest


def _digest_file(path: Path) -> FileDigest:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32))
    return FileDigest(path.stat().st_size, digest.hexdigest())


def _copy(
    corpus: Path,
    target: _Target,
    paths: Sequence[str],
    digests: dict[str, FileDigest],
    progress: PublishProgress,
) -> None:
    """Copies files, and notes at the URL from time to time which are there."""

    def copy(path: str) -> int:
        digest = _digest_file(corpus / path)
        target.put_file(corpus / path, path)
        digests[path] = digest
        return digest.num_bytes

    noted = time.monotonic()
    executor = ThreadPoolExecutor(_NUM_COPIES_AT_ONCE)
    try:
        for future in as_completed([executor.submit(copy, path) for path in paths]):
            progress.advance(future.result())
            if time.monotonic() - noted >= _SECONDS_BETWEEN_NOTES:
                target.write_digests(digests.copy())
                noted = time.monotonic()
    except StoreError:
        raise
    except BaseException:  # a signal
        executor.shutdown(cancel_futures=True)
        with contextlib.suppress(StoreError):
            target.write_digests(digests)
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _complete(corpus: Path, target: _Target, digests: dict[str, FileDigest]) -> None:
    """Checks that everything arrived, and writes `corpus.json`."""
    found = target.list_files()
    for path, digest in digests.items():
        if found.get(path) != digest.num_bytes:
            reason = OSError(f"{path} has {found.get(path)} bytes there, not {digest.num_bytes}")
            raise create_store_error(target.url, reason, "cannot be published at")
    mark = corpus / CORPUS_FILE
    target.write_digests({**digests, CORPUS_FILE: _digest_file(mark)})
    target.put_bytes(CORPUS_FILE, mark.read_bytes())


class _Target:
    """The place where a corpus is published."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._system, self._prefix = open_store(url if is_remote(url) else str(Path(url).resolve()))
        protocol = self._system.protocol
        names = {protocol} if isinstance(protocol, str) else set(protocol)
        self._is_object_store = bool(names & _OBJECT_STORES)

    def list_files(self) -> dict[str, int]:
        """Returns files of a corpus with their sizes; what else a user put beside is let alone.

        Raises:
            ConfigError: If there are files, but none that publishing leaves.
            StoreError: If the store does not answer.
        """
        self._system.invalidate_cache()
        found: dict[str, int] = {}
        try:
            found = dict(self._ask(lambda: find_objects(self._system, self._prefix)))
        except FileNotFoundError as error:
            if self._is_object_store:  # a prefix without objects is none: the bucket is missing
                raise self._create_error(error) from error
        foreign = set(found) - {name + ".tmp" for name in _MARKS}
        if foreign and PUBLISHED_FILE not in found:
            raise ConfigError(
                [
                    f"`publish` must be an empty place, or one where a corpus was published before,"
                    f" but {self.url} holds {min(foreign)} and no {PUBLISHED_FILE}."
                ]
            )
        ours = {*_TABLES, *_MARKS, *(name + ".tmp" for name in _MARKS)}
        return {path: size for path, size in found.items() if path in ours or _PART.fullmatch(path)}

    def read_digests(self) -> dict[str, FileDigest]:
        """Returns what the last publication noted; nothing where the note is missing or damaged."""
        place = self._place(PUBLISHED_FILE)
        try:
            note = json.loads(self._ask(lambda: self._system.cat_file(place)))
            return {path: FileDigest(**entry) for path, entry in note["files"].items()}
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            return {}

    def write_digests(self, digests: dict[str, FileDigest]) -> None:
        """Notes what stands there."""
        files = {
            path: {"num_bytes": digest.num_bytes, "blake2b": digest.blake2b}
            for path, digest in sorted(digests.items())
        }
        note = {"format": _FORMAT, "format_version": 1, "files": files}
        self.put_bytes(PUBLISHED_FILE, (json.dumps(note, indent=1) + "\n").encode())

    def put_bytes(self, path: str, data: bytes) -> None:
        """Writes a small file, whole or not at all."""
        place = self._place(path)
        if self._is_object_store:
            self._do(lambda: self._system.pipe_file(place, data))
            return
        self._make_directory(place)
        self._do(lambda: self._system.pipe_file(place + ".tmp", data))
        self._do(lambda: self._system.mv(place + ".tmp", place))

    def put_file(self, source: Path, path: str) -> None:
        """Copies a file."""
        place = self._place(path)
        if not self._is_object_store:
            self._make_directory(place)
        self._do(lambda: self._system.put_file(str(source), place))

    def remove(self, path: str) -> None:
        """Removes a file if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._ask(lambda: self._system.rm_file(self._place(path)))

    def _place(self, path: str) -> str:
        return f"{self._prefix}/{path}"

    def _make_directory(self, place: str) -> None:
        parent = place.rpartition("/")[0]
        self._do(lambda: self._system.makedirs(parent, exist_ok=True))

    def _do(self, action: Callable[[], ResultT]) -> ResultT:
        try:
            return self._ask(action)
        except FINAL_ERRORS as error:
            raise self._create_error(error) from error

    def _ask(self, action: Callable[[], ResultT]) -> ResultT:
        """Does what may find that there is no such file."""
        try:
            return retry(action)
        except FINAL_ERRORS:
            raise
        except Exception as error:  # each plug-in has errors of its own
            raise self._create_error(error) from error

    def _create_error(self, error: BaseException) -> StoreError:
        return create_store_error(self.url, error, "cannot be published at")
