"""The files of one input as if every archive in it were unpacked where it lies.

Readers of formats ask here for names, tables and sizes, and need not know whether a corpus was
unpacked. `clips/a.mp3` is found as a file, or as a member of the one archive beside which it would
have been unpacked; the path of the result says which (`audio.tar!/clips/a.mp3`).
"""

from __future__ import annotations

import functools
import io
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TextIO

from speechvq.data.archive_listing import DEFAULT_LIMITS, ArchiveLimits, Listing, Refusal
from speechvq.data.archives import (
    SEPARATOR,
    is_archive,
    list_members,
    read_source_bytes,
    split_member_path,
)
from speechvq.data.embedded import estimate_embedded_bytes
from speechvq.data.records import Reason
from speechvq.data.storage import (
    find_size,
    get_source_name,
    is_directory,
    is_remote,
    list_files,
    open_file,
    resolve_path,
    strip_file_scheme,
)
from speechvq.errors import DataError

# fmt: off
AUDIO_SUFFIXES = frozenset({
    ".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".webm", ".m4a", ".mp4", ".aac", ".3gp",
    ".amr", ".wma", ".g722", ".aif", ".aiff", ".caf", ".au", ".w64", ".rf64", ".sph", ".mka",
    ".mkv",
})
# fmt: on
"""Suffixes of files that are taken for audio where no table names them."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file.

    Attributes:
        path: Relative to the root; `archive.tar!/member` for a member.
        num_bytes: Its size.
    """

    path: str
    num_bytes: int


class FileTree:
    """One input: a directory, a URL, or a single archive.

    Args:
        location: What the user named.
        limits: How far an archive may unfold.

    Raises:
        DataError: If there is nothing of that name.
    """

    def __init__(self, location: str, limits: ArchiveLimits = DEFAULT_LIMITS) -> None:
        self.location = location
        self.limits = limits
        self._archive = ""
        location = strip_file_scheme(location)
        self._unlisted: list[tuple[str, str]] = []
        self.root = location.rstrip("/") if is_remote(location) else str(Path(location).resolve())
        if is_archive(location) and not is_directory(location):
            folder, _, self._archive = self.root.rpartition("/")
            self.root = folder or "/"
        elif not is_directory(location):
            found = "the store has nothing under" if is_remote(location) else "there is none at"
            raise DataError(f"`input` must name directories or archives, but {found} {location}.")
        self.name = _strip_suffixes(get_source_name(self.root if not self._archive else location))

    @functools.cached_property
    def entries(self) -> dict[str, Entry]:
        """Every file by the path at which it would lie if archives were unpacked, sorted."""
        entries = {
            path: Entry(path, num_bytes)
            for path, num_bytes in self._files.items()
            if not is_archive(path)
        }
        for archive, listing in self._listings.items():
            folder = "" if self._archive else str(PurePosixPath(archive).parent)
            for member in listing.members.values():
                place = member.name if folder in ("", ".") else f"{folder}/{member.name}"
                entry = Entry(f"{archive}{SEPARATOR}{member.name}", member.num_bytes)
                entries.setdefault(place, entry)
        return dict(sorted(entries.items()))

    @property
    def refusals(self) -> list[tuple[str, Refusal]]:
        """What is not used of the folders and archives that were looked into: the path of the
        folder, archive or member, and why.
        """
        folders = [
            (path, Refusal("", Reason.NOT_A_FILE, detail)) for path, detail in self._unlisted
        ]
        if "_listings" not in self.__dict__:
            return folders
        return folders + [
            (f"{archive}{SEPARATOR}{refusal.name}" if refusal.name else archive, refusal)
            for archive, listing in self._listings.items()
            for refusal in listing.refusals
        ]

    @functools.cached_property
    def _files(self) -> dict[str, int]:
        """Files as they lie, with sizes; of a single archive, none beside it."""
        return {} if self._archive else dict(list_files(self.root, self._unlisted))

    @functools.cached_property
    def _listings(self) -> dict[str, Listing]:
        archives = [self._archive] if self._archive else filter(is_archive, self._files)
        return {path: list_members(self.root, path, self.limits) for path in archives}

    @property
    def audio(self) -> Iterator[tuple[str, Entry]]:
        """Files with the suffix of audio."""
        for path, entry in self.entries.items():
            name = path.rpartition("/")[2]
            if name[max(name.rfind("."), 0) :].lower() in AUDIO_SUFFIXES:
                yield path, entry

    @functools.cached_property
    def _audio_by_stem(self) -> dict[str, list[str]]:
        stems: dict[str, list[str]] = {}
        for path, _ in self.audio:
            stems.setdefault(PurePosixPath(path).stem, []).append(path)
        return stems

    def find(self, path: str) -> Entry | None:
        """Returns a file by its path, spelt either way; None where there is none.

        Raises:
            OutsideRootError: If the path leads out of the root.
            OSError: If it cannot be found out, as with a loop of links.
            ValueError: If the path holds a NUL.
        """
        parts = split_member_path(path)
        if parts is not None and is_archive(parts[0]):
            listing = self._listings.get(parts[0])
            member = None if listing is None else listing.members.get(parts[1])
            return None if member is None else Entry(path, member.num_bytes)
        if parts is not None:
            size = find_size(self.root, parts[0])
            if size is None:
                return None
            return Entry(path, estimate_embedded_bytes(self.root, *parts))
        if not self._archive:
            size = find_size(self.root, path)
            if size is not None:
                return Entry(self._spell(path), size)
            if not self._listings:
                return None
        return self.entries.get(posixpath.normpath(path))

    def _spell(self, path: str) -> str:
        """Returns the one spelling of a file's path, so that no file is counted twice."""
        if path.startswith("/") or ".." in path.split("/"):
            return str(resolve_path(self.root, path).relative_to(self.root))
        return posixpath.normpath(path)

    def is_file(self, path: str) -> bool:
        """Returns whether there is such a file outside any archive."""
        return not self._archive and find_size(self.root, path) is not None

    def exists(self, path: str) -> bool:
        """Returns whether there is such a file, in an archive or not."""
        try:
            return self.find(path) is not None
        except (OSError, ValueError, DataError):
            return False

    def find_by_stem(self, stem: str, folder: str) -> str | None:
        """Returns the audio file of a name without suffix under a folder; None where there is none
        or more than one.
        """
        prefix = f"{folder}/" if folder not in ("", ".") else ""
        paths = [path for path in self._audio_by_stem.get(stem, ()) if path.startswith(prefix)]
        return paths[0] if len(paths) == 1 else None

    def find_by_stem_below(self, stem: str, tail: str) -> str | None:
        """Returns the audio file of a name without suffix under any folder whose path ends so; None
        where there is none or more than one.
        """
        paths = [path for path in self._audio_by_stem.get(stem, ()) if f"/{tail}/" in f"/{path}"]
        return paths[0] if len(paths) == 1 else None

    def find_files(self, *names: str) -> list[str]:
        """Returns files of these names anywhere, sorted; a name that begins with `.` is a
        suffix.
        """
        # Compared as text, not as paths: there may be a million files.
        ends = tuple(name if name.startswith(".") else f"/{name}" for name in names)
        return [path for path in self.entries if f"/{path}".endswith(ends)]

    def open_text(self, path: str) -> TextIO:
        """Opens a table as text, ends of lines as they stand; the caller closes it.

        Raises:
            DataError: If there is no such file or it cannot be read.
        """
        entry = self.find(path)
        if entry is None:
            raise DataError(f"{self.location} has no {path}.")
        try:
            if split_member_path(entry.path) is None:
                stream = open_file(self.root, entry.path)
            else:
                stream = io.BytesIO(read_source_bytes(self.root, entry.path, self.limits))
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error}.") from None
        return io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")

    def read_text(self, path: str) -> str:
        """Returns a small text file.

        Raises:
            DataError: If it cannot be read or is no UTF-8.
        """
        with self.open_text(path) as file:
            try:
                return file.read()
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path} must be UTF-8, but byte {error.start} is not. Convert it with `iconv`."
                ) from None


def _strip_suffixes(name: str) -> str:
    while is_archive(name):
        name = name.rpartition(".")[0].removesuffix(".tar")
    return name
