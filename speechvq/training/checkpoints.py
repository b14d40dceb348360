"""Whole checkpoints: what a run resumes from was written to the end and is still what was written.

fairseq2 writes `step_N.tmp` and renames it to `step_N`. A power cut may still leave empty files
behind that name, and `torch.load` takes weights with a flipped bit without a word. So every file is
digested while it is written, goes to the disk before the rename, and stands in the checkpoint's
`manifest.json` with its size and SHA-256:

    {"format_version": 1, "num_ranks": 2, "files": {"trainer/rank_00.pt": {"size", "sha256"}, …}}

A checkpoint that does not agree with its manifest is never resumed from. This finds accidents; it
is no protection from somebody who writes files and manifest anew.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from speechvq.durable import sync_directory, write_durably
from speechvq.errors import ModelError

MANIFEST_FILE = "manifest.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class FileDigest:
    """What a file must be.

    Attributes:
        size: Bytes.
        sha256: Digest of its content, hexadecimal.
    """

    size: int
    sha256: str


def write_manifest(checkpoint: Path, files: Mapping[str, FileDigest], num_ranks: int) -> None:
    """Complete a checkpoint: its manifest, and all its directories, go to the disk.

    Args:
        checkpoint: Its directory, with all files of all ranks.
        files: Their digests, by path below the directory.
        num_ranks: Processes that the run has.
    """
    document = {
        "format_version": FORMAT_VERSION,
        "num_ranks": num_ranks,
        "files": {name: asdict(files[name]) for name in sorted(files)},
    }
    text = json.dumps(document, indent=2) + "\n"
    write_durably(checkpoint / MANIFEST_FILE, text.encode())
    for path in sorted(checkpoint.rglob("*")):
        if path.is_dir():
            sync_directory(path)


def is_complete(checkpoint: Path) -> bool:
    """Tell whether all files are there with their sizes; their content is not read."""
    return _find_missing(checkpoint) is None


def find_damage(checkpoint: Path) -> str | None:
    """Compare a checkpoint with its manifest.

    Args:
        checkpoint: Its directory.

    Returns:
        What is wrong, without a full stop, or None if every byte is as it was written.
    """
    problem = _find_missing(checkpoint)
    if problem is not None:
        return problem
    for name, expected in _read_manifest(checkpoint).items():
        try:
            with (checkpoint / name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
        if digest != expected.sha256:
            return f"{name} has another SHA-256 than when it was written"
    return None


def _find_missing(checkpoint: Path) -> str | None:
    """Return what is wrong with names and sizes of the files, or None."""
    if not (checkpoint / MANIFEST_FILE).is_file():
        return f"it has no {MANIFEST_FILE}"
    try:
        files = _read_manifest(checkpoint)
    except (OSError, ValueError, TypeError, KeyError):
        return f"its {MANIFEST_FILE} cannot be read"
    for name, expected in files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if (size := path.stat().st_size) != expected.size:
            return f"{name} has {size} bytes instead of {expected.size}"
    for path in sorted(checkpoint.rglob("*.pt")):
        if path.relative_to(checkpoint).as_posix() not in files:
            return f"{path.relative_to(checkpoint)} is not in its {MANIFEST_FILE}"
    return None


def _read_manifest(checkpoint: Path) -> dict[str, FileDigest]:
    """Read a manifest.

    Raises:
        ValueError: It is not JSON, of another version, or lists no file. KeyError, TypeError: It
        has another shape.
    """
    document: Any = json.loads((checkpoint / MANIFEST_FILE).read_text(encoding="utf-8"))
    files = {
        name: FileDigest(int(entry["size"]), str(entry["sha256"]))
        for name, entry in dict(document["files"]).items()
    }
    if document["format_version"] != FORMAT_VERSION or not files:
        raise ValueError
    return files


def list_steps(checkpoints: Path) -> list[int]:
    """Return the steps that have a checkpoint, whole or not, in ascending order."""
    numbers = (path.name.removeprefix("step_") for path in checkpoints.glob("step_*"))
    return sorted(int(number) for number in numbers if number.isdigit())


def set_aside_damaged(checkpoints: Path) -> list[str]:
    """Verify the checkpoints of a run, newest first, until one is whole.

    Damaged ones are renamed to `damaged_step_N`, so that nothing resumes from them and nothing is
    lost. What an interrupted save left behind is removed.

    Args:
        checkpoints: The directory that holds them; may be missing.

    Returns:
        One sentence for each that was set aside.

    Raises:
        ModelError: The run has checkpoints, and none of them is whole. Nothing was changed.
    """
    damage: dict[int, str] = {}
    whole = None
    for step in reversed(list_steps(checkpoints)):
        problem = find_damage(checkpoints / f"step_{step}")
        if problem is None:
            whole = step
            break
        damage[step] = problem
    set_aside_before = list(checkpoints.glob("damaged_step_*"))
    if whole is None and (damage or set_aside_before):
        found = [f"step {step}: {problem}" for step, problem in damage.items()]
        found += [f"{path.name} was set aside before" for path in sorted(set_aside_before)]
        raise ModelError(
            f"No checkpoint in {checkpoints} is whole ({'; '.join(found)}). Bring one back from a "
            "copy, or remove this directory to train from step 0, or choose another `output`."
        )
    sentences = []
    for step, problem in damage.items():
        place = _rename_damaged(checkpoints / f"step_{step}")
        sentences.append(
            f"The checkpoint of step {step} is damaged ({problem}) and was renamed to "
            f"{place.name}; the run goes on from step {whole}."
        )
    for path in checkpoints.glob("step_*.tmp"):
        shutil.rmtree(path, ignore_errors=True)
    return sentences


def _rename_damaged(checkpoint: Path) -> Path:
    """Rename a checkpoint to the first free name."""
    number = 1
    place = checkpoint.with_name(f"damaged_{checkpoint.name}")
    while place.exists():
        number += 1
        place = checkpoint.with_name(f"damaged_{checkpoint.name}_{number}")
    checkpoint.rename(place)
    sync_directory(checkpoint.parent)
    return place
