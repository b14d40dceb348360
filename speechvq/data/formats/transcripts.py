"""Folders of audio with transcripts in text files, as Indian corpora come.

Kathbath: `<language>/<split>/transcription_n2w.txt`, a file and a transcript a line, divided by a
tab. IndicWav2Vec: `<language>/<split>/transcript.txt`, divided by white space. OpenSLR's crowd
sourced corpora: `line_index.tsv`, an id and a transcript. Shrutilipi and others: a `.txt` of the
same name beside every clip.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath

from speechvq.data.formats.rows import (
    BadRow,
    RawRow,
    Rows,
    find_language_in,
    get_folder,
    join_path,
    read_lines,
)
from speechvq.data.tree import AUDIO_SUFFIXES, FileTree

_KATHBATH = ("transcription_n2w.txt", "transcription.txt")
_KATHBATH_NAME = re.compile(r"\d+-(\d+)-[fm]")
_OPENSLR = ("line_index.tsv", "line_index_female.tsv", "line_index_male.tsv", "line_index_all.tsv")
_OPENSLR_NAME = re.compile(r"([a-z]{2,3}[fm]?_\d{5})_\d+")
_SPLITS = re.compile(r"(train|valid|validation|dev|test)([_-]?\w*)")


def detect_kathbath(tree: FileTree) -> bool:
    """Returns whether there is a table of Kathbath's name."""
    return bool(tree.find_files(*_KATHBATH))


def read_kathbath(tree: FileTree) -> Rows:
    """Reads Kathbath; speakers from the names of the clips."""
    return _read_all(tree, _KATHBATH, "\t", lambda stem: _match(_KATHBATH_NAME, stem))


def detect_transcript_tree(tree: FileTree) -> bool:
    """Returns whether there is a `transcript.txt`."""
    return bool(tree.find_files("transcript.txt"))


def read_transcript_tree(tree: FileTree) -> Rows:
    """Reads the trees that IndicWav2Vec's fine-tuning starts from."""
    return _read_all(tree, ("transcript.txt",), "", lambda stem: None)


def detect_openslr(tree: FileTree) -> bool:
    """Returns whether there is a `line_index.tsv`."""
    return bool(tree.find_files(*_OPENSLR))


def read_openslr(tree: FileTree) -> Rows:
    """Reads OpenSLR's crowd sourced corpora; speakers from the names of the clips."""
    return _read_all(tree, _OPENSLR, "\t", lambda stem: _match(_OPENSLR_NAME, stem))


def _match(pattern: re.Pattern[str], stem: str) -> str | None:
    match = pattern.fullmatch(stem)
    return match[1] if match else None


def _read_all(
    tree: FileTree,
    names: tuple[str, ...],
    delimiter: str,
    find_speaker: Callable[[str], str | None],
) -> Rows:
    for path in tree.find_files(*names):
        for number, line in read_lines(tree, path):
            cells = [cell.strip() for cell in line.split(delimiter or None, 1)]
            if len(cells) < 2 or not cells[0]:
                yield BadRow(f"{path}:{number}", "The line must be a file and a transcript.")
                continue
            stem = _strip_suffix(cells[0])
            yield RawRow(
                where=f"{path}:{number}",
                path=_find_clip(tree, path, stem) or join_path(get_folder(path), cells[0]),
                language=find_language_in(tree, path),
                split=_find_split(path),
                speaker=find_speaker(stem),
                transcript=cells[1] or None,
            )


def _strip_suffix(name: str) -> str:
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in AUDIO_SUFFIXES else path.name


def _find_clip(tree: FileTree, table: str, stem: str) -> str | None:
    """Returns the clip under the table's folder, else under the one above, where the transcripts
    were unpacked apart from the audio.
    """
    folder = get_folder(table)
    for place in dict.fromkeys((folder, get_folder(folder), "")):
        found = tree.find_by_stem(stem, place)
        if found is not None:
            return found
    # Transcripts and audio of Kathbath unpack into two trees of the same shape.
    tail = "/".join(PurePosixPath(folder).parts[-2:])
    return tree.find_by_stem_below(stem, tail) if tail else None


def _find_split(path: str) -> str | None:
    for part in reversed(PurePosixPath(path).parent.parts):
        if _SPLITS.fullmatch(part):
            return part
    return None


def detect_text_beside_audio(tree: FileTree) -> bool:
    """Returns whether most clips have a `.txt` of their name beside them."""
    clips = [path for path, _ in tree.audio]
    return bool(clips) and 2 * sum(_get_text_path(p) in tree.entries for p in clips) > len(clips)


def read_text_beside_audio(tree: FileTree) -> Rows:
    """Reads clips with the text beside them; of several folders, each is one recording."""
    is_divided = len({get_folder(path) for path, _ in tree.audio}) > 1
    for path, _ in tree.audio:
        text = _get_text_path(path)
        transcript = tree.read_text(text).strip() if text in tree.entries else ""
        yield RawRow(
            where=path,
            path=path,
            language=find_language_in(tree, path),
            split=_find_split(path),
            recording=get_folder(path) if is_divided else None,
            transcript=" ".join(transcript.split()) or None,
        )


def _get_text_path(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(".txt"))


def detect_audio(tree: FileTree) -> bool:
    """Returns whether there is any audio."""
    return next(tree.audio, None) is not None


def read_audio(tree: FileTree) -> Rows:
    """Reads audio that no table describes; the language is that of a folder's name, if any."""
    for path, _ in tree.audio:
        yield RawRow(where=path, path=path, language=find_language_in(tree, path))
