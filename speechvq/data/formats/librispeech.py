"""LibriSpeech (`<subset>/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt`) and Multilingual
LibriSpeech (`mls_<language>/<split>/transcripts.txt` with `segments.txt` and `audio/`).
"""

from __future__ import annotations

from pathlib import PurePosixPath

from speechvq.data.formats.rows import (
    BadRow,
    RawRow,
    Rows,
    find_language_in,
    get_folder,
    join_path,
    read_lines,
    read_table,
)
from speechvq.data.tree import FileTree

_ENGLISH = "eng_Latn"
_MLS_SUFFIXES = (".flac", ".opus", ".wav", ".mp3", ".ogg")


def detect_librispeech(tree: FileTree) -> bool:
    """Returns whether there are transcripts of chapters."""
    return bool(tree.find_files(".trans.txt"))


def read_librispeech(tree: FileTree) -> Rows:
    """Reads the transcripts of every chapter; English unless a folder is named for a language."""
    for path in tree.find_files(".trans.txt"):
        folder = get_folder(path)
        parts = PurePosixPath(folder).parts
        for number, line in read_lines(tree, path):
            name, _, transcript = line.strip().partition(" ")
            pieces = name.split("-")
            if len(pieces) < 3:
                where = f"{path}:{number}"
                yield BadRow(where, "The line must begin with <speaker>-<chapter>-<number>.")
                continue
            found = tree.find_by_stem(name, folder)
            yield RawRow(
                where=f"{path}:{number}",
                path=found or join_path(folder, f"{name}.flac"),
                language=find_language_in(tree, path) or _ENGLISH,
                split=_get_split(parts[-3] if len(parts) > 2 else tree.name),
                speaker="-".join(pieces[:-2]),
                recording="-".join(pieces[:-1]),
                transcript=transcript.strip() or None,
            )


def _get_split(subset: str) -> str:
    return "train" if subset.startswith("train") else subset


def detect_mls(tree: FileTree) -> bool:
    """Returns whether there are transcripts with segments beside them."""
    return bool(_find_splits(tree))


def read_mls(tree: FileTree) -> Rows:
    """Reads every split of every language; the address of each book is kept."""
    for folder in _find_splits(tree):
        path = join_path(folder, "transcripts.txt")
        urls = _read_urls(tree, join_path(folder, "segments.txt"))
        for number, cells in read_table(tree, path):
            if cells is None or len(cells) != 2:
                yield BadRow(f"{path}:{number}", "The line must be an id, a tab and a transcript.")
                continue
            name = cells[0].strip()
            pieces = name.split("_")
            place = join_path(folder, f"audio/{'/'.join(pieces[:-1])}/{name}")
            paths = [f"{place}{suffix}" for suffix in _MLS_SUFFIXES]
            yield RawRow(
                where=f"{path}:{number}",
                path=next((one for one in paths if tree.exists(one)), paths[0]),
                language=find_language_in(tree, path),
                split=PurePosixPath(folder).name or None,
                speaker=pieces[0],
                recording="_".join(pieces[:2]),
                transcript=cells[1].strip() or None,
                url=urls.get(name) or None,
            )


def _find_splits(tree: FileTree) -> list[str]:
    folders = [get_folder(path) for path in tree.find_files("transcripts.txt")]
    return [folder for folder in folders if tree.exists(join_path(folder, "segments.txt"))]


def _read_urls(tree: FileTree, path: str) -> dict[str, str]:
    rows = read_table(tree, path)
    return {cells[0].strip(): cells[1].strip() for _, cells in rows if cells and len(cells) > 1}
