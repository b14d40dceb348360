"""What a preparation will take, said before it: hours, expected accepted, disk, time."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from speechvq.data.archive_listing import ArchiveLimits
from speechvq.data.config import ArchiveConfig, PrepareConfig
from speechvq.data.decide import decide
from speechvq.data.execution import count_cores
from speechvq.data.manifest import ManifestRow, read_manifests
from speechvq.data.progress import format_time
from speechvq.data.records import Rejection
from speechvq.data.segment_columns import load_segments
from speechvq.data.segment_table import list_pieces
from speechvq.data.splits import assign_splits
from speechvq.data.tally import count_by, count_reasons
from speechvq.data.work import Part, divide_rows, estimate_seconds
from speechvq.errors import NoSpaceError

FLAC_BYTES_A_SECOND = 17_000
"""16 kHz mono speech as FLAC takes 45 to 71 MB an hour; this is 61."""
_SPEED_A_CORE = 200.0
"""Times real time, one core, measured on five sources; for plans only."""
_ASSUMED_SHARE = {True: 0.99, False: 0.85}
"""Share of the hours that is accepted: of transcribed clips, and of recordings, whose pauses go."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a preparation will do.

    Attributes:
        parts: Pieces of work.
        rows: All usable rows.
        lengths: Length of each row in seconds, estimated.
        rejections: Rows that are rejected before any audio is read.
    """

    parts: list[Part]
    rows: list[ManifestRow]
    lengths: list[float]
    rejections: list[Rejection]

    @property
    def seconds(self) -> float:
        """Length of the audio, estimated."""
        return sum(self.lengths)


def plan_preparation(config: PrepareConfig) -> Plan:
    """Reads the manifests and divides the work; reads no audio, writes nothing."""
    rows, rejections = read_manifests(
        config.input,
        format=config.format,
        language=config.language,
        limits=_get_limits(config.archive),
    )
    lengths = estimate_seconds(rows)
    parts = divide_rows(rows, lengths, config.part_minutes)
    return Plan(parts=parts, rows=rows, lengths=lengths, rejections=rejections)


def _get_limits(config: ArchiveConfig) -> ArchiveLimits:
    return ArchiveLimits(
        max_members=config.max_members,
        max_member_bytes=round(1e9 * config.max_member_gb),
        max_total_bytes=round(1e9 * config.max_total_gb),
        max_ratio=config.max_ratio,
    )


def describe_plan(plan: Plan, config: PrepareConfig) -> str:
    """Returns the plan as text: hours and files by language, expected accepted, disk, time."""
    workers = config.workers or count_cores()
    splits = assign_splits(
        plan.rows,
        plan.lengths,
        dev_share=config.dev_share,
        test_share=config.test_share,
        seed=config.seed,
    )
    groups: dict[tuple[str, str], tuple[int, float]] = {}
    expected = 0.0
    for row, split, seconds in zip(plan.rows, splits, plan.lengths, strict=True):
        files, total = groups.get((row.language, split), (0, 0.0))
        groups[row.language, split] = files + 1, total + seconds
        expected += seconds * _ASSUMED_SHARE[row.transcript is not None]
    basis = "99 % of what has a transcript, 85 % of the rest"
    output = Path(config.output)
    if list_pieces(output):
        expected, basis = _expect_from_measurements(output, config, plan.seconds)
    free = find_free_bytes(output)
    needed = estimate_bytes(plan.seconds, expected)
    seconds = plan.seconds / _SPEED_A_CORE / workers
    lines = ["language     split      files     hours (estimated)"]
    lines += [
        f"{language:12} {split:8} {files:7,} {total / 3600:9.2f}"
        for (language, split), (files, total) in sorted(groups.items())
    ]
    lines += [
        f"{'all':12} {'':8} {len(plan.rows):7,} {plan.seconds / 3600:9.2f}",
        f"rejected already: {len(plan.rejections):,} rows of the manifests",
        f"expected:         {expected / 3600:.2f} h accepted ({basis})",
        f"pieces of work:   {len(plan.parts):,}",
        f"disk:             about {needed / 1e9:.2f} GB of {free / 1e9:.1f} GB free",
        f"time:             about {format_time(seconds)} with {workers} workers",
        "Nothing was written (plan=true).",
    ]
    return "\n".join(lines)


def describe_decision(output: Path, config: PrepareConfig) -> str:
    """Returns what the limits would accept of what was measured, by reason and source."""
    segments = load_segments(output)
    decisions = decide(segments, config)
    lines = ["source                    hours in   accepted   utterances"]
    names, codes = segments.names["source"], segments.codes["source"]
    by_source = count_by(names, codes, segments, decisions)
    lines += [
        f"{name:24} {row['hours_in']:9.3f}  {row['hours_accepted']:9.3f}"
        f"  {row['num_utterances']:11,}"
        for name, row in by_source.items()
    ]
    lines += ["", "reason                       hours        count"]
    lines += [
        f"{reason:24} {row['hours']:9.4f}  {row['count']:11,}"
        for reason, row in count_reasons(segments, decisions).items()
    ]
    return "\n".join([*lines, "", "Nothing was written (decide_only=true)."])


def estimate_bytes(seconds: float, expected_seconds: float) -> int:
    """Returns what the corpus and its measurements take on the disk; candidates lie there until the
    corpus is complete, kept or not.
    """
    return int((seconds + expected_seconds) * FLAC_BYTES_A_SECOND)


def check_space(plan: Plan, config: PrepareConfig) -> None:
    """Says that the disk is too small before an hour of work.

    Raises:
        NoSpaceError: If it is.
    """
    output = Path(config.output)
    files = [*output.glob("split=*/*/part-*.parquet"), *output.glob("measurements/*.parquet")]
    done = sum(file.stat().st_size for file in files)
    needed = estimate_bytes(plan.seconds, plan.seconds) - done
    free = find_free_bytes(output)
    if needed > free:
        raise NoSpaceError(
            f"{output} needs about {needed / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free. "
            "Free some space, or choose another `output`."
        )


def find_free_bytes(path: Path) -> int:
    """Returns the free space of the disk on which a path is, or will be."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def _expect_from_measurements(
    output: Path, config: PrepareConfig, seconds: float
) -> tuple[float, str]:
    segments = load_segments(output)
    accepted = float(segments.seconds[decide(segments, config).is_accepted].sum())
    measured = float(segments.seconds.sum())
    share = accepted / measured if measured else 0.0
    return share * seconds, f"{share:.1%} of the {measured / 3600:.2f} h measured so far"
