"""What stands beside the part files of a corpus: who owns the directory, the bookkeeping, the
report.

`prepare.json` says with which configuration and input the directory was begun, so that another
preparation is refused; `corpus.json`, written last, says that the corpus is complete.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import platform
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from speechvq.data.clips import STATE_DIRECTORY
from speechvq.data.config import PrepareConfig
from speechvq.data.corpus import CORPUS_FILE, write_corpus_info, write_text_atomically
from speechvq.data.manifest import ManifestRow
from speechvq.data.records import Rejection
from speechvq.data.splits import SpeakerOverlap, find_speaker_overlaps
from speechvq.data.storage import is_remote
from speechvq.data.tally import DURATION_EDGES, SNR_EDGES, PartResult, Totals, add_up, to_hours
from speechvq.data.text import get_normalizer
from speechvq.data.vocabulary import (
    VOCABULARY_FILE,
    count_corpus_characters,
    format_vocabulary,
)
from speechvq.data.work import Part
from speechvq.errors import ConfigError

PREPARE_FILE = "prepare.json"
_WITHOUT_EFFECT = ("output", "workers", "plan", "shard", "dask_scheduler")
"""Keys that change how the work is done, not what comes out."""
_DECODERS = ("soundfile", "av", "soxr", "silero-vad", "torch", "numpy", "pyarrow")

REJECTED_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string()),
        pa.field("source", pa.string()),
        pa.field("language", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("threshold", pa.float64()),
        pa.field("seconds", pa.float64()),
        pa.field("detail", pa.string()),
    ]
)


def claim_output(
    output: Path,
    config: PrepareConfig,
    rows: Sequence[ManifestRow],
    rejections: Sequence[Rejection],
) -> bool:
    """Takes possession of the output directory, or finds that it is ours.

    Returns:
        Whether the corpus is complete already.

    Raises:
        ConfigError: If the directory holds something else; the message names the keys that differ.
    """
    claim: dict[str, Any] = {
        "config": _keep_effective(config),
        "input": _hash_input(rows, rejections),
    }
    file = output / PREPARE_FILE
    if not file.exists():
        if output.exists() and any(output.iterdir()):
            raise ConfigError(
                [f"`output` must be a new or empty directory, but {output} holds other files."]
            )
        output.mkdir(parents=True, exist_ok=True)
        write_text_atomically(file, json.dumps(claim, ensure_ascii=False, indent=2) + "\n")
        return False
    try:
        owner = json.loads(file.read_text(encoding="utf-8"))
        before = owner["config"]
    except (ValueError, KeyError, TypeError):
        raise ConfigError([f"{file} is damaged; remove {output} and prepare again."]) from None
    problems = [
        f"`{key}` is {claim['config'].get(key)!r}, but {output} was prepared with"
        f" {before.get(key)!r}; choose another `output`, or remove the directory."
        for key in sorted({*claim["config"], *before})
        if claim["config"].get(key) != before.get(key)
    ]
    if not problems and owner.get("input") != claim["input"]:
        problems = [
            f"The files or manifests of `input` changed since {output} was begun; choose another"
            " `output`, or remove the directory."
        ]
    if problems:
        raise ConfigError(problems)
    return (output / CORPUS_FILE).exists()


def complete_corpus(
    output: Path,
    config: PrepareConfig,
    rows: Sequence[ManifestRow],
    parts: Sequence[Part],
    results: Sequence[PartResult],
    early: Sequence[Rejection],
) -> None:
    """Writes the bookkeeping, the report, and last `corpus.json`; safe to repeat."""
    # Imported here: matplotlib takes a second, and workers need none of it.
    from speechvq.data.prepare_report import write_report

    pairs = zip(parts, results, strict=True)
    totals = add_up(((part.language, part.split, result) for part, result in pairs), early)
    overlaps = find_speaker_overlaps(rows)
    summary = summarize(totals, config, overlaps)
    _write_rejections(output, totals.rejections)
    write_text_atomically(
        output / "summary.json", json.dumps(summary, ensure_ascii=False, indent=2) + "\n"
    )
    write_text_atomically(
        output / VOCABULARY_FILE, format_vocabulary(count_corpus_characters(output))
    )
    write_report(output, summary, totals.rejections)
    write_corpus_info(output, normalizer=get_normalizer(config.normalizer).identifier)
    with contextlib.suppress(FileNotFoundError):  # another shard may be cleaning up too
        shutil.rmtree(output / STATE_DIRECTORY)


def summarize(
    totals: Totals, config: PrepareConfig, overlaps: Sequence[SpeakerOverlap]
) -> dict[str, Any]:
    """Returns `summary.json`: hours in, accepted, rejected by reason, language and source;
    configuration; versions.
    """
    samples_in = sum(tally.samples_in for tally in totals.tallies.values())
    accepted = sum(tally.samples_accepted for tally in totals.tallies.values())
    rejected = sum(row.num_samples for row in totals.rejections)
    if samples_in != accepted + rejected:
        raise AssertionError(
            f"Samples were lost: {samples_in} in, {accepted} accepted, {rejected} rejected."
        )
    return {
        "hours_in": to_hours(samples_in),
        "hours_accepted": to_hours(accepted),
        "hours_rejected": to_hours(rejected),
        "num_files": sum(tally.num_files for tally in totals.tallies.values()),
        "num_utterances": sum(tally.num_utterances for tally in totals.tallies.values()),
        "num_bytes": totals.num_bytes,
        "rejected_by_reason": _group_rejections(totals.rejections, "reason"),
        "by_language": _group_tallies(totals, 1),
        "by_source": _group_tallies(totals, 0),
        "by_split": _group_tallies(totals, 2),
        "rejected_by_language": _group_rejections(totals.rejections, "language"),
        "rejected_by_source": _group_rejections(totals.rejections, "source"),
        "flags": totals.flags,
        "durations": {"edges_seconds": DURATION_EDGES, "counts": totals.durations},
        "snr": {
            "edges_db": SNR_EDGES,
            "counts": totals.snrs,
            "num_undefined": totals.num_without_snr,
        },
        "speaker_overlaps": [asdict(overlap) for overlap in overlaps],
        "normalizer": get_normalizer(config.normalizer).identifier,
        "config": _keep_effective(config),
        "versions": _find_versions(),
    }


def _group_tallies(totals: Totals, position: int) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[int]] = defaultdict(lambda: [0] * 5)
    for key, tally in totals.tallies.items():
        values = (
            tally.num_files,
            tally.num_utterances,
            tally.samples_in,
            tally.samples_accepted,
            tally.samples_transcribed,
        )
        groups[key[position]] = [a + b for a, b in zip(groups[key[position]], values, strict=True)]
    return {
        name or "none": {
            "num_files": values[0],
            "num_utterances": values[1],
            "hours_in": to_hours(values[2]),
            "hours_accepted": to_hours(values[3]),
            "hours_transcribed": to_hours(values[4]),
        }
        for name, values in sorted(groups.items())
    }


def _group_rejections(rejections: Sequence[Rejection], attribute: str) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row in rejections:
        group = groups[str(getattr(row, attribute))]
        group[0] += 1
        group[1] += row.num_samples
    return {
        name or "none": {"count": count, "hours": to_hours(num_samples)}
        for name, (count, num_samples) in sorted(groups.items())
    }


def _write_rejections(output: Path, rejections: Sequence[Rejection]) -> None:
    rows = [{name: getattr(row, name) for name in REJECTED_SCHEMA.names} for row in rejections]
    for row in rows:
        row["reason"] = str(row["reason"])
        row["seconds"] = round(row["seconds"], 4)
    temporary = output / "rejected.parquet.tmp"
    pq.write_table(pa.Table.from_pylist(rows, schema=REJECTED_SCHEMA), temporary)
    temporary.replace(output / "rejected.parquet")
    text = io.StringIO()
    writer = csv.writer(
        text, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n"
    )
    writer.writerow(REJECTED_SCHEMA.names)
    for row in rows:
        writer.writerow(
            ["" if cell is None else " ".join(str(cell).split()) for cell in row.values()]
        )
    write_text_atomically(output / "rejected.tsv", text.getvalue())


def _keep_effective(config: PrepareConfig) -> dict[str, Any]:
    """Returns the configuration without what has no effect on the output; inputs by absolute
    path.
    """
    values = {key: value for key, value in asdict(config).items() if key not in _WITHOUT_EFFECT}
    values["input"] = [
        path if is_remote(path) else str(Path(path).resolve()) for path in config.input
    ]
    return values


def _hash_input(rows: Sequence[ManifestRow], rejections: Sequence[Rejection]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    records = [*map(asdict, rows), *map(asdict, rejections)]
    for record in records:
        digest.update(json.dumps(record, ensure_ascii=True).encode())
    return digest.hexdigest()


def _find_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _DECODERS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions
