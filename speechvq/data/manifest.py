"""Reading what stands in the inputs: which files there are, of which language, and what is said in
them.

An input is a directory, a URL of a store, or an archive, kept in one of `speechvq.data.formats`. A
row that cannot be used becomes a rejection; only a table that cannot be read at all is an error.
Standing: first step of `speechvq.data.prepare`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from speechvq.data.archive_listing import DEFAULT_LIMITS, ArchiveLimits
from speechvq.data.archives import is_archive, list_members, split_member_path
from speechvq.data.formats import choose_format
from speechvq.data.formats.rows import BadRow, RawRow, Rows
from speechvq.data.parts import is_split_name
from speechvq.data.records import SAMPLE_RATE, Reason, Rejection
from speechvq.data.storage import OutsideRootError
from speechvq.data.tree import FileTree
from speechvq.errors import DataError
from speechvq.languages import parse_language

_SPLIT_ALIASES = {
    "valid": "dev",
    "validation": "dev",
    "val": "dev",
    "development": "dev",
    "eval": "test",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestRow:
    """One file to prepare.

    Attributes:
        root: The input directory or URL.
        path: The file, relative to it; `archive.tar!/member` lies in an archive and
            `rows.parquet!/12` in a table (`speechvq.data.archives.read_source_bytes`).
        source: Name of the source.
        language: `hin_Deva`.
        split: The manifest's split, or None.
        speaker: Speaker label, or None.
        recording: Recording label; the path where the manifest has none.
        transcript: What is said, as written; None where nothing is given.
        licence: Rights, or None.
        seconds: Length that the manifest declares, or None.
        num_bytes: Size of the file.
        url: Where it was found, or None.
        begin_seconds: Where the utterance begins in the file; None for the whole file.
        end_seconds: Where it ends; None for the end of the file.
        order: Place of a member in a compressed archive, or of a row in a table, from 1: these are
            read forward. 0 where the order is no matter.
    """

    root: str
    path: str
    source: str
    language: str
    split: str | None
    speaker: str | None
    recording: str
    transcript: str | None
    licence: str | None
    seconds: float | None
    num_bytes: int
    url: str | None = None
    begin_seconds: float | None = None
    end_seconds: float | None = None
    order: int = 0


def read_manifests(
    locations: list[str],
    *,
    format: str = "",
    language: str = "",
    limits: ArchiveLimits = DEFAULT_LIMITS,
) -> tuple[list[ManifestRow], list[Rejection]]:
    """Reads what stands in all inputs, in order.

    Args:
        locations: Directories, URLs, archives.
        format: One of `speechvq.data.formats.FORMAT_NAMES`; empty to find out, input by input.
        language: The language of rows whose format does not say it, such as `hin_Deva`.
        limits: How far an archive may unfold.

    Returns:
        Usable rows, and rejections of the others.

    Raises:
        DataError: If an input holds nothing that can be read, or a table without the needed
            columns, or two inputs share a source name.
    """
    rows: list[ManifestRow] = []
    rejections: list[Rejection] = []
    seen: set[tuple[str, str, tuple[float | None, ...]]] = set()
    roots: dict[str, str] = {}
    for location in locations:
        found: list[ManifestRow] = []
        num_before = len(rejections)
        for row in _read_rows(FileTree(location, limits), format, language):
            if isinstance(row, Rejection):
                rejections.append(row)
                continue
            key = (row.source, row.path, (row.begin_seconds, row.end_seconds))
            if key in seen:
                _check_source(roots, row)
                rejections.append(
                    _reject(row, Reason.DUPLICATE, "The file stands in the manifest twice.")
                )
            else:
                seen.add(key)
                roots.setdefault(row.source, row.root)
                found.append(row)
        if not found and any(_lacks_language(row) for row in rejections[num_before:]):
            raise DataError(
                f"{location} does not say which language is spoken. Name it with `language=`, such"
                " as `language=hin_Deva`, or give the manifest a column `language`."
            )
        rows += _number_members(found, limits)
    return rows, rejections


def _lacks_language(row: Rejection) -> bool:
    return row.reason == Reason.UNKNOWN_LANGUAGE and not row.language


def _check_source(roots: Mapping[str, str], row: ManifestRow) -> None:
    if roots[row.source] != row.root:
        raise DataError(
            f"Two inputs have the source {row.source!r} and a file {row.path!r}:"
            f" {roots[row.source]} and {row.root}. Rename a directory, or give a `source` column."
        )


def _number_members(rows: list[ManifestRow], limits: ArchiveLimits) -> list[ManifestRow]:
    """Gives rows in compressed archives and in tables their place there."""
    orders: dict[str, dict[str, int]] = {}
    result = []
    for row in rows:
        parts = split_member_path(row.path)
        if parts is None or parts[0].lower().endswith((".tar", ".zip")):
            result.append(row)
            continue
        container, member = parts
        if is_archive(container):
            if container not in orders:
                orders[container] = _list_order(row.root, container, limits)
            place = orders[container][member]
        else:
            place = int(member) if member.isdecimal() else 0
        result.append(replace(row, order=place + 1))
    return result


def _list_order(root: str, archive: str, limits: ArchiveLimits) -> dict[str, int]:
    members = list_members(root, archive, limits).members
    return {name: member.offset for name, member in members.items()}


def _read_rows(tree: FileTree, format: str, language: str) -> Iterator[ManifestRow | Rejection]:
    for raw in _read_raw_rows(tree, format):
        if isinstance(raw, BadRow):
            yield Rejection(
                path=_show(raw.where),
                source=tree.name,
                language=language,
                reason=Reason.BAD_ROW,
                detail=raw.detail,
            )
        else:
            yield _check_row(tree, raw, language)
    for path, refusal in tree.refusals:
        yield Rejection(
            path=_show(path),
            source=tree.name,
            language=language,
            reason=refusal.reason,
            detail=refusal.detail,
        )


def _read_raw_rows(tree: FileTree, format: str) -> Rows:
    try:
        chosen = choose_format(tree, format)
    except DataError:
        if tree.refusals:  # an archive that is refused as a whole is set aside, and ends nothing
            return iter(())
        raise
    return chosen.read(tree)


def _check_row(tree: FileTree, raw: RawRow, language: str) -> ManifestRow | Rejection:
    if not _is_text(raw):
        cells = {field.name: _show(getattr(raw, field.name)) for field in fields(raw)}
        row = _make_row(tree, RawRow(**cells), language)
        return _reject(row, Reason.BAD_ROW, "A name or cell is no UTF-8; rename or convert it.")
    row = _make_row(tree, raw, language)
    if not row.path:
        return _reject(row, Reason.BAD_ROW, f"{raw.where} has no path.")
    if row.split is not None and not is_split_name(row.split):
        return _reject(row, Reason.BAD_ROW, f"{raw.where}: a split cannot be named {row.split!r}.")
    if not _is_span(raw.begin_seconds, raw.end_seconds):
        detail = f"{raw.where}: {raw.begin_seconds} to {raw.end_seconds} s is no part of a file."
        return _reject(row, Reason.BAD_ROW, detail)
    try:
        parse_language(row.language)
    except DataError as error:
        hint = "" if row.language else " Name it with `language=`, such as `language=hin_Deva`."
        return _reject(row, Reason.UNKNOWN_LANGUAGE, f"{error}{hint}")
    return _find_file(tree, row)


def _is_text(raw: RawRow) -> bool:
    """Returns whether every cell can be written as UTF-8: names of files need not be text, and JSON
    can spell half a character.
    """
    return all(
        value is _show(value) for value in (getattr(raw, field.name) for field in fields(raw))
    )


def _show(value: Any) -> Any:
    """Returns a cell with what is no text spelt in ASCII; itself where all is text."""
    if not isinstance(value, str):
        return value
    shown = value.encode("utf-8", "backslashreplace").decode()
    return value if shown == value else shown


def _make_row(tree: FileTree, raw: RawRow, language: str) -> ManifestRow:
    split = raw.split or ""
    return ManifestRow(
        root=tree.root,
        path=raw.path,
        source=raw.source or tree.name,
        language=raw.language or language,
        split=_SPLIT_ALIASES.get(split.lower(), split) or None,
        speaker=raw.speaker,
        recording=raw.recording or raw.path,
        transcript=raw.transcript,
        licence=raw.licence,
        seconds=_keep_length(raw.seconds),
        num_bytes=0,
        url=raw.url,
        begin_seconds=raw.begin_seconds,
        end_seconds=raw.end_seconds,
    )


def _keep_length(seconds: float | None) -> float | None:
    is_length = seconds is not None and math.isfinite(seconds) and 0 < seconds < 1e6
    return seconds if is_length else None


def _is_span(begin: float | None, end: float | None) -> bool:
    first = 0.0 if begin is None else begin
    last = math.inf if end is None else end
    return 0 <= first < last and first < 1e6


def _find_file(tree: FileTree, row: ManifestRow) -> ManifestRow | Rejection:
    """Confines the path to the input, links resolved, and finds the file's size."""
    try:
        entry = tree.find(row.path)
        if entry is None:
            return _reject(row, Reason.MISSING_FILE, "There is no such file.")
    except OutsideRootError as error:
        return _reject(row, Reason.OUTSIDE_INPUT, str(error))
    except (OSError, ValueError) as error:  # a loop of links, a name with NUL
        return _reject(row, Reason.MISSING_FILE, str(error))
    recording = entry.path if row.recording == row.path else row.recording
    return replace(row, path=entry.path, recording=recording, num_bytes=entry.num_bytes)


def _reject(row: ManifestRow, reason: Reason, detail: str) -> Rejection:
    return Rejection(
        path=row.path,
        source=row.source,
        language=row.language,
        reason=reason,
        num_samples=round((row.seconds or 0.0) * SAMPLE_RATE),
        detail=detail,
    )
