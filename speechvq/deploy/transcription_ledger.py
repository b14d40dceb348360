"""What `speechvq transcribe` has done in an output directory, so that it is neither done twice nor
lost.

`transcribed.jsonl` holds a line for every finished file, and before it one that claims its outputs.
Beside it, `.NAME.windows.jsonl` keeps the windows of a long file that is not finished yet; a killed
run goes on from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from speechvq.decoding.forced_alignment import LabelSpan
from speechvq.json_lines import read_json_lines

LEDGER_FILE = "transcribed.jsonl"


def identify(path: Path) -> dict[str, Any]:
    """Returns what tells whether a file has changed."""
    status = path.stat()
    name = os.fsencode(path.resolve()).decode("utf-8", "backslashreplace")
    return {"path": name, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


class Ledger:
    """The finished files of an output directory.

    Args:
        directory: The output directory.
        settings: What changes a transcript: the model, the language.
    """

    def __init__(self, directory: Path, settings: Mapping[str, Any]) -> None:
        self._path = directory / LEDGER_FILE
        self._settings = dict(settings)
        lines = read_json_lines(self._path)
        self._by_input = {str(line["input"]["path"]): line for line in lines if "input" in line}
        self._outputs = {str(name) for line in lines for name in line.get("outputs", [])}

    def is_done(self, identity: Mapping[str, Any], outputs: Sequence[Path]) -> bool:
        """Whether an unchanged file has all these outputs already."""
        line = self._by_input.get(identity["path"])
        if line is None or line["input"] != identity or line.get("settings") != self._settings:
            return False
        written = set(line.get("outputs", []))
        return all(path.exists() and self._name(path) in written for path in outputs)

    def has_other_settings(self, identity: Mapping[str, Any]) -> bool:
        """Whether the file was transcribed here with another model or language."""
        line = self._by_input.get(identity["path"])
        return line is not None and line.get("settings") != self._settings

    def owns(self, path: Path) -> bool:
        """Whether an output was written here before, and not by somebody else."""
        return self._name(path) in self._outputs

    def begin(self, outputs: Sequence[Path]) -> None:
        """Notes outputs as ours before they are written: a kill may come before `add`."""
        names = [self._name(path) for path in outputs if not self.owns(path)]
        if names:
            self._outputs.update(names)
            _append(self._path, {"outputs": names})

    def add(self, identity: Mapping[str, Any], outputs: Sequence[Path], **details: object) -> None:
        """Notes a file as finished."""
        before = self._by_input.get(identity["path"], {})
        names = [self._name(path) for path in outputs]
        if before.get("input") == identity and before.get("settings") == self._settings:
            names = sorted({*names, *before["outputs"]})
        line = {"input": dict(identity), "settings": self._settings, "outputs": names, **details}
        self._by_input[identity["path"]] = line
        _append(self._path, line)

    def _name(self, path: Path) -> str:
        relative = path.relative_to(self._path.parent)
        return os.fsencode(relative).decode("utf-8", "backslashreplace")


class WindowJournal:
    """The finished windows of one file.

    Args:
        path: Where the journal lies.
        key: What the windows depend on; a journal of anything else is thrown away.
    """

    def __init__(self, path: Path, key: Mapping[str, Any]) -> None:
        self._path = path
        self._key = json.loads(json.dumps(key))
        self._windows: dict[int, list[LabelSpan]] = {}
        lines = read_json_lines(path)
        if lines and lines[0] == {"key": self._key}:
            for line in lines[1:]:
                with contextlib.suppress(KeyError, TypeError):
                    spans = [LabelSpan(*span) for span in line["spans"]]
                    self._windows[int(line["window"])] = spans
        else:
            path.unlink(missing_ok=True)

    def get(self, index: int) -> list[LabelSpan] | None:
        """Returns the labels of a window that was recognised before a kill; once."""
        return self._windows.pop(index, None)

    def add(self, index: int, spans: Sequence[LabelSpan]) -> None:
        """Keeps the labels of a window."""
        if not self._path.exists():
            _append(self._path, {"key": self._key})
        values = [
            [span.label, span.begin_frame, span.end_frame, span.probability] for span in spans
        ]
        _append(self._path, {"window": index, "spans": values})

    def remove(self) -> None:
        """Throws the journal away: the file is finished."""
        self._path.unlink(missing_ok=True)


def place_journal(directory: Path, identity: Mapping[str, Any]) -> Path:
    """Returns where the journal of a file lies."""
    name = hashlib.sha256(str(identity["path"]).encode()).hexdigest()[:16]
    return directory / f".{name}.windows.jsonl"


def _append(path: Path, line: Mapping[str, Any]) -> None:
    """Appends a line; a line that a kill cut off before it ends there."""
    data = json.dumps(line, ensure_ascii=True).encode() + b"\n"
    with path.open("ab") as file:
        if file.tell() and not _ends_with_newline(path):
            data = b"\n" + data
        file.write(data)


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
