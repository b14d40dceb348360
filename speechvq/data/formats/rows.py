"""What every reader of a corpus format gives: rows as the format spells them, or lines that are
none.

Standing: the modules of `speechvq.data.formats` yield these; `speechvq.data.manifest` checks them,
finds the files, and makes `ManifestRow`s.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from speechvq.data.tree import FileTree
from speechvq.errors import DataError
from speechvq.languages import find_language

Cells = dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class RawRow:
    """One utterance or recording as a format names it.

    Attributes:
        where: File and line, for messages.
        path: The file, relative to the input; `archive.tar!/member` and `rows.parquet!/12` too.
        language: In the format's words; empty where it says nothing.
        split: In the format's words, or None.
        speaker: Label, or None.
        recording: What the clip was cut from, or None for the file itself.
        transcript: What is said, as written, or None.
        licence: Rights, or None.
        source: Name of the source, or None for the input's own.
        url: Where it was found, or None.
        seconds: Declared length, or None.
        begin_seconds: Where the utterance begins in the file, or None for the whole file.
        end_seconds: Where it ends, or None for the end of the file.
    """

    where: str
    path: str
    language: str = ""
    split: str | None = None
    speaker: str | None = None
    recording: str | None = None
    transcript: str | None = None
    licence: str | None = None
    source: str | None = None
    url: str | None = None
    seconds: float | None = None
    begin_seconds: float | None = None
    end_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line that is no row, and why.

    Attributes:
        where: File and line.
        detail: What is wrong with it.
    """

    where: str
    detail: str


Rows = Iterator[RawRow | BadRow]


@dataclass(frozen=True, slots=True)
class Format:
    """One way in which people keep a corpus.

    Attributes:
        name: What `format=` takes.
        title: What it is.
        detect: Whether an input is kept that way.
        read: Its rows.
    """

    name: str
    title: str
    detect: Callable[[FileTree], bool]
    read: Callable[[FileTree], Rows]


def read_table(
    tree: FileTree, path: str, *, delimiter: str = "\t", quoted: bool = False
) -> Iterator[tuple[int, list[str] | None]]:
    """Yields line numbers with cells, headers included; None for a line that is no row, as with a
    NUL or a cell of more than 128 KiB.

    Args:
        tree: The input.
        path: A table in it.
        delimiter: What stands between cells.
        quoted: Whether quotation marks quote; else they are text.

    Raises:
        DataError: If the file is no UTF-8 or no table.
    """
    with tree.open_text(path) as file:
        reader = csv.reader(
            file, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
        )
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except UnicodeDecodeError as error:
                raise _no_utf8(tree, path, error) from None
            except csv.Error:
                yield reader.line_num, None
                continue
            if any(cells):
                yield reader.line_num, cells


def read_named_table(
    tree: FileTree, path: str, *, delimiter: str = "\t", quoted: bool = False
) -> Iterator[tuple[int, Cells | None]]:
    """Yields line numbers with cells by column; None for a line with more cells than columns."""
    rows = read_table(tree, path, delimiter=delimiter, quoted=quoted)
    _, header = next(rows, (0, None))
    names = [name.strip() for name in header or []]
    for number, cells in rows:
        if cells is None or len(cells) > len(names):
            yield number, None
        else:
            yield number, dict(zip(names, cells, strict=False))


def read_lines(tree: FileTree, path: str) -> Iterator[tuple[int, str]]:
    """Yields line numbers with the lines that are not empty.

    Raises:
        DataError: If the file is no UTF-8.
    """
    with tree.open_text(path) as file:
        try:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise _no_utf8(tree, path, error) from None


def parse_object(line: str) -> dict[str, object] | None:
    """Returns the JSON object of a line; None where it is none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def get_float(cells: Mapping[str, object], name: str) -> float | None:
    """Returns a number of a row; None where it has none."""
    value = cells.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def get_text(cells: Mapping[str, object], *names: str) -> str | None:
    """Returns the first of these cells that holds text; None where none does."""
    for name in names:
        value = cells.get(name)
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            text = str(value).strip()
            if text:
                return text
    return None


def get_folder(path: str) -> str:
    """Returns the folder of a path; empty at the top."""
    folder = str(PurePosixPath(path).parent)
    return "" if folder == "." else folder


def join_path(folder: str, name: str) -> str:
    """Returns a path in a folder; an absolute name stays as it is."""
    return f"{folder}/{name}" if folder and not name.startswith("/") else name


def find_language_in(tree: FileTree, path: str) -> str:
    """Returns the language that a folder above a file is named for, the nearest first; empty where
    none is.
    """
    names = [tree.name, *PurePosixPath(path).parent.parts]
    codes = (find_language(name.removeprefix("mls_")) for name in reversed(names))
    return next((code for code in codes if code is not None), "")


def _no_utf8(tree: FileTree, path: str, error: UnicodeDecodeError) -> DataError:
    return DataError(
        f"{join_path(tree.location, path)} must be UTF-8, but byte {error.start} is not. Convert it"
        " with `iconv`."
    )
