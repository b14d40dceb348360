"""One label with its times, and the error that says where a file of labels is bad."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from speechvq.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """What is said or who speaks, from when to when.

    Attributes:
        recording: The file or recording.
        tier: What kind of label: `phones`, `words`, `speakers`, or a tier's own name.
        text: The label.
        begin_seconds: Where it begins.
        end_seconds: Where it ends; a point in time where equal.
        channel: The channel, in the file's words.
        confidence: How sure a recogniser was, or None.
    """

    recording: str
    tier: str
    text: str
    begin_seconds: float
    end_seconds: float
    channel: str = "1"
    confidence: float | None = None


class LabelError(DataError):
    """A line of a file of labels is bad.

    Args:
        path: The file.
        line: Number of the line, from 1.
        problem: What is wrong.
    """

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}.")
