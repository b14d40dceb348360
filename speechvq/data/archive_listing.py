"""What an archive holds: its members by name, and what of it is refused, with a reason.

Only regular members whose names stay below the archive are members; an archive that unfolds beyond
its limits is refused as a whole. Standing: below `speechvq.data.archives`, which reads the bytes.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Self, cast

import pyarrow as pa

from speechvq.data.records import Reason
from speechvq.errors import DataError

_TAR_COMPRESSION = {
    **{".tar": "", ".tar.gz": "gz", ".tgz": "gz", ".tar.bz2": "bz2", ".tbz2": "bz2"},
    **{".tar.xz": "xz", ".txz": "xz", ".tar.zst": "zst", ".tzst": "zst"},
}
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_InvalidHeader = tarfile.InvalidHeaderError  # type: ignore[attr-defined]
_TruncatedHeader = tarfile.TruncatedHeaderError  # type: ignore[attr-defined]
_NoHeader = tarfile.EmptyHeaderError  # type: ignore[attr-defined]
_ReadError = tarfile.ReadError
DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError),
    *(pa.ArrowInvalid, NotImplementedError, RuntimeError, ValueError, OverflowError),
)
"""What the readers raise at damaged archives; a source's own errors come as `DataError`."""
_RATIO_GRACE_BYTES = 16 << 20
"""Ratios are judged beyond so many unpacked bytes: small files of text compress without limit."""


@dataclass(frozen=True, kw_only=True)
class ArchiveLimits:
    """How far an archive may unfold."""

    max_members: int = 5_000_000
    """An archive with more members is refused."""
    max_member_bytes: int = 4 << 30
    """A larger member is set aside."""
    max_total_bytes: int = 8 << 40
    """An archive that holds more is refused."""
    max_ratio: float = 200.0
    """An archive or member that unfolds to more than so many times its size is refused: audio
    stays under 20, digital silence in WAV reaches 1000."""


DEFAULT_LIMITS = ArchiveLimits()
VETTED_LIMITS = ArchiveLimits(
    max_members=1 << 62, max_member_bytes=1 << 62, max_total_bytes=1 << 62, max_ratio=float("inf")
)
"""For archives that were listed under limits before: what was refused then is not asked for."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member that can be read.

    Attributes:
        name: Its name, without a leading `./`.
        num_bytes: Its unpacked size.
        offset: Where its bytes begin in a plain tar; else its position in the archive.
    """

    name: str
    num_bytes: int
    offset: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A member, or with an empty name an archive, that is not used, and why."""

    name: str
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What an archive holds: members by name, in the archive's order, and refusals."""

    members: dict[str, Member]
    refusals: tuple[Refusal, ...]


class ArchiveLimitError(DataError):
    """An archive unfolds beyond its limits."""


def list_archive(file: BinaryIO, path: str, limits: ArchiveLimits) -> Listing:
    """Lists an open archive; damage and excess become refusals.

    Args:
        file: The archive, open at its start.
        path: Its name, whose suffix says what it is.
        limits: How far it may unfold.
    """
    collector = _Collector(limits)
    try:
        if path.lower().endswith(".zip"):
            _list_zip(file, collector)
        else:
            _list_tar(file, get_compression(path), collector)
    except ArchiveLimitError as error:
        return Listing({}, (Refusal("", Reason.OVER_LIMIT, str(error)),))
    except DAMAGE as error:
        # What stands before the damage is whole, and kept.
        number = len(collector.members)
        detail = f"The archive is damaged after {number} members: {describe_damage(error)}."
        collector.refusals.append(Refusal("", Reason.UNREADABLE, detail))
    return Listing(collector.members, tuple(collector.refusals))


class _Collector:
    """Members and refusals of one archive, names checked."""

    def __init__(self, limits: ArchiveLimits) -> None:
        self.limits = limits
        self.members: dict[str, Member] = {}
        self.refusals: list[Refusal] = []
        self._num_seen = 0
        self._num_bytes = 0

    def add(self, raw_name: str, num_bytes: int, offset: int, problem: Refusal | None) -> None:
        self._num_seen += 1
        if self._num_seen > self.limits.max_members:
            raise ArchiveLimitError(f"It holds more than {self.limits.max_members} members.")
        name = raw_name.removeprefix("./")
        problem = problem or _check_name(name) or self._check_member(name, num_bytes)
        if problem is not None:
            self.refusals.append(problem)
            return
        self._num_bytes += num_bytes
        if self._num_bytes > self.limits.max_total_bytes:
            raise ArchiveLimitError(f"It unfolds to more than {self.limits.max_total_bytes} bytes.")
        self.members[name] = Member(name, num_bytes, offset)

    def _check_member(self, name: str, num_bytes: int) -> Refusal | None:
        if name in self.members:
            return Refusal(name, Reason.DUPLICATE, "The archive holds two members of this name.")
        if num_bytes > self.limits.max_member_bytes:
            limit = self.limits.max_member_bytes
            detail = f"It unfolds to {num_bytes} bytes, more than {limit}."
            return Refusal(name, Reason.OVER_LIMIT, detail)
        return None


