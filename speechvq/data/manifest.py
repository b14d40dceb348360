"""Reading what stands in the inputs: which files there are, of which language, and what is said in
them.

An input is a directory, a URL of a store, or an archive, kept in one of `speechvq.data.formats`. A
row that cannot be used becomes a rejection; only a table that cannot be read at all is an error.
Standing: first step of `speechvq.data.prepare`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from speechvq.data.archive_listing import DEFAULT_LIMITS, ArchiveLimits
from speechvq.data.archives import SEPARATOR, is_archive, list_members, split_member_path
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
    seen: set[tuple[str, str, float | None]] = set()
    roots: dict[str, str] = {}
    for location in locations:
        found: list[ManifestRow] = []
        num_before = len(rejections)
        for row in _read_rows(FileTree(location, limits), format, language):
            key = (row.source, row.path, getattr(row, "begin_seconds", None))
            if isinstance(row, Rejection):
                rejections.append(row)
            elif key in seen:
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
        rows += _follow_archives(found, limits)
    return rows, rejections


def _lacks_language(row: Rejection) -> bool:
    return row.reason == Reason.UNKNOWN_LANGUAGE and not row.language


def _check_source(roots: Mapping[str, str], row: ManifestRow) -> None:
    if roots[row.source] != row.root:
        raise DataError(
            f"Two inputs have the source {row.source!r} and a file {row.path!r}:"
            f" {roots[row.source]} and {row.root}. Rename a directory, or give a `source` column."
        )


def _follow_archives(rows: list[ManifestRow], limits: ArchiveLimits) -> list[ManifestRow]:
    """Puts the rows of each compressed archive into its order, as it can only be read forward."""
    places: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        parts = split_member_path(row.path)
        if parts is not None and is_archive(parts[0]) and not parts[0].endswith((".tar", ".zip")):
            places[parts[0]].append(index)
    result = list(rows)
    for archive, indices in places.items():
        order = _list_order(rows[indices[0]].root, archive, limits)
        ordered = sorted(indices, key=lambda index: order[rows[index].path])
        for place, index in zip(indices, ordered, strict=True):
            result[place] = rows[index]
    return result


def _list_order(root: str, archive: str, limits: ArchiveLimits) -> dict[str, int]:
    members = list_members(root, archive, limits).members
    return {f"{archive}{SEPARATOR}{name}": member.offset for name, member in members.items()}


def _read_rows(tree: FileTree, format: str, language: str) -> Iterator[ManifestRow | Rejection]:
    for raw in _read_raw_rows(tree, format):
        if isinstance(raw, BadRow):
            yield Rejection(
                path=raw.where,
                source=tree.name,
                language=language,
                reason=Reason.BAD_ROW,
                detail=raw.detail,
            )
        else:
            yield _check_row(tree, raw, language)
    for path, refusal in tree.refusals:
        yield Rejection(
            path=path,
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
    split = raw.split or ""
    row = ManifestRow(
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
