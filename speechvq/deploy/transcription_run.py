"""One run of `speechvq transcribe`: what is left to do, doing it, and what came of it."""

from __future__ import annotations

import contextlib
import errno
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from speechvq.deploy.progress import FilesProgress
from speechvq.deploy.recognizer import Recognizer
from speechvq.deploy.transcribing import FileRun, Transcriber, describe_settings
from speechvq.deploy.transcript_files import SUFFIXES, write_transcript
from speechvq.deploy.transcription_inputs import Input, list_inputs, show_path
from speechvq.deploy.transcription_ledger import Ledger, WindowJournal, identify, place_journal
from speechvq.errors import ConfigError, InterruptedRunError, NoSpaceError
from speechvq.models.digest import compute_model_digest

_GPU_BATCH_SECONDS = 240.0


@dataclass(kw_only=True)
class TranscribeOptions:
    """What `speechvq transcribe` is asked for.

    Attributes:
        files: Files and folders.
        model: Model directory of a recogniser.
        output_dir: Where transcripts go; None prints texts.
        formats: Of `speechvq.deploy.transcript_files.SUFFIXES`.
        language: The head to use; None for the one that is surest of each file.
        lms: Language models, each for its own language.
        batch_seconds: Audio in a batch; None for 0 on a CPU and 240 on a GPU.
        device: `cpu`, `cuda`, …, or `auto`.
        overwrite: Whether files that stand in the way are replaced, and done ones done again.
        keep_truncated: Whether a file that ends before its header says is transcribed as far as
            it goes.
    """

    files: list[str]
    model: str
    output_dir: str | None = None
    formats: tuple[str, ...] = ("txt",)
    language: str | None = None
    lms: tuple[str, ...] = ()
    batch_seconds: float | None = None
    device: str = "auto"
    overwrite: bool = False
    keep_truncated: bool = False


@dataclass
class Outcome:
    """What came of a run.

    Attributes:
        num_done: Files that were transcribed.
        num_skipped: Files that had been before.
        seconds: Audio that was recognised.
        failures: Path and problem of each file that could not be transcribed.
    """

    num_done: int = 0
    num_skipped: int = 0
    seconds: float = 0.0
    failures: list[tuple[Path, str]] = field(default_factory=list)


def transcribe_files(options: TranscribeOptions) -> Outcome:
    """Transcribes files; a file that cannot be read costs itself only.

    Raises:
        ConfigError: If the options cannot work, or files would be overwritten.
        ModelError: If there is no such recogniser, it has no head for the language, or a language
            model does not fit it.
        InterruptedRunError: If SIGINT or SIGTERM ended it; finished work is kept.
    """
    _check(options)
    inputs = list_inputs(options.files)
    recognizer = Recognizer.load(options.model, device=options.device, lm=options.lms)
    if options.language is not None:
        recognizer.check_language(options.language)
    settings = describe_settings(recognizer, compute_model_digest(options.model), options.language)
    return _Run(options, recognizer, settings).run(inputs)


def _check(options: TranscribeOptions) -> None:
    problems = [
        f"`--output-format` must be among {', '.join(SUFFIXES)}, all, but is {name!r}."
        for name in options.formats
        if name not in SUFFIXES
    ]
    if options.output_dir is None and options.formats != ("txt",):
        problems.append("`--output-dir` must be given where `--output-format` is not txt.")
    if options.batch_seconds is not None and not 0 <= options.batch_seconds < float("inf"):
        problems.append(f"`--batch-seconds` must be 0 or more, but is {options.batch_seconds}.")
    if options.output_dir is not None and Path(options.output_dir).is_file():
        problems.append(f"`--output-dir` must be a directory, but {options.output_dir} is a file.")
    if problems:
        raise ConfigError(problems)


