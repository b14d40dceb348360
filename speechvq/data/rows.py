"""Random access to the rows of an indexed corpus, with the latest row groups kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from speechvq.data.audio import decode_flac
from speechvq.data.audio_errors import AudioError
from speechvq.data.index import CorpusIndex
from speechvq.errors import DataError


class RowReader:
    """Reads the audio of utterances; safe to use from several threads.

    Args:
        index: The utterances.
        capacity: Row groups to keep; at least the window of the order, so that each is read once.
    """

    def __init__(self, index: CorpusIndex, capacity: int) -> None:
        self._index = index
        self._capacity = max(1, capacity)
        self._tables: OrderedDict[tuple[int, int], pa.Table] = OrderedDict()
        self._lock = Lock()

    def read_waveform(self, position: int) -> np.ndarray:
        """Decode the audio of one utterance.

        Args:
            position: Position in the index.

        Returns:
            Samples (S,), float32 at 16 kHz.

        Raises:
            DataError: The audio is damaged, or shorter or longer than the corpus says.
        """
        place = (
            f"{self._index.files[int(self._index.file[position])]}: utterance "
            f"`{self._index.ids[position]}`"
        )
        try:
            waveform = decode_flac(self.read_flac(position))
        except AudioError as error:
            raise DataError(f"{place}: {error} Prepare the corpus again.") from error
        expected = int(self._index.num_samples[position])
        if len(waveform) != expected:
            raise DataError(
                f"{place} must have {expected} samples, but has {len(waveform)}; the corpus is "
                "damaged, prepare it again."
            )
        return waveform

    def read_flac(self, position: int) -> bytes:
        """Return the audio of one utterance as it lies in the corpus, a whole FLAC file."""
        audio = self._load(position)["audio"][int(self._index.row[position])]
        return bytes(audio.as_buffer().to_pybytes())

    def _load(self, position: int) -> pa.Table:
        key = (int(self._index.file[position]), int(self._index.row_group[position]))
        with self._lock:
            table = self._tables.get(key)
            if table is not None:
                self._tables.move_to_end(key)
                return table
        path = self._index.files[key[0]]
        try:
            with pq.ParquetFile(path) as parquet:
                table = parquet.read_row_group(key[1], columns=["audio"])
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(
                f"{path}: row group {key[1]} cannot be read ({error}); the corpus is damaged or "
                "was removed, prepare it again."
            ) from error
        with self._lock:
            self._tables[key] = table
            while len(self._tables) > self._capacity:
                self._tables.popitem(last=False)
        return table
