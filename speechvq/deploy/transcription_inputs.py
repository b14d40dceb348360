"""Which files `speechvq transcribe` reads, and what it calls their transcripts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from speechvq.data.tree import AUDIO_SUFFIXES
from speechvq.deploy.transcript_files import SUFFIXES
from speechvq.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Input:
    """One file.

    Attributes:
        path: The file.
        name: Of its transcripts, without suffix, relative to the output directory.
        problem: Why it cannot be read; "" where nothing is known against it.
    """

    path: Path
    name: Path
    problem: str = ""

    def list_outputs(self, directory: Path, formats: Sequence[str]) -> list[Path]:
        """Returns its transcripts, one a format."""
        place = directory / self.name
        return [place.with_name(place.name + SUFFIXES[name]) for name in formats]


def list_inputs(arguments: Sequence[str]) -> list[Input]:
    """Finds the files that are named, and those with the suffix of audio in folders.

    Args:
        arguments: Files and folders.

    Returns:
        Each file once. `a.wav` is transcribed as `a`, or as `a.wav` where there is an `a.mp3` too;
        below a folder its place in it is kept.

    Raises:
        ConfigError: If transcripts of different files would have one name.
    """
    found: dict[Path, Input] = {}
    for argument in arguments:
        for one in _list_argument(Path(argument)):
            found.setdefault(one.path.absolute(), one)
    stems = Counter(one.name.with_suffix("") for one in found.values())
    inputs = [
        Input(
            one.path, one.name.with_suffix("") if _is_alone(one, stems) else one.name, one.problem
        )
        for one in found.values()
    ]
    names = Counter(one.name for one in inputs)
    problems = [
        f"{show_path(one.path)} and another file would both be transcribed as "
        f"{show_path(one.name)}: name the folder above them instead, or transcribe them one by one."
        for one in inputs
        if names[one.name] > 1
    ]
    if problems:
        raise ConfigError(problems)
    return inputs


def show_path(path: Path | str) -> str:
    """Returns a path as one printable line, whatever its name holds."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def _is_alone(one: Input, stems: Counter[Path]) -> bool:
    return stems[one.name.with_suffix("")] == 1


def _list_argument(path: Path) -> Iterator[Input]:
    if not path.is_dir():
        yield Input(path, Path(path.name), _find_problem(path))
        return
    is_empty = True
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            file = Path(folder, name)
            if file.suffix.lower() in AUDIO_SUFFIXES:
                is_empty = False
                yield Input(file, file.relative_to(path), _find_problem(file))
    if is_empty:
        yield Input(path, Path(path.name), "the folder holds no file with the suffix of audio")


def _find_problem(path: Path) -> str:
    if not path.exists():
        return "there is no such file"
    # A pipe or a device may never end.
    return "" if path.is_file() else "this is no regular file"
