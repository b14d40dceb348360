"""What stands beside the part files of a corpus: the rejected, the summary, the report, and last
`corpus.json`, which says that the corpus is complete.
"""

from __future__ import annotations

import contextlib
import csv
import json
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from speechvq.data.claims import (
    list_deciding_keys,
    list_measuring_keys,
    read_measuring_versions,
)
from speechvq.data.config import PrepareConfig
from speechvq.data.corpus import write_corpus_info, write_text_atomically
from speechvq.data.decide import REASONS, Decisions
from speechvq.data.loading import STATE_DIRECTORY
from speechvq.data.records import SAMPLE_RATE
from speechvq.data.segment_columns import SegmentColumns
from speechvq.data.segment_table import read_segments
from speechvq.data.splits import find_speaker_overlaps
from speechvq.data.tally import (
    BANDWIDTH_EDGES,
    DURATION_EDGES,
    RATE_EDGES,
    SNR_EDGES,
    count_bins,
    count_by,
    count_reasons,
    count_rejected,
    to_hours,
)
from speechvq.data.text import get_normalizer
from speechvq.data.vocabulary import (
    VOCABULARY_FILE,
    count_corpus_characters,
    format_vocabulary,
)

_DECODERS = ("soundfile", "av", "soxr", "silero-vad", "webrtcvad-wheels", "pyloudnorm", "torch")
_VERSIONED = (*_DECODERS, "numpy", "pyarrow")

REJECTED_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string()),
        pa.field("source", pa.string()),
        pa.field("language", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("threshold", pa.float64()),
        pa.field("start_seconds", pa.float64()),
        pa.field("seconds", pa.float64()),
        pa.field("detail", pa.string()),
    ]
)


def complete_corpus(
    output: Path, config: PrepareConfig, segments: SegmentColumns, decisions: Decisions
) -> None:
    """Writes the bookkeeping, the report, and last `corpus.json`; safe to repeat."""
    write_bookkeeping(output, config, segments, decisions)
    write_corpus_info(output, normalizer=get_normalizer(config.normalizer).identifier)
    with contextlib.suppress(FileNotFoundError):  # another shard may be cleaning up too
        shutil.rmtree(output / STATE_DIRECTORY)


def write_bookkeeping(
    output: Path, config: PrepareConfig, segments: SegmentColumns, decisions: Decisions
) -> None:
    """Writes the rejected, the summary and the report."""
    # Imported here: matplotlib takes a second, and workers need none of it.
    from speechvq.data.prepare_report import write_report

    summary = summarize(output, config, segments, decisions)
    _write_rejections(output, segments, decisions)
    write_text_atomically(
        output / "summary.json", json.dumps(summary, ensure_ascii=False, indent=2) + "\n"
    )
    vocabulary = count_corpus_characters(output)
    write_text_atomically(output / VOCABULARY_FILE, format_vocabulary(vocabulary))
    write_report(output, summary, segments, decisions, vocabulary)


def summarize(
    output: Path, config: PrepareConfig, segments: SegmentColumns, decisions: Decisions
) -> dict[str, Any]:
    """Returns `summary.json`: hours in, accepted, rejected by reason, language and source;
    configuration; versions.
    """
    accepted = decisions.is_accepted
    numbers, codes, names = segments.numbers, segments.codes, segments.names
    snr = count_bins(numbers["snr_db"][accepted], SNR_EDGES)
    durations = count_bins(segments.seconds[accepted], DURATION_EDGES)
    part_files = output.glob("split=*/*/part-*.parquet")
    return {
        "hours_in": to_hours(int(segments.num_samples.sum())),
        "hours_accepted": to_hours(int(segments.num_samples[accepted].sum())),
        "hours_rejected": to_hours(int(segments.num_samples[~accepted].sum())),
        "num_files": int(segments.is_first.sum()),
        "num_utterances": int(accepted.sum()),
        "num_bytes": sum(path.stat().st_size for path in part_files),
        "rejected_by_reason": count_reasons(segments, decisions),
        "by_language": count_by(names["language"], codes["language"], segments, decisions),
        "by_source": count_by(names["source"], codes["source"], segments, decisions),
        "by_split": count_by(decisions.splits, decisions.split, segments, decisions),
        "rejected_by_language": count_rejected(
            names["language"], codes["language"], segments, decisions
        ),
        "rejected_by_source": count_rejected(names["source"], codes["source"], segments, decisions),
        "flags": _count_flags(output),
        "durations": {"edges_seconds": durations.edges, "counts": durations.counts},
        "snr": {
            "edges_db": snr.edges,
            "counts": snr.counts,
            "num_undefined": snr.num_undefined,
        },
        "bandwidth": asdict(count_bins(numbers["bandwidth_hz"][accepted], BANDWIDTH_EDGES)),
        "speaking_rate": asdict(count_bins(numbers["letters_per_second"][accepted], RATE_EDGES)),
        "speaker_overlaps": _find_speaker_overlaps(segments, decisions),
        "text_overlaps": _count_shared_texts(decisions),
        "normalizer": get_normalizer(config.normalizer).identifier,
        "config": {**list_measuring_keys(config), **list_deciding_keys(config)},
        "versions": {**_find_versions(), **read_measuring_versions(output)},
    }


