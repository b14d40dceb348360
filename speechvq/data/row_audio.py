"""The audio of one row of a manifest, wherever it lies: a file, a member of an archive, a row of a
table, a store, or a part of any of these.

Standing: between `speechvq.data.manifest`, which names the audio, and whoever decodes it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from speechvq.data.archive_listing import VETTED_LIMITS
from speechvq.data.archives import read_source_bytes, split_member_path
from speechvq.data.audio import DecodedAudio, load_audio
from speechvq.data.audio_errors import AudioError, TruncatedAudioError
from speechvq.data.manifest import ManifestRow
from speechvq.data.records import SAMPLE_RATE
from speechvq.data.storage import is_remote
from speechvq.errors import DataError

_TOLERANCE_SECONDS = 0.05
"""So much may a part reach beyond its file: tables round."""


def load_row_audio(row: ManifestRow, *, max_seconds: float = float("inf")) -> DecodedAudio:
    """Decodes the audio of a row to 16 kHz mono.

    Args:
        row: The row; of a row with `begin_seconds` or `end_seconds`, that part is returned.
        max_seconds: Stop with `TooLongAudioError` where the file is longer.

    Returns:
        The waveform at 16 kHz and what the file was.

    Raises:
        AudioError: If it cannot be read or decoded, is incomplete, too long, or ends before the
            part does.
    """
    audio = load_audio(find_row_source(row), max_seconds=max_seconds)
    return cut_row_audio(row, audio)


def find_row_source(row: ManifestRow) -> Path | bytes:
    """Returns what a decoder takes: the path of a file of this machine, else its contents.

    Raises:
        AudioError: If the contents cannot be read.
    """
    if split_member_path(row.path) is None and not is_remote(row.root):
        return Path(row.root) / row.path
    try:
        return read_source_bytes(row.root, row.path, VETTED_LIMITS)
    except (OSError, DataError) as error:
        raise AudioError(str(error)) from None


def cut_row_audio(row: ManifestRow, audio: DecodedAudio) -> DecodedAudio:
    """Returns the part of a decoded file that a row names; all of it where it names none.

    Raises:
        TruncatedAudioError: If the file ends before the part does.
    """
    if row.begin_seconds is None and row.end_seconds is None:
        return audio
    num_samples = len(audio.waveform)
    begin = round((row.begin_seconds or 0.0) * SAMPLE_RATE)
    end = num_samples if row.end_seconds is None else round(row.end_seconds * SAMPLE_RATE)
    if end > num_samples + _TOLERANCE_SECONDS * SAMPLE_RATE or begin >= num_samples:
        raise TruncatedAudioError(
            f"The part ends at {end / SAMPLE_RATE:.3f} s, but the file at"
            f" {num_samples / SAMPLE_RATE:.3f} s.",
            max(0, num_samples - begin),
            (end - begin) / SAMPLE_RATE,
        )
    return replace(audio, waveform=audio.waveform[begin:end])
