"""Data preparation as a whole, in three stages: measure, decide, write.

    rows of manifests -> pieces of work -> (any number of processes) measurements
                      -> limits, splits -> (any number of processes) part files, report, corpus.json

Audio is decoded once, in the first stage. The same command with other limits (`decide.*`, shares of
splits, the normaliser) redoes the last two alone. A run that was interrupted goes on where it was.
Call `prepare_corpus` under `if __name__ == "__main__":`, as it starts processes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from types import FrameType

from speechvq.data.claims import (
    adopt_config,
    begin_decision,
    check_versions,
    claim_output,
    is_complete,
    list_deciding_keys,
    lock_output,
)
from speechvq.data.clips import PieceResult, get_result_file, measure_part
from speechvq.data.config import FORGET_FILE, PrepareConfig, parse_shard
from speechvq.data.corpus import write_text_atomically
from speechvq.data.decide import decide
from speechvq.data.execution import limit_threads, run_parts
from speechvq.data.loading import STATE_DIRECTORY, get_progress_file
from speechvq.data.manifest import ManifestRow
from speechvq.data.own_letters import find_own_letters
from speechvq.data.prepare_output import complete_corpus
from speechvq.data.prepare_plan import (
    Plan,
    check_space,
    describe_decision,
    describe_plan,
    plan_preparation,
)
from speechvq.data.progress import PrepareProgress, format_time
from speechvq.data.publish import check_target, publish_corpus
from speechvq.data.segment_columns import load_segments
from speechvq.data.segment_table import (
    DIRECTORY,
    MEASURED_FILE,
    audio_file,
    write_manifest_rejections,
)
from speechvq.data.transcripts import check_text_dependencies
from speechvq.data.work import Part, choose_part_seconds
from speechvq.data.writing import PartFile, WrittenPart, plan_part_files, write_part_file
from speechvq.errors import ConfigError, InterruptedRunError, MissingDependencyError

_MEDIA_SUFFIXES = (".webm", ".mkv", ".mka", ".m4a", ".mp4", ".aac", ".3gp", ".amr", ".wma", ".g722")
_MAX_SECONDS_IN_PROCESS = 50_000.0
"""Up to so much audio (0.8 GB) is written by this process: starting others takes longer."""


def prepare_corpus(config: PrepareConfig) -> Path:
    """Prepares a corpus, or says what preparing it would take (`plan=true`).

    Args:
        config: Where from, where to, and how. Without `input` the output is decided again.

    Returns:
        The output directory. With `plan` and `decide_only` nothing is written; with `shard` the
        corpus is complete when all shards are done.

    Raises:
        ConfigError: If the configuration cannot work, or the output holds something else.
        DataError: If a manifest cannot be used.
        StoreError: If a store does not answer; the same command goes on.
        NoSpaceError: If the disk is or will be full.
        InterruptedRunError: If a signal came; the same command goes on.
    """
    problems = config.validate()
    if problems:
        raise ConfigError(problems)
    check_text_dependencies(config.normalizer, config.digits)
    output = Path(config.output)
    if config.publish and not (config.plan or config.decide_only):
        check_target(config.publish)
    if (output / FORGET_FILE).exists():
        raise ConfigError(
            [f"A deletion in {output} was interrupted; finish it: `speechvq forget corpus=…`."]
        )
    if config.decide_only:
        print(describe_decision(output, adopt_config(config)))
        return output
    if not config.input:
        config = adopt_config(config)
        if not (output / DIRECTORY / MEASURED_FILE).exists():
            raise ConfigError([f"`input` must be set: {output} has not been measured to the end."])
        return _finish(config)
    plan = plan_preparation(config)
    if config.plan:
        print(describe_plan(plan, config))
        return output
    claim_output(output, config, plan.rows, plan.rejections)
    if not (output / DIRECTORY / MEASURED_FILE).exists():
        _check_dependencies(plan.rows, config)
        check_space(plan, config)
        with _stop_on_signals(output):
            if not _measure(plan, config):
                return output
    return _finish(config)


def _measure(plan: Plan, config: PrepareConfig) -> bool:
    """Measures the pieces of this shard that are not done yet.

    Returns:
        Whether all pieces of all shards are done.
    """
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
        audio_file(output, part.index).unlink(missing_ok=True)
    seconds = {part.index: part.estimated_seconds for part in todo}
    results = run_parts(
        todo,
        functools.partial(_measure_part, config),
        workers=config.workers,
        dask_scheduler=config.dask_scheduler,
        find_crashed=functools.partial(_find_crashed, output),
    )
    with contextlib.closing(results), PrepareProgress(sum(seconds.values())) as progress:
        for result in results:
            progress.advance(seconds[result.index])
    with lock_output(output):
        if (output / DIRECTORY / MEASURED_FILE).exists():  # another shard was quicker
            return True
        num_left = sum(not get_result_file(output, part.index).exists() for part in plan.parts)
        if num_left:
            print(
                f"Shard {config.shard} is done; {num_left} pieces of work are left to other shards."
            )
            return False
        write_manifest_rejections(output, plan.rejections)
        note = {"num_pieces": len(plan.parts), "has_audio": True}
        write_text_atomically(output / DIRECTORY / MEASURED_FILE, json.dumps(note) + "\n")
    return True


def _finish(config: PrepareConfig) -> Path:
    """Decides and writes, unless that is done."""
    output = Path(config.output)
    begin = time.monotonic()
    with _stop_on_signals(output), lock_output(output):
        if is_complete(output, config):
            print(
                f"{output} is complete already: the same input, prepared with the same"
                " configuration."
            )
        else:
            _check_audio(output, config)
            _decide_and_write(config)
            elapsed = format_time(time.monotonic() - begin)
            print(f"Decided and written in {elapsed}: {output / 'report.html'}")
        if not config.keep_measurements:
            _drop_audio(output)
        if config.publish:
            done = publish_corpus(output, config.publish)
            print(
                f"Published at {config.publish}: {done.num_copied} files copied,"
                f" {done.num_removed} removed, {done.num_kept} were there."
            )
    return output


def _decide_and_write(config: PrepareConfig) -> None:
    output = Path(config.output)
    segments = load_segments(output)
    decisions = decide(segments, config)
    seconds = choose_part_seconds(float(segments.seconds.sum()), config.part_minutes)
    files = plan_part_files(segments, decisions, seconds, find_own_letters(output, segments))
    _begin_writing(output, config)
    todo = [file for file in files if not file.get_path(output).exists()]
    if sum(file.seconds for file in todo) <= _MAX_SECONDS_IN_PROCESS:
        for file in todo:
            write_part_file(file, output, config.normalizer, config.digits)
    else:
        _write_in_processes(todo, config)
    complete_corpus(output, config, segments, decisions)


def _write_in_processes(files: Sequence[PartFile], config: PrepareConfig) -> None:
    results = run_parts(
        files,
        functools.partial(_write_part, config),
        workers=config.workers,
        dask_scheduler=config.dask_scheduler,
        find_crashed=_find_none,
    )
    with contextlib.closing(results):
        for _ in results:
            pass


def _begin_writing(output: Path, config: PrepareConfig) -> None:
    """Removes the part files of another decision; those of this one were written whole."""
    mark = output / STATE_DIRECTORY / "writing"
    text = json.dumps(list_deciding_keys(config), sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    if mark.exists() and mark.read_text() == digest:
        return
    begin_decision(output, config)
    for directory in output.glob("split=*"):
        shutil.rmtree(directory)
    mark.parent.mkdir(exist_ok=True)
    write_text_atomically(mark, digest)


def _check_audio(output: Path, config: PrepareConfig) -> None:
    note = json.loads((output / DIRECTORY / MEASURED_FILE).read_text())
    if not note["has_audio"]:
        raise ConfigError(
            [
                f"{output} was decided with other limits, and the audio of its candidates was not"
                " kept (`keep_measurements=false`); `decide_only=true` still works, for a corpus"
                " choose another `output`."
            ]
        )


def _drop_audio(output: Path) -> None:
    note_file = output / DIRECTORY / MEASURED_FILE
    note = json.loads(note_file.read_text())
    if note["has_audio"]:
        write_text_atomically(note_file, json.dumps({**note, "has_audio": False}) + "\n")
    for path in (output / DIRECTORY).glob("audio-*.parquet"):
        path.unlink()


def _measure_part(config: PrepareConfig, part: Part, crashed: frozenset[int]) -> PieceResult:
    # A worker of a cluster is neither set up by us nor sure to have the same packages.
    if config.dask_scheduler:
        check_versions(Path(config.output), config)
        limit_threads()
    return measure_part(part, config, crashed)


def _write_part(config: PrepareConfig, file: PartFile, crashed: frozenset[int]) -> WrittenPart:
    return write_part_file(file, Path(config.output), config.normalizer, config.digits)


def _find_crashed(output: Path, part: Part) -> int | None:
    try:
        return int(get_progress_file(output, part.index).read_text())
    except (OSError, ValueError):
        return None


def _find_none(file: PartFile) -> int | None:
    return None


def _check_dependencies(rows: list[ManifestRow], config: PrepareConfig) -> None:
    """Says what is missing at once, not after an hour."""
    detector = {"silero": "silero_vad", "webrtc": "webrtcvad"}[config.segment.vad]
    for package, purpose in ((detector, "find speech"), ("pyloudnorm", "measure loudness")):
        if importlib.util.find_spec(package) is None:
            raise MissingDependencyError(package, "prep", f"{purpose} in recordings")
    if importlib.util.find_spec("av") is None:
        for row in rows:
            if PurePosixPath(row.path).suffix.lower() in _MEDIA_SUFFIXES:
                raise MissingDependencyError("av", "media", f"read {row.path} and files like it")


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
