"""The reference for preparation: IndicWav2Vec's chain, rebuilt from its description with public
parts, at its settings and with its faults.

    audio -> wav/ (FFmpeg: 16 kHz, mono) -> vad/ (webrtcvad: 30 ms, mode 2, 300 ms, 90 %)
          -> WADA-SNR of each segment; under 15 dB to snr_rejected/ -> over 25 s: chunks of 20 s

Every step reads the WAV files of the one before and writes its own, as published. FFmpeg is called
through PyAV instead of as a program, which spares a process a file; everything else is plain Python
and NumPy, as there. Kept on purpose: the last frame of a recording is dropped, a segment whose
ratio is NaN passes, energies are summed by Python's `sum`, and chunks end where they end.
"""

from __future__ import annotations

import contextlib
import math
import wave
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import av
import numpy as np
import soundfile
import webrtcvad

from speechvq.data.wada import WADA_MIN_DB, WADA_STATISTIC, WADA_STEP_DB

RATE = 16_000
FRAME_MS = 30
FRAME_BYTES = 2 * RATE * FRAME_MS // 1000
RING_FRAMES = 300 // FRAME_MS
SHARE = 0.9
MODE = 2
MIN_SNR_DB = 15.0
CHUNK_SECONDS, MAX_WHOLE_SECONDS = 20, 25
Timer = Callable[[str], AbstractContextManager[None]]


def run_reference(
    files: list[Path], work: Path, stage: Timer = lambda name: contextlib.nullcontext()
) -> dict[str, float]:
    """Runs all steps over all files.

    Args:
        files: Audio of any kind.
        work: Where the WAV files of all steps go; new.
        stage: Called with the name of each step, which runs inside what it returns.

    Returns:
        Seconds kept of each file, by name; what FFmpeg cannot read keeps none.
    """
    with stage("decode, write WAV"):
        decoded = {file.name: decode(file, work / "wav", i) for i, file in enumerate(files)}
    kept = {}
    segments = {}
    with stage("VAD, write WAV"):
        for name, path in decoded.items():
            segments[name] = [] if path is None else split_at_silence(path, work / "vad")
    with stage("WADA"):
        for name, paths in segments.items():
            segments[name] = [path for path in paths if passes_snr(path, work / "snr_rejected")]
    with stage("cut, write WAV"):
        for name, paths in segments.items():
            kept[name] = sum(cut_into_chunks(path) for path in paths)
    return kept


def decode(file: Path, directory: Path, number: int) -> Path | None:
    """Decodes a file to 16 kHz mono WAV up to the first error, as `ffmpeg -ac 1 -ar 16000`."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{number:05d}.wav"
    resampler = av.AudioResampler("s16", "mono", RATE)
    num_bytes = 0
    with contextlib.closing(wave.open(str(path), "wb")) as output:
        set_format(output)
        for frame in read_frames(file):
            for part in resampler.resample(frame):
                data = part.to_ndarray().tobytes()
                num_bytes += len(data)
                output.writeframes(data)
    return path if num_bytes else None


def read_frames(file: Path) -> Iterator[av.AudioFrame | None]:
    """Yields frames up to the first error, and then None, which empties a resampler."""
    frame = None
    with (
        contextlib.suppress(av.FFmpegError, OSError, IndexError, ValueError),
        av.open(str(file)) as container,
    ):
        for frame in container.decode(container.streams.audio[0]):
            yield frame
    if frame is not None:
        yield None


def set_format(output: wave.Wave_write) -> None:
    """Sets 16 kHz, mono, 16 bit."""
    output.setnchannels(1)
    output.setsampwidth(2)
    output.setframerate(RATE)


def split_at_silence(path: Path, directory: Path) -> list[Path]:
    """Writes each stretch of speech as a WAV file, in order."""
    directory.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "rb") as file:
        data = file.readframes(file.getnframes())
    segments = []
    for number, segment in enumerate(collect_speech(data)):
        segments.append(directory / f"{path.stem}-{number:05d}.wav")
        write_wav(segments[-1], segment)
    return segments


def collect_speech(data: bytes) -> Iterator[bytes]:
    """Yields stretches of speech of 16 bit samples: a ring of 300 ms opens and closes the gate."""
    detector = webrtcvad.Vad(MODE)
    ring: deque[tuple[bytes, bool]] = deque(maxlen=RING_FRAMES)
    speech: list[bytes] = []
    is_open = False
    for begin in range(0, len(data) - FRAME_BYTES, FRAME_BYTES):
        frame = data[begin : begin + FRAME_BYTES]
        is_voiced = detector.is_speech(frame, RATE)
        ring.append((frame, is_voiced))
        if is_open:
            speech.append(frame)
            if sum(not voiced for _, voiced in ring) > SHARE * RING_FRAMES:
                yield b"".join(speech)
                is_open, speech = False, []
                ring.clear()
        elif sum(voiced for _, voiced in ring) > SHARE * RING_FRAMES:
            is_open, speech = True, [frame for frame, _ in ring]
            ring.clear()
    if speech:
        yield b"".join(speech)


def write_wav(path: Path, data: bytes) -> None:
    """Writes 16 bit samples."""
    with contextlib.closing(wave.open(str(path), "wb")) as output:
        set_format(output)
        output.writeframes(data)


def passes_snr(path: Path, rejected: Path) -> bool:
    """Moves a segment away if its ratio is under 15 dB; NaN is not."""
    samples, _ = soundfile.read(path)
    if not estimate_snr(samples) < MIN_SNR_DB:
        return True
    rejected.mkdir(parents=True, exist_ok=True)
    path.rename(rejected / path.name)
    return False


def estimate_snr(samples: np.ndarray) -> float:
    """Returns WADA-SNR in dB, zeros taken as 1e-10 of the peak; NaN for digital silence.

    The ratio is turned into energies of speech and noise, which give the same number again.
    """
    with np.errstate(all="ignore"):
        samples = samples / np.abs(samples).max()
        amplitude = np.maximum(np.abs(samples), 1e-10)
        statistic = np.log(amplitude.mean()) - np.log(amplitude).mean()
    if not math.isfinite(statistic):
        return math.nan
    position = float(np.interp(statistic, WADA_STATISTIC, np.arange(len(WADA_STATISTIC))))
    ratio = 10 ** ((WADA_MIN_DB + WADA_STEP_DB * position) / 10)
    energy = sum(samples**2)
    noise = energy / (1 + ratio)
    return 10 * math.log10((energy - noise) / noise)


def cut_into_chunks(path: Path) -> float:
    """Replaces a segment over 25 s by chunks of 20 s and a rest.

    Returns:
        Seconds in all.
    """
    with wave.open(str(path), "rb") as file:
        num_frames = file.getnframes()
        if num_frames // RATE <= MAX_WHOLE_SECONDS:
            return num_frames / RATE
        data = file.readframes(num_frames)
    step = 2 * RATE * CHUNK_SECONDS
    for number, begin in enumerate(range(0, len(data), step)):
        write_wav(path.with_name(f"{path.stem}-{number:03d}.wav"), data[begin : begin + step])
    path.unlink()
    return num_frames / RATE