def _check_name(name: str) -> Refusal | None:
    parts = name.replace("\\", "/").split("/")
    if parts[0] == "" or parts[0].endswith(":") or ".." in parts:
        shown = name.encode("utf-8", "replace").decode()
        return Refusal(shown, Reason.OUTSIDE_INPUT, "The member's name leads out of the archive.")
    if "\0" in name or not _is_unicode(name):
        shown = name.encode("utf-8", "replace").decode()
        return Refusal(shown, Reason.BAD_ROW, "The member's name is no text.")
    return None


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _list_tar(file: BinaryIO, compression: str, collector: _Collector) -> None:
    for position, info in enumerate(_iterate_tar(file, compression, collector.limits)):
        if info.isdir():
            continue
        problem = None
        if not info.isreg() or info.issparse():
            kind = "link" if info.issym() or info.islnk() else "device or special file"
            detail = f"The member is a {kind}; only regular files are read."
            problem = Refusal(info.name, Reason.NOT_A_FILE, detail)
        collector.add(info.name, info.size, position if compression else info.offset_data, problem)


def _iterate_tar(
    file: BinaryIO, compression: str, limits: ArchiveLimits
) -> Iterator[tarfile.TarInfo]:
    with open_tar(file, compression, limits) as tar:
        size = None if compression else file.seek(0, io.SEEK_END)
        if size is not None:
            file.seek(0)
        while (info := read_header(tar)) is not None:
            if size is not None and info.isreg() and info.offset_data + info.size > size:
                raise tarfile.ReadError("unexpected end of data")
            yield info


def open_tar(file: BinaryIO, compression: str, limits: ArchiveLimits) -> tarfile.TarFile:
    """Opens a tar; a compressed one as a stream that stops beyond its limits."""
    if not compression:
        return tarfile.open(fileobj=file, mode="r:", tarinfo=_StrictInfo)
    stream = cast("Any", _LimitedStream(file, compression, limits))
    return tarfile.open(fileobj=stream, mode="r|", tarinfo=_StrictInfo)


def read_header(tar: Any) -> tarfile.TarInfo | None:
    """Returns the next member's header; None at the end."""
    info: tarfile.TarInfo | None = tar.next()
    tar.members = []  # tarfile remembers every member otherwise
    return info


class _StrictInfo(tarfile.TarInfo):
    """A header that must be whole: tarfile takes a damaged one for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except (_InvalidHeader, _TruncatedHeader, _NoHeader) as error:
            raise _ReadError(str(error)) from None


class _LimitedStream:
    """Unpacks a compressed stream and stops where it unfolds beyond its limits."""

    def __init__(self, file: BinaryIO, compression: str, limits: ArchiveLimits) -> None:
        self._raw = file
        self._stream = _DECOMPRESSORS[compression](file)
        self._limits = limits
        self._num_bytes = 0

    def read(self, size: int = -1) -> bytes:
        data = bytes(self._stream.read(size))
        self._num_bytes += len(data)
        ratio = self._num_bytes / max(1, self._raw.tell())
        if self._num_bytes > _RATIO_GRACE_BYTES and ratio > self._limits.max_ratio:
            raise ArchiveLimitError(
                f"It unfolds to more than {self._limits.max_ratio:g} times its size."
            )
        if self._num_bytes > self._limits.max_total_bytes:
            raise ArchiveLimitError(
                f"It unfolds to more than {self._limits.max_total_bytes} bytes."
            )
        return data


def _open_zstd(file: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd"))


_DECOMPRESSORS: dict[str, Callable[[BinaryIO], BinaryIO]] = {
    "gz": lambda file: cast(BinaryIO, gzip.GzipFile(fileobj=file)),
    "bz2": lambda file: cast(BinaryIO, bz2.BZ2File(file)),
    "xz": lambda file: cast(BinaryIO, lzma.LZMAFile(file)),  # noqa: SIM115
    "zst": _open_zstd,
}


def _list_zip(file: BinaryIO, collector: _Collector) -> None:
    with zipfile.ZipFile(file) as archive:
        if len(archive.filelist) > collector.limits.max_members:
            raise ArchiveLimitError(f"It holds more than {collector.limits.max_members} members.")
        _check_overlaps(archive)
        for position, info in enumerate(archive.filelist):
            if info.is_dir():
                continue
            problem = _check_zip_member(info, collector.limits)
            collector.add(info.filename, info.file_size, position, problem)


def _check_overlaps(archive: zipfile.ZipFile) -> None:
    """Refuses the bomb whose members share their bytes."""
    end = 0
    for info in sorted(archive.filelist, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise ArchiveLimitError("Its members overlap.")
        end = info.header_offset + info.compress_size


def _check_zip_member(info: zipfile.ZipInfo, limits: ArchiveLimits) -> Refusal | None:
    name, mode = info.filename.removeprefix("./"), info.external_attr >> 16
    if mode & 0o170000 not in (0, 0o100000):
        detail = "The member is a link or special file; only regular files are read."
        return Refusal(name, Reason.NOT_A_FILE, detail)
    if info.flag_bits & 0x1:
        return Refusal(name, Reason.ENCRYPTED, "The member is encrypted.")
    if info.compress_type not in _ZIP_METHODS:
        detail = f"Compression method {info.compress_type} of zip is not read."
        return Refusal(name, Reason.UNREADABLE, detail)
    ratio = info.file_size / max(1, info.compress_size)
    if info.file_size > _RATIO_GRACE_BYTES and ratio > limits.max_ratio:
        detail = f"It unfolds to {ratio:.0f} times its size, more than {limits.max_ratio:g}."
        return Refusal(name, Reason.OVER_LIMIT, detail)
    return None


def get_compression(path: str) -> str:
    """Returns how a tar is compressed, by its suffix; empty for a plain one."""
    suffix = max((s for s in _TAR_COMPRESSION if path.lower().endswith(s)), key=len)
    return _TAR_COMPRESSION[suffix]


def describe_damage(error: Exception) -> str:
    """Returns what a reader said of a damaged archive, without a full stop."""
    return str(error).rstrip(".") or type(error).__name__
