"""Reading manifests: which files there are, of which language, and what is said in them.

A manifest is `manifest.tsv` (no quoting), `manifest.csv` or `manifest.jsonl` beside the audio. A
row that cannot be used becomes a rejection; only a manifest that cannot be read at all is an error.
Standing: first step of `speechvq.data.prepare`.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from speechvq.data.parts import is_split_name
from speechvq.data.records import SAMPLE_RATE, Reason, Rejection
from speechvq.errors import DataError
from speechvq.languages import parse_language

MANIFEST_NAMES = ("manifest.tsv", "manifest.csv", "manifest.jsonl")
_ALIASES = {
    "path": ("path", "audio_filepath", "audio_path", "audio", "file", "filename"),
    "language": ("language", "lang", "locale"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "split": ("split",),
    "transcript": ("transcript", "text", "sentence"),
    "recording": ("recording", "recording_id"),
    "licence": ("licence", "license"),
    "source": ("source",),
    "seconds": ("seconds", "duration"),
}
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
        root: The input directory.
        path: The file, relative to it.
        source: Name of the source.
        language: `hin_Deva`.
        split: The manifest's split, or None.
        speaker: Speaker label, or None.
        recording: Recording label; the path where the manifest has none.
        transcript: What is said, as written; None where nothing is given.
        licence: Rights, or None.
        seconds: Length that the manifest declares, or None.
        num_bytes: Size of the file.
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


def read_manifests(directories: list[str]) -> tuple[list[ManifestRow], list[Rejection]]:
    """Reads the manifests of all input directories, in order.

    Returns:
        Usable rows, and rejections of the others.

    Raises:
        DataError: If a directory has no manifest, or one without the needed columns, or two inputs
            share a source name.
    """
    rows: list[ManifestRow] = []
    rejections: list[Rejection] = []
    seen: set[tuple[str, str]] = set()
    roots: dict[str, str] = {}
    for directory in directories:
        root = Path(directory).resolve()
        for row in _read_rows(root):
            if isinstance(row, Rejection):
                rejections.append(row)
            elif (row.source, row.path) in seen:
                _check_source(roots, row)
                rejections.append(
                    _reject(row, Reason.DUPLICATE, "The file stands in the manifest twice.")
                )
            else:
                seen.add((row.source, row.path))
                roots.setdefault(row.source, row.root)
                rows.append(row)
    return rows, rejections


def _check_source(roots: Mapping[str, str], row: ManifestRow) -> None:
    if roots[row.source] != row.root:
        raise DataError(
            f"Two inputs have the source {row.source!r} and a file {row.path!r}:"
            f" {roots[row.source]} and {row.root}. Rename a directory, or give a `source` column."
        )


def _read_rows(root: Path) -> Iterator[ManifestRow | Rejection]:
    manifest = find_manifest(root)
    for number, cells in _read_cells(manifest):
        if cells is None:
            yield Rejection(
                path=f"{manifest.name}:{number}",
                source=root.name,
                language="",
                reason=Reason.BAD_ROW,
                detail="The line is no row of the manifest's columns.",
            )
        else:
            yield _parse_row(root, number, _rename(cells))


def find_manifest(root: Path) -> Path:
    """Returns the manifest of an input directory.

    Raises:
        DataError: If there is none.
    """
    for name in MANIFEST_NAMES:
        if (root / name).is_file():
            return root / name
    raise DataError(
        f"{root} has no manifest. Put a `manifest.tsv` there with the columns path and language"
        " (such as hin_Deva), and if you have them speaker, split, transcript, recording, licence;"
        " `.csv` and `.jsonl` work too."
    )


def _read_cells(manifest: Path) -> Iterator[tuple[int, dict[str, str] | None]]:
    """Yields line numbers with cells by column, None for a broken line."""
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            if manifest.suffix == ".jsonl":
                yield from _read_jsonl(file, manifest)
            else:
                yield from _read_table(file, manifest)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{manifest} must be UTF-8, but byte {error.start} is not. Convert it with `iconv`."
        ) from None
    except csv.Error as error:
        raise DataError(f"{manifest} is no {manifest.suffix[1:]} file: {error}.") from None


def _read_table(file: Iterator[str], manifest: Path) -> Iterator[tuple[int, dict[str, str] | None]]:
    is_tsv = manifest.suffix == ".tsv"
    # Transcripts hold quotation marks: in a TSV they are text, in a CSV they quote.
    reader = (
        csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if is_tsv else csv.reader(file)
    )
    header = [name.strip() for name in next(reader, [])]
    _check_columns(header, manifest)
    for cells in reader:
        if not any(cells):
            continue
        if len(cells) > len(header):
            yield reader.line_num, None
        else:
            yield reader.line_num, dict(zip(header, cells, strict=False))


def _read_jsonl(file: Iterator[str], manifest: Path) -> Iterator[tuple[int, dict[str, str] | None]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            cells = json.loads(line)
        except ValueError:
            cells = None
        if not isinstance(cells, dict):
            yield number, None
            continue
        if number == 1:
            _check_columns(list(cells), manifest)
        yield (
            number,
            {str(key): "" if value is None else str(value) for key, value in cells.items()},
        )


def _check_columns(header: list[str], manifest: Path) -> None:
    for column in ("path", "language"):
        if not set(header) & set(_ALIASES[column]):
            raise DataError(
                f"{manifest} must have a column {column!r} (or {', '.join(_ALIASES[column][1:])}),"
                f" but has {', '.join(header) or 'no columns'}."
            )


def _rename(cells: Mapping[str, str]) -> dict[str, str]:
    renamed = {}
    for name, aliases in _ALIASES.items():
        values = (cells[alias].strip() for alias in aliases if alias in cells)
        renamed[name] = next((value for value in values if value), "")
    return renamed


def _parse_row(root: Path, number: int, cells: Mapping[str, str]) -> ManifestRow | Rejection:
    split = cells["split"].lower()
    seconds = _parse_seconds(cells["seconds"])
    row = ManifestRow(
        root=str(root),
        path=cells["path"],
        source=cells["source"] or root.name,
        language=cells["language"],
        split=_SPLIT_ALIASES.get(split, cells["split"]) or None,
        speaker=cells["speaker"] or None,
        recording=cells["recording"] or cells["path"],
        transcript=cells["transcript"] or None,
        licence=cells["licence"] or None,
        seconds=seconds,
        num_bytes=0,
    )
    if not row.path:
        return _reject(row, Reason.BAD_ROW, f"Line {number} has no path.")
    if row.split is not None and not is_split_name(row.split):
        return _reject(
            row, Reason.BAD_ROW, f"Line {number}: a split cannot be named {row.split!r}."
        )
    try:
        parse_language(row.language)
    except DataError as error:
        return _reject(row, Reason.UNKNOWN_LANGUAGE, str(error))
    return _find_file(row)


def _parse_seconds(cell: str) -> float | None:
    try:
        seconds = float(cell)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and 0 < seconds < 1e6 else None


def _find_file(row: ManifestRow) -> ManifestRow | Rejection:
    """Confines the path to the input directory, links resolved, and finds the file's size."""
    try:
        real = os.path.realpath(Path(row.root) / row.path, strict=False)
        if not Path(real).is_relative_to(row.root):
            return _reject(row, Reason.OUTSIDE_INPUT, "The path leads out of the input directory.")
        if not Path(real).is_file():
            return _reject(row, Reason.MISSING_FILE, "There is no such file.")
        return replace(row, num_bytes=Path(real).stat().st_size)
    except (OSError, ValueError) as error:  # a loop of links, a name with NUL
        return _reject(row, Reason.MISSING_FILE, str(error))


def _reject(row: ManifestRow, reason: Reason, detail: str) -> Rejection:
    return Rejection(
        path=row.path,
        source=row.source,
        language=row.language,
        reason=reason,
        num_samples=round((row.seconds or 0.0) * SAMPLE_RATE),
        detail=detail,
    )
