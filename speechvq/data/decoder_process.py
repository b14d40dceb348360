"""The process that decodes files for a worker: a crash or a hang of a codec ends this process only.

Started by `speechvq.data.decoder` as `python -m speechvq.data.decoder_process`. Requests come as
lines of JSON on the standard input; answers go to the standard output as frames: a letter, a length
(4 bytes), and so many bytes. `I` says what the file is, `P` holds samples (int16, 16 kHz), `E` ends
the file, with what is wrong with it. The kernel's timers end the process if a file takes too long,
also when a decoder never comes back to Python.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import sys
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np

from speechvq.data.audio import open_audio, to_pcm
from speechvq.data.audio_errors import TooLongAudioError, TruncatedAudioError
from speechvq.errors import DataError, StoreError

FRAME = struct.Struct("<cI")
WALL_FACTOR = 10
"""A file may take so many times its CPU seconds by the clock: a disk may be slow, a machine full"""
_MAX_MEMORY_BYTES = 4 << 30
"""Address space; a header that asks for more gets no memory instead of the machine's last."""


def main() -> None:
    """Answers requests until the standard input ends."""
    _limit_memory()
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)  # libraries that print must not speak into the answers
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, request["limit_seconds"])
        # Whoever reads an answer as a stream may take any time between two frames of it.
        wall = 0.0 if request.get("is_streamed") else WALL_FACTOR * request["limit_seconds"]
        signal.setitimer(signal.ITIMER_REAL, wall)
        _answer(request, answers)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(request: dict[str, Any], answers: BinaryIO) -> None:
    num_samples = num_bad = 0
    end: dict[str, Any]
    try:
        root, path = request["root"], request["path"]
        source = _find_source(root, path)
        suffix = PurePosixPath(path).suffix.lower()
        with open_audio(source, max_seconds=request["max_seconds"], suffix=suffix) as stream:
            info: dict[str, Any] = {
                "sample_rate": stream.sample_rate,
                "num_channels": stream.num_channels,
            }
            info["declared_seconds"] = stream.declared_seconds
            _send(answers, b"I", json.dumps(info).encode())
            for block in stream.blocks:
                num_samples += len(block)
                finite = np.isfinite(block)
                if not finite.all():
                    num_bad += int((~finite).sum())
                    block = np.where(finite, block, np.float32(0))
                _send(answers, b"P", to_pcm(block).tobytes())
        end = {"error": "non_finite" if num_bad else "", "num_samples": num_samples}
        end["num_bad"] = num_bad
    except TruncatedAudioError as error:
        end = {"error": "truncated", "message": str(error), "num_samples": error.num_samples}
        end["declared_seconds"] = error.declared_seconds
    except TooLongAudioError as error:
        end = {"error": "too_long", "message": str(error), "num_samples": error.num_samples}
    except StoreError as error:
        end = {"error": "store", "message": str(error)}
    except (DataError, OSError, ValueError, MemoryError, RuntimeError) as error:
        end = {"error": "unreadable", "message": str(error) or type(error).__name__}
    _send(answers, b"E", json.dumps(end).encode())


def _find_source(root: str, path: str) -> Path | bytes:
    if "!/" not in path and "://" not in root:
        return Path(root) / path
    # Imported where it is needed: most input lies in directories, and this process starts often.
    from speechvq.data.archive_listing import VETTED_LIMITS
    from speechvq.data.archives import read_source_bytes

    return read_source_bytes(root, path, VETTED_LIMITS)


def _send(answers: BinaryIO, kind: bytes, data: bytes) -> None:
    for view in (FRAME.pack(kind, len(data)), data):
        rest = memoryview(view)
        while len(rest):
            rest = rest[answers.write(rest) :]


def _limit_memory() -> None:
    import resource

    with contextlib.suppress(ValueError, OSError):  # macOS knows no such limit
        resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))


if __name__ == "__main__":
    main()