def _count_flags(output: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    for file in sorted(output.glob("split=*/*/part-*.parquet")):
        flags = pq.read_table(file, columns=["flags"], partitioning=None)["flags"]
        for item in pc.value_counts(pc.list_flatten(flags)).to_pylist():
            counts[item["values"]] = counts.get(item["values"], 0) + item["counts"]
    return dict(sorted(counts.items()))


def _find_speaker_overlaps(segments: SegmentColumns, decisions: Decisions) -> list[dict[str, Any]]:
    rows = decisions.is_accepted & (segments.codes["speaker"] >= 0)
    columns = [segments.codes["source"], segments.codes["speaker"], decisions.split]
    combinations = np.unique(np.stack([column[rows] for column in columns], axis=1), axis=0)
    overlaps = find_speaker_overlaps(
        (
            segments.names["source"][source],
            segments.names["speaker"][speaker],
            decisions.splits[split],
        )
        for source, speaker, split in combinations.tolist()
    )
    return [asdict(overlap) for overlap in overlaps]


def _count_shared_texts(decisions: Decisions) -> dict[str, int]:
    """Returns utterances whose transcript stands in another split, too, by split."""
    counts = np.bincount(
        decisions.split[decisions.shares_text], minlength=len(decisions.splits)
    ).tolist()
    return {name: n for name, n in zip(decisions.splits, counts, strict=True) if n}


def _write_rejections(output: Path, segments: SegmentColumns, decisions: Decisions) -> None:
    """Writes `rejected.parquet` and `rejected.tsv`, a piece of work at a time."""
    table_file, text_file = output / "rejected.parquet", output / "rejected.tsv"
    temporary = [path.with_name(path.name + ".tmp") for path in (table_file, text_file)]
    with (
        pq.ParquetWriter(temporary[0], REJECTED_SCHEMA, compression="ZSTD") as tables,
        temporary[1].open("w", encoding="utf-8", newline="") as text,
    ):
        writer = csv.writer(
            text, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n"
        )
        writer.writerow(REJECTED_SCHEMA.names)
        for piece, rows in _list_piece_rows(segments, ~decisions.is_accepted):
            table = _create_rejections(output, piece, rows, segments, decisions)
            tables.write_table(table)
            for cells in zip(*(column.to_pylist() for column in table.columns), strict=True):
                writer.writerow(
                    ["" if cell is None else " ".join(str(cell).split()) for cell in cells]
                )
    temporary[0].replace(table_file)
    temporary[1].replace(text_file)


def _create_rejections(
    output: Path, piece: int, rows: np.ndarray, segments: SegmentColumns, decisions: Decisions
) -> pa.Table:
    kept = ["path", "source", "language", "detail"]
    table = read_segments(output, piece, kept).take(pa.array(segments.row[rows]))
    details = table["detail"].to_pylist()
    for position, row in enumerate(rows.tolist()):
        details[position] = details[position] or _describe(row, segments, decisions)
    columns = {name: table[name] for name in kept[:3]}
    columns["reason"] = pa.array([str(REASONS[code]) for code in decisions.reason[rows].tolist()])
    columns["value"] = pa.array(decisions.value[rows], from_pandas=True)
    columns["threshold"] = pa.array(decisions.threshold[rows], from_pandas=True)
    columns["start_seconds"] = pa.array(np.round(segments.begin[rows] / SAMPLE_RATE, 4))
    columns["seconds"] = pa.array(np.round(segments.seconds[rows], 4))
    columns["detail"] = pa.array(details, pa.string())
    return pa.table([columns[name] for name in REJECTED_SCHEMA.names], schema=REJECTED_SCHEMA)


def _describe(row: int, segments: SegmentColumns, decisions: Decisions) -> str:
    """Says about a rejected candidate what neither reason, value nor limit say."""
    if decisions.other[row] >= 0:
        return f"The same sound as {segments.describe(int(decisions.other[row]))}."
    begin = segments.begin[row] / SAMPLE_RATE
    place = "" if segments.is_whole[row] else f"Segment at {begin:.3f} s."
    if np.isnan(decisions.value[row]) and not np.isnan(decisions.threshold[row]):
        return f"{place} The measure is undefined here.".strip()
    return place


def _list_piece_rows(
    segments: SegmentColumns, is_wanted: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the pieces of work with the wanted rows of each."""
    rows = np.flatnonzero(is_wanted)
    for group in np.split(rows, np.flatnonzero(np.diff(segments.piece[rows])) + 1):
        if len(group):
            yield int(segments.piece[group[0]]), group


def _find_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _VERSIONED:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions
