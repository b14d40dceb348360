"""Data preparation as a whole: manifests in; a corpus, its bookkeeping and a report out.

    rows of manifests -> splits -> pieces of work -> (any number of processes) part files ->
    corpus.json, summary, report

A run that was interrupted goes on where it was: finished pieces are kept under `.prepare/` in the
output until the corpus is complete. Call `prepare_corpus` under `if __name__ == "__main__":`, as it
starts processes.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import FrameType

from speechvq.data.clips import (
    get_part_file,
    get_progress_file,
    get_result_file,
    prepare_part,
)
from speechvq.data.config import PrepareConfig, parse_shard
from speechvq.data.execution import count_cores, run_parts
from speechvq.data.manifest import ManifestRow, read_manifests
from speechvq.data.numbers import expand_numbers
from speechvq.data.prepare_output import claim_output, complete_corpus
from speechvq.data.progress import PrepareProgress, format_time
from speechvq.data.records import Rejection
from speechvq.data.splits import assign_splits
from speechvq.data.tally import PartResult
from speechvq.data.text import get_normalizer
from speechvq.data.work import Part, divide_rows, estimate_seconds
from speechvq.errors import ConfigError, InterruptedRunError, MissingDependencyError, NoSpaceError

FLAC_BYTES_A_SECOND = 17_000
"""16 kHz mono speech as FLAC takes 45 to 71 MB an hour; this is 61."""
_SPEED_A_CORE = 100.0
"""Times real time, one core, measured on five sources; for plans only."""
_MEDIA_SUFFIXES = (".webm", ".mkv", ".mka", ".m4a", ".mp4", ".aac", ".3gp", ".amr", ".wma", ".g722")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a preparation will do.

    Attributes:
        parts: Pieces of work.
        rows: All usable rows, with splits.
        rejections: Rows that are rejected before any audio is read.
        seconds: Length of the audio, estimated.
    """

    parts: list[Part]
    rows: list[ManifestRow]
    rejections: list[Rejection]
    seconds: float

    @property
    def num_bytes(self) -> int:
        """Size of the corpus, estimated."""
        return int(self.seconds * FLAC_BYTES_A_SECOND)


def prepare_corpus(config: PrepareConfig) -> Path:
    """Prepares a corpus, or says what preparing it would take (`plan=true`).

    Args:
        config: Where from, where to, and how.

    Returns:
        The output directory. With `plan` nothing is written; with `shard` the corpus is complete
        when all shards are done.

    Raises:
        ConfigError: If the configuration cannot work, or the output holds something else.
        DataError: If a manifest cannot be used.
        NoSpaceError: If the disk is or will be full.
        InterruptedRunError: If a signal came; the same command goes on.
    """
    problems = config.validate()
    if problems:
        raise ConfigError(problems)
    plan = plan_preparation(config)
    output = Path(config.output)
    if config.plan:
        print(describe_plan(plan, config))
        return output
    if claim_output(output, config, plan.rows, plan.rejections):
        print(
            f"{output} is complete already: the same input, prepared with the same configuration."
        )
        return output
    _check_dependencies(plan.rows, config)
    _check_space(plan, output)
    with _stop_on_signals(output):
        begin = time.monotonic()
        _run(plan, config)
        num_left = sum(not get_result_file(output, part.index).exists() for part in plan.parts)
        if num_left:
            print(
                f"Shard {config.shard} is done; {num_left} pieces of work are left to other shards."
            )
            return output
        results = [_read_result(output, part) for part in plan.parts]
        complete_corpus(output, config, plan.rows, plan.parts, results, plan.rejections)
        elapsed = time.monotonic() - begin
    print(f"Prepared in {format_time(elapsed)}: {output / 'report.html'}")
    return output


def plan_preparation(config: PrepareConfig) -> Plan:
    """Reads the manifests and divides the work; reads no audio, writes nothing."""
    rows, rejections = read_manifests(config.input, format=config.format, language=config.language)
    seconds = estimate_seconds(rows)
    rows = assign_splits(
        rows, seconds, dev_share=config.dev_share, test_share=config.test_share, seed=config.seed
    )
    parts = divide_rows(rows, seconds, config.part_minutes)
    return Plan(parts=parts, rows=rows, rejections=rejections, seconds=sum(seconds))


def describe_plan(plan: Plan, config: PrepareConfig) -> str:
    """Returns the plan as text: hours and files by language, disk, time."""
    workers = config.workers or count_cores()
    lines = ["language     split      files     hours (estimated)"]
    groups: dict[tuple[str, str], tuple[int, float]] = {}
    for part in plan.parts:
        files, seconds = groups.get((part.language, part.split), (0, 0.0))
        groups[part.language, part.split] = files + len(part.rows), seconds + part.estimated_seconds
    lines += [
        f"{language:12} {split:8} {files:7,} {seconds / 3600:9.2f}"
        for (language, split), (files, seconds) in sorted(groups.items())
    ]
    free = shutil.disk_usage(_find_existing(Path(config.output))).free
    lines += [
        f"{'all':12} {'':8} {len(plan.rows):7,} {plan.seconds / 3600:9.2f}",
        f"rejected already: {len(plan.rejections):,} rows of the manifests",
        f"pieces of work:   {len(plan.parts):,}",
        f"disk:             about {plan.num_bytes / 1e9:.2f} GB of {free / 1e9:.1f} GB free",
        (
            f"time:             about {format_time(plan.seconds / _SPEED_A_CORE / workers)} with"
            f" {workers} workers"
        ),
        "Nothing was written (plan=true).",
    ]
    return "\n".join(lines)


def _run(plan: Plan, config: PrepareConfig) -> None:
    """Runs the pieces of this shard that are not done yet."""
    output = Path(config.output)
    number, num_shards = parse_shard(config.shard) or (0, 1)
    mine = [part for part in plan.parts if part.index % num_shards == number]
    todo = [part for part in mine if not get_result_file(output, part.index).exists()]
    if len(todo) < len(mine):
        print(
            f"{len(mine) - len(todo)} of {len(mine)} pieces of work are done already.",
            file=sys.stderr,
        )
    for part in todo:
        get_progress_file(output, part.index).unlink(missing_ok=True)
        get_part_file(output, part).unlink(missing_ok=True)
    seconds = {part.index: part.estimated_seconds for part in todo}
    results = run_parts(
        todo,
        functools.partial(_prepare, config),
        workers=config.workers,
        dask_scheduler=config.dask_scheduler,
        find_crashed=functools.partial(_find_crashed, output),
    )
    with contextlib.closing(results), PrepareProgress(sum(seconds.values())) as progress:
        for result in results:
            progress.advance(seconds[result.index])


def _prepare(config: PrepareConfig, part: Part, crashed: frozenset[int]) -> PartResult:
    return prepare_part(part, config, crashed)


def _find_crashed(output: Path, part: Part) -> int | None:
    try:
        return int(get_progress_file(output, part.index).read_text())
    except (OSError, ValueError):
        return None


def _read_result(output: Path, part: Part) -> PartResult:
    text = get_result_file(output, part.index).read_text(encoding="utf-8")
    return PartResult.from_json(json.loads(text))


def _check_dependencies(rows: list[ManifestRow], config: PrepareConfig) -> None:
    """Says what is missing at once, not after an hour."""
    for row in rows:
        if row.transcript is not None:
            get_normalizer(config.normalizer)("क", "hin_Deva")
            if config.digits == "expand":
                expand_numbers("7", "hin_Deva")
            break
    if importlib.util.find_spec("silero_vad") is None:
        raise MissingDependencyError("silero_vad", "prep", "find speech in recordings")
    if importlib.util.find_spec("av") is None:
        for row in rows:
            if PurePosixPath(row.path).suffix.lower() in _MEDIA_SUFFIXES:
                raise MissingDependencyError("av", "media", f"read {row.path} and files like it")


def _check_space(plan: Plan, output: Path) -> None:
    done = sum(file.stat().st_size for file in output.glob("split=*/*/part-*.parquet"))
    needed, free = plan.num_bytes - done, shutil.disk_usage(_find_existing(output)).free
    if needed > free:
        raise NoSpaceError(
            f"{output} needs about {needed / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free. "
            "Free some space, or choose another `output`."
        )


def _find_existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


@contextlib.contextmanager
def _stop_on_signals(output: Path) -> Iterator[None]:
    """Turns SIGINT and SIGTERM into an error that says how to go on."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise InterruptedRunError(
            number,
            f"Interrupted. What is done is kept in {output}: the same command goes on, or remove"
            " the directory.",
        )

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
