"""Mozilla Common Voice: per language `clips/`, `train.tsv`, `dev.tsv`, `test.tsv`,
`validated.tsv`, and in later releases `clip_durations.tsv`.

Clips of `validated.tsv` that stand in none of the three others become the split `validated`: their
speakers and sentences stand in the others, so they must not simply train.
"""

from __future__ import annotations

from speechvq.data.formats.rows import (
    BadRow,
    RawRow,
    Rows,
    find_language_in,
    get_folder,
    get_text,
    join_path,
    read_named_table,
)
from speechvq.data.tree import FileTree
from speechvq.errors import DataError
from speechvq.languages import find_language

_TABLES = ("train.tsv", "dev.tsv", "test.tsv", "validated.tsv")
_COLUMNS = {"client_id", "path", "sentence"}


def detect_common_voice(tree: FileTree) -> bool:
    """Returns whether a table has Common Voice's columns and clips beside it."""
    return bool(_find_folders(tree))


def read_common_voice(tree: FileTree) -> Rows:
    """Reads the tables of every language."""
    for folder in _find_folders(tree):
        seconds = _read_durations(tree, join_path(folder, "clip_durations.tsv"))
        tables = [name for name in _TABLES if tree.exists(join_path(folder, name))]
        seen: set[str] = set()
        for table in tables:
            split = None if tables == ["validated.tsv"] else table.removesuffix(".tsv")
            path = join_path(folder, table)
            for number, cells in read_named_table(tree, path):
                where = f"{path}:{number}"
                name = get_text(cells or {}, "path")
                if cells is None or name is None:
                    yield BadRow(where, "The line is no row of the table's columns.")
                    continue
                if name in seen:
                    continue
                seen.add(name)
                locale = get_text(cells, "locale")
                fallback = find_language_in(tree, path)
                yield RawRow(
                    where=where,
                    path=join_path(folder, f"clips/{_complete(name)}"),
                    language=(find_language(locale) or locale) if locale else fallback,
                    split=split,
                    speaker=get_text(cells, "client_id"),
                    transcript=get_text(cells, "sentence"),
                    seconds=seconds.get(name),
                )


def _find_folders(tree: FileTree) -> list[str]:
    folders = {get_folder(path) for path in tree.find_files(*_TABLES)}
    return sorted(folder for folder in folders if _is_language(tree, folder))


def _is_language(tree: FileTree, folder: str) -> bool:
    for table in _TABLES:
        path = join_path(folder, table)
        if tree.exists(path):
            try:
                with tree.open_text(path) as file:
                    header = file.readline().rstrip("\r\n").split("\t")
            except (DataError, UnicodeDecodeError):
                return False
            return set(header) >= _COLUMNS
    return False


def _complete(name: str) -> str:
    return name if "." in name else f"{name}.mp3"  # early releases left the suffix out


def _read_durations(tree: FileTree, path: str) -> dict[str, float]:
    if not tree.exists(path):
        return {}
    seconds = {}
    for _, cells in read_named_table(tree, path):
        name, length = (cells or {}).get("clip"), (cells or {}).get("duration[ms]")
        if name and length and length.isdecimal():
            seconds[name] = int(length) / 1000
    return seconds
