"""Measures deciding at scale, and writes `docs/results/15-prepare-scale.json`.

    python docs/measure_prepare_scale.py --work DIRECTORY --machine 'what it ran on'

A million segments are made up, as tables on the disk like those that measuring leaves (transcribed
clips of 200,000 speakers in 20 languages, a tenth of them without a split). Then, in one process:
the tables are read, splits assigned, duplicates found and limits applied; the part files are
planned; and a plan is made for the same million rows as a manifest would give them. The memory is
the process's highest.
"""

from __future__ import annotations

import argparse
import datetime
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from speechvq.data.config import DecideConfig, PrepareConfig
from speechvq.data.decide import decide
from speechvq.data.manifest import ManifestRow
from speechvq.data.prepare_plan import Plan, describe_plan
from speechvq.data.segment_columns import load_segments
from speechvq.data.segment_table import SEGMENT_SCHEMA, segments_file, write_segments
from speechvq.data.work import divide_rows
from speechvq.data.writing import plan_part_files

RESULT = Path(__file__).resolve().parent / "results" / "15-prepare-scale.json"
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
            "flags": [[]] * size,
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


def measure(work: Path, num_rows: int) -> dict[str, Any]:
    """Returns seconds by step and the highest memory in MB."""
    steps: dict[str, float] = {}
    cpu = time.process_time()
    config = PrepareConfig(
        output=str(work), dev_share=0.01, test_share=0.01, decide=DecideConfig(min_snr_db=10.0)
    )
    begin = time.monotonic()
    segments = load_segments(work)
    steps["read the tables"] = time.monotonic() - begin
    begin = time.monotonic()
    decisions = decide(segments, config)
    steps["splits, duplicates, limits"] = time.monotonic() - begin
    begin = time.monotonic()
    files = plan_part_files(segments, decisions, 3600.0)
    steps["plan the part files"] = time.monotonic() - begin
    counts = {
        "num_accepted": int(decisions.is_accepted.sum()),
        "num_part_files": len(files),
        "splits": dict(zip(decisions.splits, np.bincount(decisions.split).tolist(), strict=True)),
    }
    del segments, decisions, files
    rows = create_rows(num_rows)
    begin = time.monotonic()
    lengths = [row.seconds or 0.0 for row in rows]
    plan = Plan(parts=divide_rows(rows, lengths, 0.0), rows=rows, lengths=lengths, rejections=[])
    config.output = str(work / "none")
    text = describe_plan(plan, config)
    steps["plan of the manifest, with splits"] = time.monotonic() - begin
    return {
        "num_rows": num_rows,
        "seconds": {name: round(value, 2) for name, value in steps.items()},
        "total_seconds": round(sum(steps.values()), 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "max_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        **counts,
        "plan": text.splitlines()[-6:],
    }


def main() -> None:
    """Makes the tables, measures, writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--machine", required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--measure-only", action="store_true", help="the tables are there already")
    options = parser.parse_args()
    if not options.measure_only:
        create_tables(options.work, options.rows)
    result = measure(options.work, options.rows)
    about = {
        "command": COMMAND,
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "machine": options.machine,
    }
    RESULT.write_text(json.dumps({**about, **result}, ensure_ascii=False, indent=2) + "\n")
    print(json.dumps(result, ensure_ascii=False, indent=2))


if __name__ == "__main__":
    main()
