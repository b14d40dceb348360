"""Measures deciding at scale, and writes `docs/results/15-prepare-scale.json`.

    python docs/measure_prepare_scale.py --work DIRECTORY --machine 'what it ran on'

A million segments are made up, as tables on the disk like those that measuring leaves (transcribed
clips of 200,000 speakers in eight languages, a tenth of them with a split). Then, each in a process
of its own, as `decide_only=true` and `plan=true` are: the tables are read, splits assigned,
duplicates found, limits applied, each language's own letters found and the part files planned; and
a plan is made for the same million rows as a manifest would give them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from measuring import NO_MACHINE, create_parser, read_memory, run_part, write_result

from speechvq.data.config import DecideConfig, PrepareConfig
from speechvq.data.decide import decide
from speechvq.data.manifest import ManifestRow
from speechvq.data.own_letters import find_own_letters
from speechvq.data.prepare_plan import Plan, describe_plan
from speechvq.data.segment_columns import load_segments
from speechvq.data.segment_table import (
    SEGMENT_SCHEMA,
    list_pieces,
    segments_file,
    write_segments,
)
from speechvq.data.work import divide_rows
from speechvq.data.writing import plan_part_files

COMMAND = "python docs/measure_prepare_scale.py --work work --machine '…'"
NUM_PIECES = 500
LANGUAGES = [f"{code}_Deva" for code in ("hin", "mar", "nep", "san", "bho", "mai", "kok", "doi")]


def create_tables(output: Path, num_rows: int) -> None:
    """Writes the tables of a made-up corpus."""
    rng = np.random.default_rng(1)
    size = num_rows // NUM_PIECES
    for piece in range(NUM_PIECES):
        numbers = np.arange(piece * size, (piece + 1) * size)
        columns: dict[str, Any] = {
            "path": [f"audio/{number // 100:05d}/clip-{number:07d}.opus" for number in numbers],
            "source": ["crawl"] * size,
            "language": [LANGUAGES[piece % len(LANGUAGES)]] * size,
            "recording": [
                f"audio/{number // 100:05d}/clip-{number:07d}.opus" for number in numbers
            ],
            "speaker": [f"s{number // 5:06d}" for number in numbers],
            "split": [None if number % 10 else "train" for number in numbers],
            "text": ["नमस्ते दुनिया"] * size,
            "text_digest": rng.integers(0, 1 << 40, size),
            "num_letters": rng.integers(5, 60, size),
            "begin": np.zeros(size, np.int64),
            "num_samples": rng.integers(8_000, 320_000, size),
            "is_whole": np.ones(size, np.bool_),
            "is_first": np.ones(size, np.bool_),
            "audio_row": np.arange(size),
            "digest": create_bytes(rng, size),
            "fingerprint": create_bytes(rng, size),
            "flags": [[] if number % 100 else ["foreign_script"] for number in numbers],
            "snr_db": rng.normal(25, 10, size),
            "variation_db": rng.normal(12, 2, size),
            "tone_share": rng.uniform(0, 0.3, size),
            "zero_share": rng.uniform(0, 0.1, size),
            "dropout_share": np.zeros(size),
            "clipped_share": np.zeros(size),
            "dc_offset": np.zeros(size),
            "speech_ratio": rng.uniform(0.4, 1, size),
        }
        arrays = [
            pa.array(columns[field.name], field.type)
            if field.name in columns
            else pa.nulls(size, field.type)
            for field in SEGMENT_SCHEMA
        ]
        path = segments_file(output, piece)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_segments(path, pa.Table.from_arrays(arrays, schema=SEGMENT_SCHEMA))


def create_bytes(rng: np.random.Generator, count: int) -> list[bytes]:
    """Returns so many times 16 random bytes."""
    data = rng.bytes(16 * count)
    return [data[16 * i : 16 * (i + 1)] for i in range(count)]


def create_rows(num_rows: int) -> list[ManifestRow]:
    """Returns what a manifest of as many files gives."""
    return [
        ManifestRow(
            root="/data/crawl",
            path=(path := f"audio/{number // 100:05d}/clip-{number:07d}.opus"),
            source="crawl",
            language=LANGUAGES[number % len(LANGUAGES)],
            split=None,
            speaker=f"s{number // 5:06d}",
            recording=path,
            transcript=None,
            licence=None,
            seconds=5.0 + number % 15,
            num_bytes=20_000,
        )
        for number in range(num_rows)
    ]


def measure_deciding(work: Path, num_rows: int) -> dict[str, float]:
    """Returns the seconds of each step from the tables to the part files."""
    config = PrepareConfig(
        output=str(work), dev_share=0.01, test_share=0.01, decide=DecideConfig(min_snr_db=10.0)
    )
    steps: dict[str, float] = {}
    with timed(steps, "read the tables"):
        segments = load_segments(work)
    with timed(steps, "splits, duplicates, limits"):
        decisions = decide(segments, config)
    with timed(steps, "letters of each language's own"):
        own_letters = find_own_letters(work, segments)
    with timed(steps, "plan the part files"):
        files = plan_part_files(segments, decisions, 3600.0, own_letters)
    assert len(segments) == num_rows
    assert sum(len(piece.rows) for file in files for piece in file.pieces) == int(
        decisions.is_accepted.sum()
    )
    return steps


def measure_planning(work: Path, num_rows: int) -> dict[str, float]:
    """Returns the seconds of a plan, once the manifest is read."""
    rows = create_rows(num_rows)
    config = PrepareConfig(output=str(work / "none"), dev_share=0.01, test_share=0.01)
    steps: dict[str, float] = {}
    with timed(steps, "plan of the manifest, with splits"):
        lengths = [row.seconds or 0.0 for row in rows]
        parts = divide_rows(rows, lengths, 0.0)
        describe_plan(Plan(parts=parts, rows=rows, lengths=lengths, rejections=[]), config)
    return steps


STAGES: dict[str, Callable[[Path, int], dict[str, float]]] = {
    "decide": measure_deciding,
    "plan": measure_planning,
}


@contextmanager
def timed(steps: dict[str, float], name: str) -> Iterator[None]:
    """Notes the CPU seconds of what it wraps."""
    begin = time.process_time()
    yield
    steps[name] = time.process_time() - begin


def run_stage(stage: str, options: argparse.Namespace) -> tuple[dict[str, float], float, float]:
    """Returns the steps of a stage run in a process of its own, its wall seconds and highest MB."""
    begin = time.monotonic()
    found = run_part(
        __file__, "--stage", stage, "--work", str(options.work), "--rows", str(options.rows)
    )
    return found["steps"], time.monotonic() - begin, found["megabytes"]


def measure(options: argparse.Namespace) -> None:
    """Runs the stages and writes what they took."""
    rows, total_seconds, highest = [], 0.0, 0.0
    for stage in STAGES:
        steps, seconds, megabytes = run_stage(stage, options)
        rows += [[name, f"{value:.1f} CPU s"] for name, value in steps.items()]
        rows.append([f"process of `{stage}`", f"{seconds:.1f} s wall, {megabytes:.0f} MB"])
        total_seconds, highest = total_seconds + seconds, max(highest, megabytes)
    figure = f"{total_seconds:.0f} s in all, at most {highest:.0f} MB"
    write_result(
        "15-prepare-scale.json",
        title=f"Deciding about {options.rows:,} segments, splits and plan",
        machine=options.machine,
        command=COMMAND,
        columns=["what", "taken"],
        rows=[*rows, ["both", figure]],
        notes=[
            "One process for each of the two commands, starting it and making up the rows of the "
            "manifest included in its wall time; asked for were 60 s and 1 GB."
        ],
        headline=[{"what": f"Deciding about {options.rows:,} segments", "figure": figure}],
    )
    print(json.dumps(rows, ensure_ascii=False, indent=2))


def main() -> None:
    """Makes the tables, measures, writes the results."""
    parser = create_parser(__doc__, "work", needs_machine=False)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--stage", choices=list(STAGES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        steps = STAGES[options.stage](options.work, options.rows)
        print(json.dumps({"steps": steps, "megabytes": read_memory("VmHWM") / 1000}))
    elif not options.machine:
        parser.error(NO_MACHINE)
    else:
        if not list_pieces(options.work):
            create_tables(options.work, options.rows)
        measure(options)


if __name__ == "__main__":
    main()
