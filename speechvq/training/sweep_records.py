"""What the runs of a sweep leave behind beside their directories: how each of them ended.

A sweep keeps `.sweep/<start>/<number>.json`; its table and `speechvq compare` read them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

RECORDS = ".sweep"
"""Where a sweep keeps its own files, one directory a start, beside the runs."""


class RunState(Enum):
    """How a run of a sweep ended."""

    finished = "finished"
    skipped = "already finished"
    failed = "failed"
    interrupted = "interrupted"


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """How one run of a sweep ended.

    Attributes:
        name: The values of the swept keys.
        output: Its directory.
        state: A value of `RunState`.
        exit_code: 0, or that of its error.
        message: The error, empty if there was none.
        seconds: How long it took.
    """

    name: str
    output: str
    state: str
    exit_code: int = 0
    message: str = ""
    seconds: float = 0.0


def write_record(directory: Path, number: int, record: RunRecord) -> None:
    """Write the record of one run, whole or not at all.

    Args:
        directory: Of this start of the sweep.
        number: The run's place in the sweep.
        record: How it ended.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{number:05d}.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_records(directory: Path) -> list[RunRecord]:
    """Return what the runs of one start have left, in the order of the runs."""
    return [
        RunRecord(**json.loads(path.read_text(encoding="utf-8")))
        for path in sorted(directory.glob("[0-9]*.json"))
    ]


def find_last_record(run: Path) -> RunRecord | None:
    """Return how a sweep last ended a run, or None if no sweep beside it knows the run."""
    for start in sorted((run.absolute().parent / RECORDS).glob("*"), reverse=True):
        for record in read_records(start):
            if Path(record.output).name == run.absolute().name:
                return record
    return None
