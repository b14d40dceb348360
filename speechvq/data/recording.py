"""A decoded recording as 16 bit samples: in memory, or on the disk if it is long.

Ten hours are 1.15 GB; what follows (speech detection, cutting, measuring) reads stretches of it, so
that memory stays flat whatever the length.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from speechvq.data.audio import Waveform, from_pcm
from speechvq.data.records import SAMPLE_RATE

_MAX_BYTES_IN_MEMORY = 1200 * SAMPLE_RATE * 2
_BYTES_A_SAMPLE = 2


class RecordingPart:
    """A stretch of a recording that is read like a recording of its own.

    Args:
        recording: The whole, which must stay open.
        begin: In samples.
        end: In samples.
    """

    def __init__(self, recording: Recording, begin: int, end: int) -> None:
        self._recording, self.begin, self._end = recording, begin, end

    def __len__(self) -> int:
        return self._end - self.begin

    def __getitem__(self, key: slice) -> Waveform:
        """Returns a stretch as float32 (S,); the slice has no step."""
        begin, end, _ = key.indices(len(self))
        return self._recording[self.begin + begin : self.begin + max(begin, end)]


class Recording:
    """Samples at 16 kHz that can be sliced; `close` frees them.

    Args:
        directory: Where the temporary file of a recording of more than 20 minutes lies, which has
            no name and so leaves nothing behind; 115 MB an hour.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._data = bytearray()
        self._file: BinaryIO | None = None
        self._num_bytes = 0

    def append(self, pcm: bytes) -> None:
        """Appends samples, int16 little-endian."""
        self._num_bytes += len(pcm)
        if self._file is None:
            self._data += pcm
            if len(self._data) > _MAX_BYTES_IN_MEMORY:
                self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115
                self._file.write(self._data)
                self._data = bytearray()
        else:
            self._file.write(pcm)

    def close(self) -> None:
        """Frees the memory or the file."""
        self._data = bytearray()
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return self._num_bytes // _BYTES_A_SAMPLE

    def __getitem__(self, key: slice) -> Waveform:
        """Returns a stretch as float32 (S,); the slice has no step."""
        begin, end, _ = key.indices(len(self))
        first, last = begin * _BYTES_A_SAMPLE, max(begin, end) * _BYTES_A_SAMPLE
        if self._file is None:
            data = bytes(memoryview(self._data)[first:last])
        else:
            self._file.flush()
            data = os.pread(self._file.fileno(), last - first, first)
        return from_pcm(np.frombuffer(data, dtype="<i2"))
