"""Measuring, the first stage of data preparation: files in, a table of segments and audio out.

Each file is decoded once, its speech is found, it is cut at pauses, and everything is measured;
nothing is decided but what no threshold could change. A pure function of its rows and settings (it
writes only its own files), run by whatever executor: `measure_part`. Bad audio is never fatal and
never silent.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechvq.data.audio import encode_flac
from speechvq.data.config import PrepareConfig
from speechvq.data.corpus import write_text_atomically
from speechvq.data.decoder import Decoder
from speechvq.data.loading import STATE_DIRECTORY, Clip, get_progress_file, load_in_batches
from speechvq.data.loudness import measure_levels
from speechvq.data.measure import measure_segment
from speechvq.data.piece_writer import PieceWriter
from speechvq.data.records import SAMPLE_RATE, Flag, Reason
from speechvq.data.segments import Span, cut_at_pauses, find_gaps
from speechvq.data.text import count_letters, digest_text
from speechvq.data.transcripts import find_transcript_flags
from speechvq.data.vad import WINDOW_SAMPLES, Probabilities, compute_speech_probabilities
from speechvq.data.webrtc import compute_webrtc_probabilities
from speechvq.data.work import Part


@dataclass(frozen=True, kw_only=True, slots=True)
class PieceResult:
    """What measuring one piece of work left: the mark that it is done."""

    index: int
    num_samples: int
    num_bytes: int


def get_result_file(output: Path, index: int) -> Path:
    """Returns where a piece of work leaves the mark that it is done."""
    return output / STATE_DIRECTORY / f"part-{index:07d}.json"


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
    writer = PieceWriter(output, part.index)
    try:
        with Decoder(state, timeout_seconds=config.decode_timeout_seconds) as decoder:
            for clips in load_in_batches(part, config, crashed, decoder, writer):
                for clip, row in zip(clips, _find_speech(clips, config), strict=True):
                    _measure_clip(clip, row, config, writer)
        num_bytes = writer.close()
    except BaseException:
        writer.discard()
        raise
    result = PieceResult(index=part.index, num_samples=writer.num_samples, num_bytes=num_bytes)
    write_text_atomically(get_result_file(output, part.index), json.dumps(asdict(result)))
    get_progress_file(output, part.index).unlink(missing_ok=True)
    return result


def _find_speech(clips: list[Clip], config: PrepareConfig) -> list[Probabilities]:
    recordings = [clip.samples for clip in clips]
    if config.segment.vad == "webrtc":
        return [compute_webrtc_probabilities(samples) for samples in recordings]
    return compute_speech_probabilities(recordings)


def _measure_clip(
    clip: Clip, probabilities: Probabilities, config: PrepareConfig, writer: PieceWriter
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
        gap = max(find_gaps(spans, clip.num_samples), key=lambda gap: gap.num_samples)
        writer.set_aside(
            clip.row,
            Reason.NO_SPEECH,
            left_over,
            float(probabilities.max()),
            config.segment.threshold,
            detail,
            clip.samples,
            gap,
        )


def _choose_spans(clip: Clip, probabilities: Probabilities, config: PrepareConfig) -> list[Span]:
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
        levels=measure_levels(clip.samples, WINDOW_SAMPLES) if has_speech else None,
    )


def _measure_span(
    clip: Clip,
    span: Span,
    probabilities: Probabilities,
    config: PrepareConfig,
    writer: PieceWriter,
) -> None:
    row, waveform = clip.row, clip.samples[span.begin : span.end]
    first, last = span.begin // WINDOW_SAMPLES, -(-span.end // WINDOW_SAMPLES)
    windows = probabilities[first:last]
    measured = measure_segment(
        waveform,
        windows,
        span.begin - first * WINDOW_SAMPLES,
        threshold=config.segment.threshold,
        silence_dbfs=config.silence_dbfs,
    )
    flags = find_transcript_flags(row.transcript or "", row.language)
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
        is_whole=span.num_samples == len(clip.audio.samples),
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
