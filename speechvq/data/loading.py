"""Decoding the rows of a piece of work, and setting aside what cannot be used at all: the first
half of measuring (`speechvq.data.clips`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from speechvq.data.audio_errors import (
    AudioError,
    DecoderCrashedError,
    DecoderHungError,
    NonFiniteAudioError,
    TooLongAudioError,
    TruncatedAudioError,
)
from speechvq.data.config import MAX_TRANSCRIBED_SECONDS, PrepareConfig
from speechvq.data.decoder import DecodedRecording, Decoder
from speechvq.data.loudness import measure_sound_seconds
from speechvq.data.manifest import ManifestRow
from speechvq.data.piece_writer import PieceWriter
from speechvq.data.recording import RecordingPart
from speechvq.data.records import SAMPLE_RATE, Reason
from speechvq.data.segments import Span
from speechvq.data.work import Part

STATE_DIRECTORY = ".prepare"
"""Inside the output while work is under way."""
_BATCH_SECONDS = 600
"""So much audio is decoded before the speech detector runs over it; bounds memory."""
_TOLERANCE_SECONDS = 0.05
"""So much may a part reach beyond its file: tables round."""


@dataclass(frozen=True, slots=True)
class Clip:
    """What a row names of a decoded file: all of it, or a part."""

    row: ManifestRow
    audio: DecodedRecording
    samples: RecordingPart
    is_longer: bool

    @property
    def num_samples(self) -> int:
        """Length at 16 kHz."""
        return len(self.samples)


def get_progress_file(output: Path, index: int) -> Path:
    """Returns where a piece of work notes the file that it is reading, to know it if the process
    dies.
    """
    return output / STATE_DIRECTORY / f"part-{index:07d}.now"


class Loader:
    """Decodes the files of a piece of work; rows that are parts of one file decode it once.

    Args:
        decoder: Who decodes.
        config: Settings.
    """

    def __init__(self, decoder: Decoder, config: PrepareConfig) -> None:
        self._decoder = decoder
        self._config = config
        self._last: tuple[tuple[str, str], DecodedRecording | AudioError] | None = None
        self._used: list[DecodedRecording] = []

    def load(self, row: ManifestRow) -> DecodedRecording:
        """Returns the file of a row; raises `AudioError`."""
        key = (row.root, row.path)
        if self._last is None or self._last[0] != key:
            self._last = key, self._decode(row)
        audio = self._last[1]
        if isinstance(audio, AudioError):
            raise audio
        return audio

    def close_used(self, *, is_last: bool = False) -> None:
        """Closes all files but the one that the next row may be a part of."""
        kept = None if is_last or self._last is None else self._last[1]
        for audio in self._used:
            if audio is not kept:
                audio.samples.close()
        self._used = [audio for audio in self._used if audio is kept]

    def _decode(self, row: ManifestRow) -> DecodedRecording | AudioError:
        try:
            audio = self._decoder.decode(
                row.root,
                row.path,
                num_bytes=row.num_bytes,
                max_seconds=self._config.max_recording_seconds,
            )
        except AudioError as error:
            return error
        self._used.append(audio)
        return audio


def load_in_batches(
    part: Part,
    config: PrepareConfig,
    crashed: frozenset[int],
    decoder: Decoder,
    writer: PieceWriter,
) -> Iterator[list[Clip]]:
    """Decodes the rows of a piece of work; what cannot be used goes into the writer.

    Args:
        part: The piece of work.
        config: Settings.
        crashed: Positions of rows that killed a process before; they are set aside.
        decoder: Who decodes.
        writer: Where rejections go.

    Yields:
        About ten minutes of audio at a time; a batch must be done with before the next is asked
        for.
    """
    loader = Loader(decoder, config)
    clips: list[Clip] = []
    num_samples = 0
    progress_file = get_progress_file(Path(config.output), part.index)
    for position, row in enumerate(part.rows):
        if position in crashed:
            detail = "The process died while it read this file."
            writer.set_aside(row, Reason.DECODER_CRASHED, _declared(row), detail=detail)
            continue
        progress_file.write_text(str(position))
        clip = _load_clip(row, config, loader, writer)
        if clip is not None:
            clips.append(clip)
            num_samples += clip.num_samples
        if num_samples > _BATCH_SECONDS * SAMPLE_RATE:
            yield clips
            clips, num_samples = [], 0
            loader.close_used()
    if clips:
        yield clips
    loader.close_used(is_last=True)


def _load_clip(
    row: ManifestRow, config: PrepareConfig, loader: Loader, writer: PieceWriter
) -> Clip | None:
    """Decodes a file and checks what concerns the row as a whole."""
    try:
        audio = loader.load(row)
        samples = cut_part(row, audio)
    except AudioError as error:
        _set_aside_unread(row, error, config, writer)
        return None
    if _is_set_aside(row, samples, config, writer):
        return None
    tolerance = config.max_length_difference_seconds
    seconds = len(samples) / SAMPLE_RATE
    is_longer = row.seconds is not None and seconds > row.seconds + tolerance
    return Clip(row, audio, samples, is_longer)


def cut_part(row: ManifestRow, audio: DecodedRecording) -> RecordingPart:
    """Returns the part of a file that a row names; all of it where it names none.

    Raises:
        TruncatedAudioError: If the file ends before the part does.
    """
    num_samples = len(audio.samples)
    begin = round((row.begin_seconds or 0.0) * SAMPLE_RATE)
    end = num_samples if row.end_seconds is None else round(row.end_seconds * SAMPLE_RATE)
    if end > num_samples + _TOLERANCE_SECONDS * SAMPLE_RATE or begin > num_samples:
        raise TruncatedAudioError(
            f"The part ends at {end / SAMPLE_RATE:.3f} s, but the file at"
            f" {num_samples / SAMPLE_RATE:.3f} s.",
            max(0, num_samples - begin),
            (end - begin) / SAMPLE_RATE,
        )
    return RecordingPart(audio.samples, begin, max(begin, min(end, num_samples)))


def _set_aside_unread(
    row: ManifestRow, error: AudioError, config: PrepareConfig, writer: PieceWriter
) -> None:
    """Sets aside what could not be decoded, with the reason and how much audio that is."""
    is_part = row.begin_seconds is not None or row.end_seconds is not None
    num_samples = _declared(row) if is_part else getattr(error, "num_samples", _declared(row))
    value = threshold = None
    reason = Reason.UNREADABLE
    match error:
        case TruncatedAudioError():
            reason, threshold = Reason.TRUNCATED, error.declared_seconds or row.seconds
            value = error.num_samples / SAMPLE_RATE
        case TooLongAudioError():
            reason, threshold = Reason.TOO_LONG, config.max_recording_seconds
            value = error.num_samples / SAMPLE_RATE
        case NonFiniteAudioError():
            reason, value, threshold = Reason.NON_FINITE, float(error.num_bad), 0.0
        case DecoderHungError():
            reason, threshold = Reason.DECODER_HUNG, error.limit_seconds
        case DecoderCrashedError():
            reason = Reason.DECODER_CRASHED
    writer.set_aside(row, reason, num_samples, value, threshold, str(error))


def _is_set_aside(
    row: ManifestRow,
    samples: RecordingPart,
    config: PrepareConfig,
    writer: PieceWriter,
) -> bool:
    """Sets a decoded row aside if it is incomplete, silent, or of a length that nothing mends."""
    num_samples = len(samples)
    seconds, shortest = num_samples / SAMPLE_RATE, config.segment.min_seconds
    tolerance, longest = config.max_length_difference_seconds, MAX_TRANSCRIBED_SECONDS
    if row.seconds is not None and seconds < row.seconds - tolerance:
        detail = "The file is shorter than its manifest says."
        writer.set_aside(row, Reason.TRUNCATED, num_samples, seconds, row.seconds, detail)
    elif seconds < shortest:
        writer.set_aside(row, Reason.TOO_SHORT, num_samples, seconds, shortest)
    elif row.transcript is not None and seconds > longest:
        detail = "A transcribed clip stays whole; cut it before."
        writer.set_aside(row, Reason.TOO_LONG_TRANSCRIBED, num_samples, seconds, longest, detail)
    else:
        sound = measure_sound_seconds(samples, config.silence_dbfs)
        if sound >= config.min_sound_seconds:
            return False
        detail = f"Seconds of sound above {config.silence_dbfs:g} dBFS."
        limit, place = config.min_sound_seconds, Span(0, num_samples)
        writer.set_aside(row, Reason.SILENT, num_samples, sound, limit, detail, samples, place)
    return True


def _declared(row: ManifestRow) -> int:
    """A file that could not be decoded counts with the length that its manifest declares."""
    return round((row.seconds or 0.0) * SAMPLE_RATE)
