"""Audio files of any kind in, 16 kHz mono out; FLAC bytes of the corpus in both directions.

A file is decoded block by block and resampled as a stream, so that an hour of 48 kHz stereo needs
the memory of an hour at 16 kHz mono. soundfile reads WAV, FLAC, MP3, Ogg; what it does not know
goes to `av` (FFmpeg), behind a whitelist. Decoders return half of a damaged file without a word, so
the decoded length is compared with the declared one (`speechvq.data.containers`).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from speechvq.data.audio_errors import AudioError, TooLongAudioError, TruncatedAudioError
from speechvq.data.containers import compute_missing_bytes, is_ffmpeg_only
from speechvq.data.media import open_media, read_media
from speechvq.data.records import SAMPLE_RATE
from speechvq.errors import MissingDependencyError

Waveform = npt.NDArray[np.float32]
"""float32 (S,), nominally within [-1, 1]."""

BLOCK_SECONDS = 20
_BLOCK_SIZE = 1 << 22
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1_000, 768_000
_PCM_SCALE = 32768.0


@dataclass(frozen=True, slots=True)
class DecodedAudio:
    """A decoded file.

    Attributes:
        waveform: float32 (S,), 16 kHz mono.
        sample_rate: Samples per second in the file.
        num_channels: Channels in the file.
    """

    waveform: Waveform
    sample_rate: int
    num_channels: int


class _Stream:
    """Blocks of one file, (S, channels) float32, with what its header declares."""

    def __init__(
        self,
        blocks: Iterator[npt.NDArray[np.float32]],
        sample_rate: int,
        num_channels: int,
        num_frames: int | None,
    ) -> None:
        self.blocks = blocks
        self.sample_rate = sample_rate
        self.num_channels = num_channels
        self.num_frames = num_frames  # declared by the header; None where it says nothing


def decode_audio(source: Path | str | bytes) -> tuple[Waveform, int]:
    """Decodes a file, or the bytes of one, at its own rate.

    Args:
        source: A path, or the contents of a file.

    Returns:
        The waveform, float32 (S,), channels averaged, and its sample rate.

    Raises:
        AudioError: If it cannot be decoded; `TruncatedAudioError` if it ends before its header
            says.
    """
    with _open_source(source) as file:
        stream = _open_stream(file, _suffix(source))
        waveform = np.concatenate(
            [_mix(block) for block in stream.blocks] or [np.zeros(0, np.float32)]
        )
        _check_complete(
            file, stream, len(waveform), len(waveform) * SAMPLE_RATE // stream.sample_rate
        )
    return waveform, stream.sample_rate


@dataclass(frozen=True, slots=True)
class AudioStream:
    """An opened file that is decoded while it is read.

    Attributes:
        sample_rate: Samples per second in the file.
        num_channels: Channels in the file.
        blocks: float32 (S,) each, 16 kHz mono; ends with `AudioError` if the file is damaged,
            incomplete or too long.
        declared_seconds: Length according to the header, if it says.
    """

    sample_rate: int
    num_channels: int
    blocks: Iterator[Waveform]
    declared_seconds: float | None = None


@contextmanager
def open_audio(
    source: Path | str | bytes, *, max_seconds: float = float("inf"), suffix: str = ""
) -> Iterator[AudioStream]:
    """Opens a file to decode it block by block, in memory that does not grow with its length.

    Args:
        source: A path, or the contents of a file.
        max_seconds: Stop with `TooLongAudioError` beyond this length.
        suffix: The suffix of the file's name where only its contents are given.

    Raises:
        AudioError: If it cannot be opened, or its header declares more than `max_seconds`.
    """
    with _open_source(source) as file:
        stream = _open_stream(file, suffix or _suffix(source))
        _check_duration(stream, max_seconds)
        yield AudioStream(
            stream.sample_rate,
            stream.num_channels,
            _resample(file, stream, max_seconds),
            None if stream.num_frames is None else stream.num_frames / stream.sample_rate,
        )


def load_audio(source: Path | str | bytes, *, max_seconds: float = float("inf")) -> DecodedAudio:
    """Decodes a file to 16 kHz mono, as a whole.

    Args:
        source: A path, or the contents of a file.
        max_seconds: Stop with `TooLongAudioError` beyond this length.

    Returns:
        The waveform at 16 kHz and what the file was.

    Raises:
        AudioError: If it cannot be decoded, is incomplete, or too long.
    """
    with open_audio(source, max_seconds=max_seconds) as stream:
        waveform = np.concatenate([np.zeros(0, np.float32), *stream.blocks])
        return DecodedAudio(waveform, stream.sample_rate, stream.num_channels)


def _resample(file: BinaryIO, stream: _Stream, max_seconds: float) -> Iterator[Waveform]:
    """Yields blocks at 16 kHz; at the end, compares what came with what was declared."""
    resampler = None
    if stream.sample_rate != SAMPLE_RATE:
        resampler = soxr.ResampleStream(
            stream.sample_rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ"
        )
    num_frames = num_samples = 0
    damage = None
    try:
        for block in stream.blocks:
            num_frames += len(block)
            if num_frames > max_seconds * stream.sample_rate:
                raise _too_long(num_frames / stream.sample_rate, max_seconds)
            mono = _mix(block)
            if resampler is not None:
                mono = resampler.resample_chunk(mono)
            num_samples += len(mono)
            yield mono
    except TooLongAudioError:
        raise
    except AudioError as error:
        damage = error
    if resampler is not None:
        rest = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        num_samples += len(rest)
        yield rest
    if damage is not None:
        _raise_damaged(damage, stream, num_samples)
    _check_complete(file, stream, num_frames, num_samples)


def to_16k_mono(waveform: npt.NDArray[np.float32], sample_rate: int) -> Waveform:
    """Averages channels and resamples.

    Args:
        waveform: (S,) or (S, channels).
        sample_rate: Its samples per second.

    Returns:
        float32 (S,) at 16 kHz.
    """
    mono = _mix(np.asarray(waveform, dtype=np.float32))
    if sample_rate == SAMPLE_RATE:
        return mono
    return np.asarray(soxr.resample(mono, sample_rate, SAMPLE_RATE, quality="HQ"), dtype=np.float32)


def to_pcm(waveform: Waveform) -> npt.NDArray[np.int16]:
    """Rounds a waveform, float32 (S,), to 16 bit; what lies beyond full scale is clipped."""
    scaled = np.clip(np.rint(waveform * _PCM_SCALE), -_PCM_SCALE, _PCM_SCALE - 1)
    return np.asarray(scaled.astype(np.int16))


def from_pcm(pcm: npt.NDArray[np.int16]) -> Waveform:
    """Returns 16 bit samples as float32 within [-1, 1)."""
    return pcm.astype(np.float32) / np.float32(_PCM_SCALE)


def encode_flac(waveform: Waveform) -> bytes:
    """Encodes a 16 kHz mono waveform, float32 (S,), as 16 bit FLAC; what lies beyond full scale is
    clipped.
    """
    pcm = to_pcm(waveform)
    buffer = io.BytesIO()
    soundfile.write(buffer, pcm, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def decode_flac(data: bytes) -> Waveform:
    """Decodes the `audio` column of a corpus: float32 (S,) within [-1, 1], exactly the encoded 16
    bit values / 32768.
    """
    try:
        waveform, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    except soundfile.SoundFileError as error:
        raise AudioError(f"The FLAC bytes are damaged: {error}") from error
    return np.asarray(waveform, dtype=np.float32)


def _open_source(source: Path | str | bytes) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    try:
        return Path(source).open("rb")
    except OSError as error:
        raise AudioError(f"{error.strerror}: {source}") from error


def _suffix(source: Path | str | bytes) -> str:
    return "" if isinstance(source, bytes) else Path(source).suffix.lower()


def _open_stream(file: BinaryIO, suffix: str) -> _Stream:
    """Opens with the first decoder that can."""
    head = file.read(64)
    file.seek(0)
    if not head:
        raise AudioError("The file is empty (0 bytes).")
    if suffix == ".g722" or is_ffmpeg_only(head):
        return _open_with_av(file, suffix)
    try:
        return _open_with_soundfile(file)
    except soundfile.SoundFileError as error:
        file.seek(0)
        message = str(error).replace(repr(file), "the file")
    try:
        return _open_with_av(file, suffix)
    except AudioError as other:
        raise AudioError(f"soundfile: {message.strip()}; {other}") from None


def _open_with_soundfile(file: BinaryIO) -> _Stream:
    sound = soundfile.SoundFile(file)
    return _Stream(_read_soundfile(sound), sound.samplerate, sound.channels, sound.frames)


def _read_soundfile(sound: soundfile.SoundFile) -> Iterator[npt.NDArray[np.float32]]:
    with sound:
        _check_sample_rate(sound.samplerate)
        # A header may promise a thousand channels.
        num_frames = max(1, min(BLOCK_SECONDS * sound.samplerate, _BLOCK_SIZE // sound.channels))
        while True:
            try:
                block = sound.read(num_frames, dtype="float32", always_2d=True)
            except soundfile.SoundFileError as error:
                raise AudioError(f"soundfile: {error}") from error
            if len(block) == 0:
                return
            yield block


def _open_with_av(file: BinaryIO, suffix: str) -> _Stream:
    try:
        container, sample_rate, num_channels, num_frames = open_media(file, suffix)
    except MissingDependencyError as error:
        # One file that needs `av` must not end the preparation of all others.
        raise AudioError(str(error)) from None
    return _Stream(read_media(container), sample_rate, num_channels, num_frames)


def _mix(block: npt.NDArray[np.float32]) -> Waveform:
    if block.ndim == 1:
        return block
    return block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)


def _check_sample_rate(sample_rate: int) -> None:
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise AudioError(
            f"The sample rate must be {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz, but is"
            f" {sample_rate}."
        )


def _check_duration(stream: _Stream, max_seconds: float) -> None:
    _check_sample_rate(stream.sample_rate)
    if stream.num_frames is not None and stream.num_frames > max_seconds * stream.sample_rate:
        raise _too_long(stream.num_frames / stream.sample_rate, max_seconds)


def _too_long(seconds: float, max_seconds: float) -> TooLongAudioError:
    return TooLongAudioError(
        f"A recording must be at most {max_seconds:g} s to be decoded at once, but is at least"
        f" {seconds:.1f} s; split the file, or raise `max_recording_seconds` where memory allows.",
        round(seconds * SAMPLE_RATE),
    )


def _raise_damaged(error: AudioError, stream: _Stream, num_samples: int) -> None:
    declared = None if stream.num_frames is None else stream.num_frames / stream.sample_rate
    if num_samples == 0 and declared is None:
        raise error
    raise TruncatedAudioError(f"Decoding stopped: {error}", num_samples, declared) from error


def _check_complete(file: BinaryIO, stream: _Stream, num_frames: int, num_samples: int) -> None:
    declared = stream.num_frames
    # An encoder may pad or trim its last frame; 0.1 s is more than any codec's frame.
    if declared is not None and num_frames < declared - 0.1 * stream.sample_rate:
        raise TruncatedAudioError(
            f"The header declares {declared / stream.sample_rate:.3f} s, but only "
            f"{num_frames / stream.sample_rate:.3f} s can be decoded.",
            num_samples,
            declared / stream.sample_rate,
        )
    missing = compute_missing_bytes(file)
    if missing > 0:
        size = file.seek(0, io.SEEK_END)
        share = size / (size + missing)
        raise TruncatedAudioError(
            f"The header declares {size + missing} bytes, but the file has {size}.",
            num_samples,
            num_frames / stream.sample_rate / max(share, 1e-6),
        )