class _Run:
    """The work of one call."""

    def __init__(
        self, options: TranscribeOptions, recognizer: Recognizer, settings: dict[str, Any]
    ) -> None:
        self._options, self._recognizer, self._settings = options, recognizer, settings
        self._directory = None if options.output_dir is None else Path(options.output_dir)
        self._ledger = None if self._directory is None else Ledger(self._directory, settings)
        self._outcome = Outcome()
        self._by_path: dict[Path, tuple[Input, dict[str, Any]]] = {}
        self._progress: FilesProgress | None = None
        self._is_new_directory = False

    def run(self, inputs: Sequence[Input]) -> Outcome:
        runs = self._plan(inputs)
        sizes = {path: identity["size"] for path, (_, identity) in self._by_path.items()}
        self._progress = FilesProgress("transcribe", sizes)
        batch_seconds = self._options.batch_seconds
        if batch_seconds is None:
            batch_seconds = 0.0 if self._recognizer.device.type == "cpu" else _GPU_BATCH_SECONDS
        transcriber = Transcriber(
            self._recognizer,
            batch_seconds=batch_seconds,
            keeps_truncated=self._options.keep_truncated,
            on_window=self._note_window,
            on_end=self._end,
        )
        try:
            with _stop_on_signals(self._directory):
                transcriber.transcribe(runs)
        finally:
            self._progress.close()
            if self._is_new_directory and self._directory is not None:
                with contextlib.suppress(OSError):  # it holds something
                    self._directory.rmdir()
        return self._outcome

    def _plan(self, inputs: Sequence[Input]) -> list[FileRun]:
        """Returns what is to be done; nothing is written before all of it may be."""
        runs: list[FileRun] = []
        problems: list[str] = []
        for one in inputs:
            if one.problem:
                self._outcome.failures.append((one.path, one.problem))
                continue
            identity = identify(one.path)
            if self._is_done(one, identity, problems):
                self._outcome.num_skipped += 1
                continue
            self._by_path[one.path] = (one, identity)
            runs.append(FileRun(one.path, self._options.language))
        if problems:
            raise ConfigError(problems)
        if self._directory is not None:
            self._is_new_directory = not self._directory.exists()
            self._directory.mkdir(parents=True, exist_ok=True)
            for run in runs:
                _, identity = self._by_path[run.path]
                place = place_journal(self._directory, identity)
                run.journal = WindowJournal(place, {**identity, **self._settings})
        return runs

    def _is_done(self, one: Input, identity: dict[str, Any], problems: list[str]) -> bool:
        if self._directory is None or self._ledger is None or self._options.overwrite:
            return False
        outputs = one.list_outputs(self._directory, self._options.formats)
        if self._ledger.is_done(identity, outputs):
            return True
        if self._ledger.has_other_settings(identity):
            problems.append(
                f"{show_path(one.path)} was transcribed in {self._directory} with another model or "
                "language: choose another `--output-dir`, or `--overwrite`."
            )
        problems += [
            f"{show_path(path)} stands where a transcript of {show_path(one.path)} would, and was "
            "not written by `speechvq transcribe`: choose another `--output-dir`, or `--overwrite`."
            for path in outputs
            if path.exists() and not self._ledger.owns(path)
        ]
        return False

    def _note_window(self, run: FileRun, seconds: float) -> None:
        if self._progress is not None:
            self._progress.advance(run.path, seconds, run.declared_seconds)

    def _end(self, run: FileRun) -> None:
        one, identity = self._by_path[run.path]
        if run.problem:
            self._outcome.failures.append((run.path, run.problem))
        else:
            self._write(run, one, identity)
            self._outcome.num_done += 1
            self._outcome.seconds += run.seconds
        if run.journal is not None:
            run.journal.remove()
        run.words.clear()
        if self._progress is not None:
            self._progress.end_file(run.path)

    def _write(self, run: FileRun, one: Input, identity: dict[str, Any]) -> None:
        transcript = run.to_transcript()
        if self._directory is None or self._ledger is None:
            prefix = f"{show_path(run.path)}\t" if len(self._by_path) > 1 else ""
            print(f"{prefix}{transcript.text}", flush=True)
            return
        outputs = one.list_outputs(self._directory, self._options.formats)
        try:
            outputs[0].parent.mkdir(parents=True, exist_ok=True)
            self._ledger.begin(outputs)
            for path, name in zip(outputs, self._options.formats, strict=True):
                write_transcript(transcript, path, name)
            self._ledger.add(
                identity, outputs, language=run.language, seconds=round(run.seconds, 3)
            )
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpaceError(
                    f"{self._directory} is full; make room and call again: what is done is kept."
                ) from None
            raise


@contextlib.contextmanager
def _stop_on_signals(directory: Path | None) -> Iterator[None]:
    """Turns SIGINT and SIGTERM into an error that says how to go on."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    kept = "" if directory is None else f" What is done is kept in {directory}."

    def stop(number: int, frame: FrameType | None) -> None:
        raise InterruptedRunError(number, f"Interrupted.{kept} The same command goes on.")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
