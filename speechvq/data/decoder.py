"""Decoding in a process of its own, so that a codec that crashes or hangs costs one file.

`Decoder` keeps one such process (`speechvq.data.decoder_process`) for many files, and starts
another after a death. What a decoder leaves in good order the next one of this process takes over,
as starting one costs a third of a second. A local worker and a worker of a Dask cluster use it
alike.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from speechvq.data.audio import Waveform, from_pcm
from speechvq.data.audio_errors import (
    AudioError,
    DecoderCrashedError,
    DecoderHungError,
    NonFiniteAudioError,
    TooLongAudioError,
    TruncatedAudioError,
)
from speechvq.data.decoder_process import FRAME
from speechvq.data.recording import Recording
from speechvq.data.storage import is_remote
from speechvq.data.stores import check_store
from speechvq.errors import StoreError

_SECONDS_A_MEGABYTE = 20.0
"""CPU time allowed a megabyte: an hour of the densest Opus (6 kbit/s, 2.7 MB) needs eight
seconds."""
_HUNG = (-signal.SIGALRM, -signal.SIGPROF)
_idle: list[subprocess.Popen[bytes]] = []
"""Processes that wait for their next decoder; each belongs to one at a time."""


@dataclass(frozen=True, slots=True)
class DecodedRecording:
    """A decoded file.

    Attributes:
        samples: 16 kHz mono; to be closed.
        sample_rate: Samples per second in the file.
        num_channels: Channels in the file.
    """

    samples: Recording
    sample_rate: int
    num_channels: int


@dataclass(frozen=True, slots=True)
class DecodedStream:
    """A file that is being decoded.

    Attributes:
        blocks: float32 (S,) each, 16 kHz mono.
        declared_seconds: Length according to the header, if it says.
    """

    blocks: Iterator[Waveform]
    declared_seconds: float | None


class Decoder:
    """Decodes files one after the other; a context manager.

    Args:
        directory: For the temporary files of long recordings.
        timeout_seconds: CPU seconds that any file may take; 20 more for every megabyte.
    """

    def __init__(self, directory: Path, *, timeout_seconds: float = 60.0) -> None:
        self._directory = directory
        self._timeout_seconds = timeout_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._is_answering = False

    def decode(
        self, root: str, path: str, *, num_bytes: int, max_seconds: float
    ) -> DecodedRecording:
        """Decodes a file.

        Args:
            root: The input directory, archive or URL.
            path: The file, relative to it; perhaps a member of an archive.
            num_bytes: Its size, which decides how long it may take.
            max_seconds: A longer recording is refused.

        Raises:
            AudioError: What is wrong with the file; `DecoderCrashedError` or `DecoderHungError` if
                the decoder did not survive it.
            StoreError: If the store of the file does not answer.
        """
        limit = self._timeout_seconds + _SECONDS_A_MEGABYTE * num_bytes / 1e6
        request = {"root": root, "path": path, "max_seconds": max_seconds, "limit_seconds": limit}
        samples = Recording(self._directory)
        info: dict[str, Any] = {}
        try:
            for kind, data in self._ask(request):
                if kind == b"P":
                    samples.append(data)
                elif kind == b"I":
                    info = json.loads(data)
                else:
                    _check(json.loads(data))
        except EOFError:
            samples.close()
            error = self._bury(limit)
            if isinstance(error, DecoderHungError) and is_remote(root):
                check_store(root)
            raise error from None
        except BaseException:
            samples.close()
            raise
        return DecodedRecording(samples, info["sample_rate"], info["num_channels"])

    @contextlib.contextmanager
    def stream(self, path: Path, *, max_seconds: float) -> Iterator[DecodedStream]:
        """Decodes a file while it is read, in memory and disk that do not grow with its length.

        Args:
            path: A regular file of this machine.
            max_seconds: A longer recording is refused.

        Raises:
            AudioError: As `decode`, on opening or, what cannot be known before, amid the blocks.
        """
        limit = self._timeout_seconds + _SECONDS_A_MEGABYTE * path.stat().st_size / 1e6
        place = path.absolute()
        request = {"root": str(place.parent), "path": place.name, "max_seconds": max_seconds}
        frames = self._ask(request | {"limit_seconds": limit, "is_streamed": True})
        try:
            kind, data = next(frames)
            if kind == b"E":
                _check(json.loads(data))
            yield DecodedStream(_read_blocks(frames), json.loads(data).get("declared_seconds"))
        except EOFError:
            raise self._bury(limit) from None
        finally:
            if self._is_answering and self._process is not None:  # nobody wants the rest
                _end_process(self._process)
                self._process = None
                self._is_answering = False

    def close(self) -> None:
        """Leaves the process to the next decoder; one that is amid an answer ends."""
        if self._process is not None and self._is_answering:
            _end_process(self._process)
        elif self._process is not None:
            _idle.append(self._process)
        self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, request: dict[str, Any]) -> Iterator[tuple[bytes, bytes]]:
        """Yields the frames of an answer; `EOFError` if the process dies."""
        if self._process is None:
            self._process = _take_process()
        requests, answers = self._process.stdin, self._process.stdout
        if requests is None or answers is None:
            raise AssertionError("The decoder has no pipes.")
        self._is_answering = True
        try:
            requests.write(json.dumps(request).encode() + b"\n")
            requests.flush()
        except BrokenPipeError:
            raise EOFError from None
        while True:
            kind, length = FRAME.unpack(_read(answers, FRAME.size))
            data = _read(answers, length)
            self._is_answering = kind != b"E"
            yield kind, data
            if kind == b"E":
                return

    def _bury(self, limit: float) -> AudioError:
        """Returns what became of the process, and lets the next file start another."""
        code = None
        if self._process is not None:
            self._process.communicate()
            code = self._process.returncode
            self._process = None
        if code in _HUNG:
            return DecoderHungError("Decoding did not end in time.", limit)
        name = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        return DecoderCrashedError(f"The decoder died ({name}).")


def end_idle_processes() -> None:
    """Ends the processes that wait for their next decoder."""
    while _idle:
        _end_process(_idle.pop())


def _end_process(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def _take_process() -> subprocess.Popen[bytes]:
    """Returns a process that waits and still lives, or a new one."""
    with contextlib.suppress(IndexError):  # threads of a Dask worker may take the last one
        while True:
            process = _idle.pop()
            if process.poll() is None:
                return process
            process.communicate()
    return _start_process()


def _start_process() -> subprocess.Popen[bytes]:
    # The child finds this package as its parent did, also from a checkout that is not installed.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "speechvq.data.decoder_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )


def _read_blocks(frames: Iterator[tuple[bytes, bytes]]) -> Iterator[Waveform]:
    for kind, data in frames:
        if kind == b"P":
            yield from_pcm(np.frombuffer(data, dtype="<i2"))
        else:
            _check(json.loads(data))


def _read(answers: IO[bytes], num_bytes: int) -> bytes:
    data = answers.read(num_bytes)
    if len(data) < num_bytes:
        raise EOFError
    return data


def _check(end: dict[str, Any]) -> None:
    """Raises what the end of an answer reports."""
    match end["error"]:
        case "":
            return
        case "truncated":
            raise TruncatedAudioError(end["message"], end["num_samples"], end["declared_seconds"])
        case "too_long":
            raise TooLongAudioError(end["message"], end["num_samples"])
        case "non_finite":
            raise NonFiniteAudioError(end["num_samples"], end["num_bad"])
        case "store":
            raise StoreError(end["message"])
        case _:
            raise AudioError(end["message"])


atexit.register(end_idle_processes)
os.register_at_fork(after_in_child=_idle.clear)
