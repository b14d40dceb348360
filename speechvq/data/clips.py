"""Measuring, the first stage of data preparation: files in, a table of segments and audio out.

Each file is decoded once, its speech is found, it is cut at pauses, and everything is measured;
nothing is decided but what no threshold could change. A pure function of its rows and settings (it
writes only its own files), run by whatever executor: `measure_part`. Bad audio is never fatal and
never silent.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechvq.data.audio import encode_flac
from speechvq.data.audio_errors import (
    AudioError,
    DecoderCrashedError,
    DecoderHungError,
    NonFiniteAudioError,
    TooLongAudioError,
    TruncatedAudioError,
)
from speechvq.data.config import PrepareConfig
from speechvq.data.corpus import write_text_atomically
from speechvq.data.decoder import DecodedRecording, Decoder
from speechvq.data.loudness import measure_levels, measure_sound_seconds
from speechvq.data.manifest import ManifestRow
from speechvq.data.measure import measure_segment
from speechvq.data.records import SAMPLE_RATE, Flag, Reason
from speechvq.data.segment_table import SegmentWriter
from speechvq.data.segments import Span, cut_at_pauses, find_gaps
from speechvq.data.text import count_letters, digest_text, find_text_flags
from speechvq.data.vad import WINDOW_SAMPLES, Probabilities, compute_speech_probabilities
from speechvq.data.webrtc import compute_webrtc_probabilities
from speechvq.data.work import Part

STATE_DIRECTORY = ".prepare"
"""Inside the output while work is under way."""
MAX_TRANSCRIBED_SECONDS = 600.0
"""Transcribed clips stay whole, and longer ones are not even candidates."""
_BATCH_SECONDS = 600
"""So much audio is decoded before the speech detector runs over it; bounds memory."""
_MAX_EXCERPTS = 3
"""So many excerpts of each reason of each piece of work are kept for the report."""
_EXCERPT_SAMPLES = 5 * SAMPLE_RATE


@dataclass(frozen=True, kw_only=True, slots=True)
class PieceResult:
    """What measuring one piece of work left: the mark that it is done."""

    index: int
    num_samples: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class _Clip:
    row: ManifestRow
    audio: DecodedRecording
    is_longer: bool

    @property
    def num_samples(self) -> int:
        return len(self.audio.samples)


def get_result_file(output: Path, index: int) -> Path:
    """Returns where a piece of work leaves the mark that it is done."""
    return output / STATE_DIRECTORY / f"part-{index:07d}.json"


def get_progress_file(output: Path, index: int) -> Path:
    """Returns where a piece of work notes the file that it is reading, to know it if the process
    dies.
    """
    return output / STATE_DIRECTORY / f"part-{index:07d}.now"


def measure_part(
    part: Part, config: PrepareConfig, crashed: frozenset[int] = frozenset()
) -> PieceResult:
    """Measures one piece of work.

    Args:
        part: Its rows.
        config: Settings; `output` says where to write.
        crashed: Positions of rows that killed a process before; they are set aside.

    Returns:
        The mark that it is done, which is also written.
    """
    output = Path(config.output)
    state = output / STATE_DIRECTORY
    state.mkdir(parents=True, exist_ok=True)
    writer = _PieceWriter(output, part.index)
    try:
        with Decoder(state, timeout_seconds=config.decode_timeout_seconds) as decoder:
            for clips in _load_in_batches(part, config, crashed, decoder, writer):
                for clip, row in zip(clips, _find_speech(clips, config), strict=True):
                    with closing(clip.audio.samples):
                        _measure_clip(clip, row, config, writer)
        num_bytes = writer.close()
    except BaseException:
        writer.discard()
        raise
    result = PieceResult(index=part.index, num_samples=writer.num_samples, num_bytes=num_bytes)
    write_text_atomically(get_result_file(output, part.index), json.dumps(asdict(result)))
    get_progress_file(output, part.index).unlink(missing_ok=True)
    return result


class _PieceWriter(SegmentWriter):
    """Adds what all rows of a file have in common, and counts samples and excerpts."""

    def __init__(self, output: Path, piece: int) -> None:
        super().__init__(output, piece)
        self.num_samples = 0
        self._excerpts: Counter[str] = Counter()
        self._last_row: ManifestRow | None = None

    def add_segment(
        self, row: ManifestRow, span: Span, audio: bytes | None = None, **values: Any
    ) -> None:
        """Appends a segment of a file."""
        common = {
            "path": row.path,
            "source": row.source,
            "language": row.language,
            "recording": row.recording,
            "speaker": row.speaker,
            "licence": row.licence,
            "split": row.split,
            "begin": span.begin,
            "num_samples": span.num_samples,
            "is_whole": False,
            "is_first": row is not self._last_row,
        }
        self._last_row = row
        self.num_samples += span.num_samples
        self.add(common | values, audio)

    def set_aside(
        self,
        row: ManifestRow,
        reason: Reason,
        num_samples: int,
        value: float | None = None,
        threshold: float | None = None,
        detail: str = "",
        excerpt: DecodedRecording | None = None,
        place: Span | None = None,
    ) -> None:
        """Appends what is no candidate, with a few seconds of it for the first ones."""
        audio = None
        if excerpt is not None and place is not None and self._excerpts[reason] < _MAX_EXCERPTS:
            self._excerpts[reason] += 1
            end = min(place.end, place.begin + _EXCERPT_SAMPLES)
            audio = encode_flac(excerpt.samples[place.begin : end])
        self.add_segment(
            row,
            Span(0, num_samples),
            audio,
            set_aside=str(reason),
            value=value,
            threshold=threshold,
            detail=detail,
        )


def _load_in_batches(
    part: Part,
    config: PrepareConfig,
    crashed: frozenset[int],
    decoder: Decoder,
    writer: _PieceWriter,
) -> Iterator[list[_Clip]]:
    clips: list[_Clip] = []
    num_samples = 0
    progress_file = get_progress_file(Path(config.output), part.index)
    for position, row in enumerate(part.rows):
        if position in crashed:
            detail = "The process died while it read this file."
            writer.set_aside(row, Reason.DECODER_CRASHED, _declared(row), detail=detail)
            continue
        progress_file.write_text(str(position))
        clip = _load_clip(row, config, decoder, writer)
        if clip is not None:
            clips.append(clip)
            num_samples += clip.num_samples
        if num_samples > _BATCH_SECONDS * SAMPLE_RATE:
            yield clips
            clips, num_samples = [], 0
    if clips:
        yield clips


def _load_clip(
    row: ManifestRow, config: PrepareConfig, decoder: Decoder, writer: _PieceWriter
) -> _Clip | None:
    """Decodes a file and checks what concerns the file as a whole."""
    path, limit = Path(row.root) / row.path, config.max_recording_seconds
    try:
        audio = decoder.decode(path, num_bytes=row.num_bytes, max_seconds=limit)
    except TruncatedAudioError as error:
        declared = error.declared_seconds or row.seconds
        seconds = error.num_samples / SAMPLE_RATE
        writer.set_aside(
            row, Reason.TRUNCATED, error.num_samples, seconds, declared, detail=str(error)
        )
    except TooLongAudioError as error:
        seconds = error.num_samples / SAMPLE_RATE
        writer.set_aside(row, Reason.TOO_LONG, error.num_samples, seconds, limit, detail=str(error))
    except NonFiniteAudioError as error:
        writer.set_aside(
            row, Reason.NON_FINITE, error.num_samples, error.num_bad, 0, detail=str(error)
        )
    except DecoderHungError as error:
        limit = error.limit_seconds
        writer.set_aside(row, Reason.DECODER_HUNG, _declared(row), None, limit, detail=str(error))
    except DecoderCrashedError as error:
        writer.set_aside(row, Reason.DECODER_CRASHED, _declared(row), detail=str(error))
    except AudioError as error:
        writer.set_aside(row, Reason.UNREADABLE, _declared(row), detail=str(error))
    else:
        if not _is_set_aside(row, audio, config, writer):
            tolerance = config.max_length_difference_seconds
            seconds = len(audio.samples) / SAMPLE_RATE
            is_longer = row.seconds is not None and seconds > row.seconds + tolerance
            return _Clip(row, audio, is_longer)
        audio.samples.close()
    return None


def _is_set_aside(
    row: ManifestRow, audio: DecodedRecording, config: PrepareConfig, writer: _PieceWriter
) -> bool:
    """Sets a decoded file aside if it is incomplete, silent, or of a length that nothing mends."""
    num_samples = len(audio.samples)
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
        sound = measure_sound_seconds(audio.samples, config.silence_dbfs)
        if sound >= config.min_sound_seconds:
            return False
        detail = f"Seconds of sound above {config.silence_dbfs:g} dBFS."
        limit, place = config.min_sound_seconds, Span(0, num_samples)
        writer.set_aside(row, Reason.SILENT, num_samples, sound, limit, detail, audio, place)
    return True


def _declared(row: ManifestRow) -> int:
    """A file that could not be decoded counts with the length that its manifest declares."""
    return round((row.seconds or 0.0) * SAMPLE_RATE)


def _find_speech(clips: list[_Clip], config: PrepareConfig) -> list[Probabilities]:
    recordings = [clip.audio.samples for clip in clips]
    if config.segment.vad == "webrtc":
        return [compute_webrtc_probabilities(samples) for samples in recordings]
    return compute_speech_probabilities(recordings)


def _measure_clip(
    clip: _Clip, probabilities: Probabilities, config: PrepareConfig, writer: _PieceWriter
) -> None:
    """Measures a clip whole or in segments; what is left over is set aside. Every sample is counted
    once.
    """
    spans = _choose_spans(clip, probabilities, config)
    for span in spans:
        _measure_span(clip, span, probabilities, config, writer)
    left_over = clip.num_samples - sum(span.num_samples for span in spans)
    if left_over:
        detail = "Pauses and non-speech between segments." if spans else "No speech was found."
        writer.set_aside(
            clip.row,
            Reason.NO_SPEECH,
            left_over,
            float(probabilities.max()),
            config.segment.threshold,
            detail,
            clip.audio,
            max(find_gaps(spans, clip.num_samples), key=lambda gap: gap.num_samples),
        )


def _choose_spans(clip: _Clip, probabilities: Probabilities, config: PrepareConfig) -> list[Span]:
    num_samples, segment = clip.num_samples, config.segment
    is_short = num_samples <= segment.max_segment_seconds * SAMPLE_RATE
    has_speech = bool(probabilities.max() >= segment.threshold)
    if clip.row.transcript is not None or (is_short and has_speech):
        return [Span(0, num_samples)]
    return cut_at_pauses(
        probabilities,
        num_samples,
        max_segment_seconds=segment.max_segment_seconds,
        max_pause_seconds=segment.max_pause_seconds,
        padding_seconds=segment.padding_seconds,
        threshold=segment.threshold,
        min_seconds=segment.min_seconds,
        levels=measure_levels(clip.audio.samples, WINDOW_SAMPLES) if has_speech else None,
    )


def _measure_span(
    clip: _Clip,
    span: Span,
    probabilities: Probabilities,
    config: PrepareConfig,
    writer: _PieceWriter,
) -> None:
    row, waveform = clip.row, clip.audio.samples[span.begin : span.end]
    first, last = span.begin // WINDOW_SAMPLES, -(-span.end // WINDOW_SAMPLES)
    windows = probabilities[first:last]
    measured = measure_segment(
        waveform,
        windows,
        span.begin - first * WINDOW_SAMPLES,
        threshold=config.segment.threshold,
        silence_dbfs=config.silence_dbfs,
    )
    flags = find_text_flags(row.transcript or "")
    if measured.is_clipped:
        flags.append(Flag.CLIPPED)
    if windows.max() < config.segment.threshold:
        flags.append(Flag.NO_SPEECH)
    if clip.is_longer:
        flags.append(Flag.LONGER)
    text = row.transcript
    writer.add_segment(
        row,
        span,
        encode_flac(waveform),
        is_whole=span.num_samples == clip.num_samples,
        text=text,
        text_digest=None if text is None else digest_text(text, row.language),
        num_letters=None if text is None else count_letters(text),
        original_sample_rate=clip.audio.sample_rate,
        original_channels=clip.audio.num_channels,
        flags=[str(flag) for flag in flags],
        **{name: _clean(getattr(measured, name)) for name in measured.__slots__},
    )


def _clean(value: Any) -> Any:
    """Turns what is no number into null: no limit may be passed by NaN."""
    return None if isinstance(value, float) and not np.isfinite(value) else value
