"""Transcribes many files of any length with one recogniser: `speechvq transcribe`.

Files are decoded one after the other in a process of their own, cut into windows while they are
decoded, recognised in batches of like length, and written when their last window is there. Memory
holds some windows, whatever the length and number of files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from speechvq.data.audio import Waveform
from speechvq.data.audio_errors import AudioError, TruncatedAudioError
from speechvq.data.decoder import DecodedStream, Decoder
from speechvq.data.records import SAMPLE_RATE
from speechvq.decoding.forced_alignment import LabelSpan
from speechvq.deploy.log_probs import choose_best, score_languages
from speechvq.deploy.recognizer import Recognizer
from speechvq.deploy.transcript_files import FileTranscript
from speechvq.deploy.transcription_ledger import WindowJournal
from speechvq.deploy.windows import OVERLAP_SECONDS, Window, WindowMerger, cut_windows
from speechvq.deploy.words import Word

MAX_SECONDS = 7 * 24 * 3600.0
"""A longer recording is refused: a few bytes can promise years of silence."""
_POOL_BATCHES = 8


@dataclass
class FileRun:
    """One file on its way through the recogniser.

    Attributes:
        path: The file.
        language: The head to use; None while it is not chosen.
        journal: Keeps its windows; None where nothing is kept.
        seconds: What is recognised of it.
        declared_seconds: Its length according to its header, if it says.
        words: What is recognised of it.
        language_scores: Of the heads, where the language was chosen.
        problem: Why it failed; "" while it has not.
    """

    path: Path
    language: str | None
    journal: WindowJournal | None = None
    seconds: float = 0.0
    declared_seconds: float | None = None
    words: list[Word] = field(default_factory=list)
    language_scores: dict[str, float] = field(default_factory=dict)
    problem: str = ""
    merger: WindowMerger | None = None
    next_index: int = 0
    waiting: dict[int, tuple[Window, list[LabelSpan]]] = field(default_factory=dict)

    def to_transcript(self) -> FileTranscript:
        """Returns what was recognised, once the last window is there."""
        return FileTranscript(
            path=self.path,
            language=self.language or "",
            seconds=self.seconds,
            words=self.words,
            language_scores=self.language_scores,
        )


class Transcriber:
    """Takes files through a recogniser.

    Args:
        recognizer: The recogniser.
        batch_seconds: Audio in a batch; 0 for windows one by one, which on a CPU is as fast.
        keeps_truncated: Whether a file that ends before its header says is transcribed as far as
            it goes, instead of being reported as broken.
        on_window: Told of every window that is done.
        on_end: Told of every file that is done, or has a problem.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        *,
        batch_seconds: float,
        keeps_truncated: bool,
        on_window: Callable[[FileRun, float], None],
        on_end: Callable[[FileRun], None],
    ) -> None:
        self._recognizer = recognizer
        self._batch_seconds = batch_seconds
        self._keeps_truncated = keeps_truncated
        self._on_window, self._on_end = on_window, on_end
        self._pool: list[tuple[FileRun, Window]] = []

    def transcribe(self, runs: Sequence[FileRun]) -> None:
        """Transcribes files; what becomes of each is told to `on_end`."""
        with Decoder(Path(gettempdir())) as decoder:
            for run in runs:
                try:
                    with decoder.stream(run.path, max_seconds=MAX_SECONDS) as stream:
                        self._read(run, stream)
                except (AudioError, OSError) as error:
                    self._fail(run, str(error))
            self._recognize_pool()

    def _read(self, run: FileRun, stream: DecodedStream) -> None:
        run.declared_seconds = stream.declared_seconds
        blocks = self._forgive_truncation(stream.blocks)
        is_empty = True
        for window in cut_windows(blocks, self._recognizer.max_seconds, OVERLAP_SECONDS):
            is_empty = False
            self._take(run, window)
        if is_empty:
            self._on_end(run)

    def _forgive_truncation(self, blocks: Iterator[Waveform]) -> Iterator[Waveform]:
        with suppress(*((TruncatedAudioError,) if self._keeps_truncated else ())):
            yield from blocks

    def _take(self, run: FileRun, window: Window) -> None:
        """Recognises a window, now or with others of its length."""
        if run.language is None:
            self._choose_language(run, window)
        if run.language is None:
            self._finish_window(run, window, [])
            return
        if run.merger is None:
            run.merger = self._recognizer.create_merger(run.language)
        kept = None if run.journal is None else run.journal.get(window.index)
        if kept is not None:
            self._finish_window(run, window, kept)
            return
        self._pool.append((run, window))
        num_samples = sum(len(other.samples) for _, other in self._pool)
        if num_samples >= _POOL_BATCHES * self._batch_seconds * SAMPLE_RATE:
            self._recognize_pool()

    def _choose_language(self, run: FileRun, window: Window) -> None:
        if len(self._recognizer.languages) == 1:
            run.language = self._recognizer.languages[0]
            return
        scores = score_languages(self._recognizer.model, [window.samples])
        run.language = choose_best(scores)
        if run.language is not None:
            run.language_scores = scores

    def _recognize_pool(self) -> None:
        """Recognises what waits, the longest first; a batch is of one language."""
        pool, self._pool = self._pool, []
        wanted = [(run, window) for run, window in pool if not run.problem]
        wanted.sort(key=lambda one: (one[0].language or "", -len(one[1].samples)))
        batch: list[tuple[FileRun, Window]] = []
        for run, window in wanted:
            if batch and (
                batch[0][0].language != run.language
                or len(batch[0][1].samples) * (len(batch) + 1) > self._batch_seconds * SAMPLE_RATE
            ):
                self._recognize_batch(batch)
                batch = []
            batch.append((run, window))
        if batch:
            self._recognize_batch(batch)

    def _recognize_batch(self, batch: Sequence[tuple[FileRun, Window]]) -> None:
        language = batch[0][0].language
        if language is None:
            raise AssertionError("A window waits only where its language is known.")
        rows = self._recognizer.recognize_labels([window.samples for _, window in batch], language)
        for (run, window), spans in zip(batch, rows, strict=True):
            if run.journal is not None and not (window.index == 0 and window.is_last):
                run.journal.add(window.index, spans)
            self._finish_window(run, window, spans)

    def _finish_window(self, run: FileRun, window: Window, spans: list[LabelSpan]) -> None:
        """Merges windows in their order; the last one ends the file."""
        run.waiting[window.index] = (window, spans)
        while run.next_index in run.waiting:
            first, labels = run.waiting.pop(run.next_index)
            run.next_index += 1
            if run.merger is not None:
                run.words += run.merger.add(
                    first.begin_seconds, first.end_seconds, first.is_last, labels
                )
            advance = first.end_seconds - run.seconds
            run.seconds = first.end_seconds
            self._on_window(run, advance)
            if first.is_last:
                self._on_end(run)

    def _fail(self, run: FileRun, problem: str) -> None:
        run.problem = problem
        run.waiting.clear()
        run.words.clear()
        self._on_end(run)


def describe_settings(recognizer: Recognizer, digest: str, language: str | None) -> dict[str, Any]:
    """Returns what transcripts depend on, apart from the audio."""
    return {
        "model": digest,
        "language": language or "auto",
        "window_seconds": recognizer.max_seconds,
        "overlap_seconds": OVERLAP_SECONDS,
        "decoders": {
            name: {key: value for key, value in decoder.describe().items() if key != "lm"}
            for name, decoder in sorted(recognizer.decoders.items())
        },
    }
