"""WebM, M4A and what else needs FFmpeg, through `av`.

FFmpeg has demuxers that open other files (playlists, concat scripts). So the demuxer sees an open
file and never a name, and only formats that hold audio themselves are allowed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from speechvq.data.audio_errors import AudioError
from speechvq.errors import MissingDependencyError

ALLOWED_FORMATS = "wav,w64,mp3,flac,ogg,mov,mp4,m4a,3gp,matroska,webm,aac,amr,aiff,caf,au,asf,g722"
"""FFmpeg's names of the demuxers that may open a file."""


def open_media(file: BinaryIO, suffix: str) -> tuple[Any, int, int, int | None]:
    """Opens the first audio stream of a file.

    Args:
        file: The open file, at its start.
        suffix: The file's suffix in lower case; used for raw G.722 only, which has no header.

    Returns:
        The container, sample rate, number of channels, and the declared number of frames (None
        where the header says nothing).

    Raises:
        AudioError: If it is no allowed format or has no audio.
    """
    av = _import_av()
    av.logging.set_level(av.logging.PANIC)
    options = {"format_whitelist": ALLOWED_FORMATS, "protocol_whitelist": "file"}
    try:
        container = av.open(
            file, mode="r", format="g722" if suffix == ".g722" else None, options=options
        )
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise AudioError(_describe(error)) from None
    streams = container.streams.audio
    if not streams:
        container.close()
        raise AudioError("The file holds no audio stream.")
    stream = streams[0]
    sample_rate, num_channels = int(stream.rate or 0), int(stream.codec_context.channels or 0)
    seconds = None
    if stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        seconds = container.duration / 1e6
    if suffix == ".g722":
        seconds = None
    num_frames = None if seconds is None or seconds <= 0 else round(seconds * sample_rate)
    return container, sample_rate, num_channels, num_frames


def read_media(container: Any) -> Iterator[npt.NDArray[np.float32]]:
    """Decodes an opened container.

    Yields:
        Blocks (S, channels), float32.

    Raises:
        AudioError: If the data is damaged.
    """
    av = _import_av()
    stream = container.streams.audio[0]
    resampler = av.AudioResampler(format="fltp")
    try:
        with container:
            for frame in container.decode(stream):
                for converted in resampler.resample(frame):
                    yield np.ascontiguousarray(converted.to_ndarray().T, dtype=np.float32)
    except (av.error.FFmpegError, ValueError) as error:
        raise AudioError(_describe(error)) from None


def _describe(error: Exception) -> str:
    return f"FFmpeg: {getattr(error, 'strerror', None) or error}"


def _import_av() -> Any:
    try:
        import av
        import av.logging
    except ImportError:
        raise MissingDependencyError(
            "av", "media", "read WebM, M4A and other formats beyond soundfile's"
        ) from None
    return av
