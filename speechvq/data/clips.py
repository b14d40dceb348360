"""One piece of work of data preparation: files in, one part file and its bookkeeping out.

A pure function of its rows and settings (it writes only its own files), run by whatever executor:
`prepare_part`. Bad audio is never fatal and never silent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speechvq.data.audio import Waveform, encode_flac
from speechvq.data.audio_errors import AudioError, TooLongAudioError, TruncatedAudioError
from speechvq.data.config import PrepareConfig
from speechvq.data.corpus import write_text_atomically
from speechvq.data.loudness import Loudness, measure_loudness, measure_sound_seconds
from speechvq.data.manifest import ManifestRow
from speechvq.data.parts import PartWriter, partition_directory
from speechvq.data.records import SAMPLE_RATE, Flag, Reason, Rejection, Utterance
from speechvq.data.row_audio import load_row_audio
from speechvq.data.segments import Span, cut_at_pauses
from speechvq.data.tally import PartResult
from speechvq.data.text import get_normalizer
from speechvq.data.transcripts import prepare_transcript
from speechvq.data.vad import (
    WINDOW_SAMPLES,
    Probabilities,
    compute_speech_probabilities,
    compute_speech_ratio,
    find_samples_near_speech,
)
from speechvq.data.work import Part

STATE_DIRECTORY = ".prepare"
"""Inside the output while work is under way."""
_BATCH_SECONDS = 600
"""So much audio is decoded before the speech detector runs over it; bounds memory."""


@dataclass(slots=True)
class _Clip:
    row: ManifestRow
    waveform: Waveform
    sample_rate: int
    num_channels: int
    is_longer: bool


def get_result_file(output: Path, index: int) -> Path:
    """Returns where a piece of work leaves its bookkeeping, the mark that it is done."""
    return output / STATE_DIRECTORY / f"part-{index:07d}.json"


def get_progress_file(output: Path, index: int) -> Path:
    """Returns where a piece of work notes the file that it is decoding, to know it if the process
    dies.
    """
    return output / STATE_DIRECTORY / f"part-{index:07d}.now"


def get_part_file(output: Path, part: Part) -> Path:
    """Returns the part file of a piece of work."""
    return (
        partition_directory(output, part.split, part.language) / f"part-{part.number:05d}.parquet"
    )


def prepare_part(
    part: Part, config: PrepareConfig, crashed: frozenset[int] = frozenset()
) -> PartResult:
    """Prepares one piece of work.

    Args:
        part: Its rows.
        config: Settings; `output` says where to write.
        crashed: Positions of rows whose decoding killed a process before; they are set aside.

    Returns:
        The bookkeeping, which is also written beside the corpus.
    """
    output = Path(config.output)
    result = PartResult(index=part.index)
    writer = PartWriter(get_part_file(output, part))
    try:
        for clips in _load_in_batches(part, config, crashed, result):
            probabilities = compute_speech_probabilities([clip.waveform for clip in clips])
            for clip, row in zip(clips, probabilities, strict=True):
                _judge_clip(clip, row, part, config, result, writer)
        writer.close()
    except BaseException:
        writer.discard()
        raise
    if writer.num_rows:
        result.num_bytes = writer.path.stat().st_size
    write_text_atomically(
        get_result_file(output, part.index), json.dumps(result.to_json(), ensure_ascii=False)
    )
    get_progress_file(output, part.index).unlink(missing_ok=True)
    return result


def _load_in_batches(
    part: Part, config: PrepareConfig, crashed: frozenset[int], result: PartResult
) -> Iterator[list[_Clip]]:
    clips: list[_Clip] = []
    num_samples = 0
    progress_file = get_progress_file(Path(config.output), part.index)
    progress_file.parent.mkdir(parents=True, exist_ok=True)
    for position, row in enumerate(part.rows):
        if position in crashed:
            _reject_file(
                row,
                result,
                Reason.DECODER_CRASHED,
                detail="The process died while it read this file.",
            )
            continue
        progress_file.write_text(str(position))
        clip = _load_clip(row, config, result)
        if clip is not None:
            clips.append(clip)
            num_samples += len(clip.waveform)
        if num_samples > _BATCH_SECONDS * SAMPLE_RATE:
            yield clips
            clips, num_samples = [], 0
    if clips:
        yield clips


def _load_clip(row: ManifestRow, config: PrepareConfig, result: PartResult) -> _Clip | None:
    """Decodes a file and checks what concerns the file as a whole; rejections go into the
    result.
    """
    try:
        audio = load_row_audio(row, max_seconds=config.max_recording_seconds)
    except TruncatedAudioError as error:
        seconds = error.num_samples / SAMPLE_RATE
        declared = error.declared_seconds or row.seconds
        detail = str(error)
        _reject_file(row, result, Reason.TRUNCATED, error.num_samples, seconds, declared, detail)
        return None
    except TooLongAudioError as error:
        seconds = error.num_samples / SAMPLE_RATE
        limit = config.max_recording_seconds
        _reject_file(row, result, Reason.TOO_LONG, error.num_samples, seconds, limit, str(error))
        return None
    except (AudioError, OSError, ValueError, MemoryError) as error:
        _reject_file(row, result, Reason.UNREADABLE, detail=f"{error or type(error).__name__}")
        return None
    num_samples = len(audio.waveform)
    seconds = num_samples / SAMPLE_RATE
    tolerance = config.max_length_difference_seconds
    if row.seconds is not None and seconds < row.seconds - tolerance:
        detail = "The file is shorter than its manifest says."
        _reject_file(row, result, Reason.TRUNCATED, num_samples, seconds, row.seconds, detail)
        return None
    if not np.isfinite(audio.waveform).all():
        count = int(np.sum(~np.isfinite(audio.waveform)))
        detail = "Samples that are NaN or infinite."
        _reject_file(row, result, Reason.NON_FINITE, num_samples, count, 0, detail)
        return None
    is_longer = row.seconds is not None and seconds > row.seconds + tolerance
    clip = _Clip(row, audio.waveform, audio.sample_rate, audio.num_channels, is_longer)
    return None if _reject_by_length_or_level(clip, config, result) else clip


def _reject_by_length_or_level(clip: _Clip, config: PrepareConfig, result: PartResult) -> bool:
    num_samples = len(clip.waveform)
    seconds = num_samples / SAMPLE_RATE
    if seconds < config.segment.min_seconds:
        limit = config.segment.min_seconds
        _reject_file(clip.row, result, Reason.TOO_SHORT, num_samples, seconds, limit)
        return True
    if clip.row.transcript is not None and seconds > config.max_transcribed_seconds:
        _reject_file(
            clip.row,
            result,
            Reason.TOO_LONG_TRANSCRIBED,
            num_samples,
            seconds,
            config.max_transcribed_seconds,
            "A transcribed clip stays whole; cut it, or raise `max_transcribed_seconds`.",
        )
        return True
    sound_seconds = measure_sound_seconds(clip.waveform, config.silence_dbfs)
    if sound_seconds < config.min_sound_seconds:
        _reject_file(
            clip.row,
            result,
            Reason.SILENT,
            num_samples,
            sound_seconds,
            config.min_sound_seconds,
            f"Seconds of sound above {config.silence_dbfs:g} dBFS.",
        )
        return True
    return False


def _judge_clip(
    clip: _Clip,
    probabilities: Probabilities,
    part: Part,
    config: PrepareConfig,
    result: PartResult,
    writer: PartWriter,
) -> None:
    """Accepts a clip whole or in segments; what is left over is rejected. Every sample is counted
    once.
    """
    num_samples = len(clip.waveform)
    result.add_file(clip.row.source, num_samples)
    spans = _choose_spans(clip, probabilities, config)
    min_samples = config.segment.min_seconds * SAMPLE_RATE
    left_over = num_samples - sum(span.num_samples for span in spans)
    for span in spans:
        if span.num_samples < min_samples:
            seconds = span.num_samples / SAMPLE_RATE
            row = _create_rejection(clip.row, Reason.TOO_SHORT, span.num_samples)
            row.value, row.threshold = seconds, config.segment.min_seconds
            row.detail = f"Segment at {span.begin / SAMPLE_RATE:.3f} s."
            result.rejections.append(row)
            continue
        utterance = _create_utterance(clip, span, probabilities, part, config)
        writer.add(utterance)
        result.add_utterance(utterance)
    if left_over:
        row = _create_rejection(clip.row, Reason.NO_SPEECH, left_over)
        row.value, row.threshold = float(probabilities.max()), config.segment.threshold
        row.detail = "Pauses and non-speech between segments." if spans else "No speech was found."
        result.rejections.append(row)


def _choose_spans(clip: _Clip, probabilities: Probabilities, config: PrepareConfig) -> list[Span]:
    num_samples, segment = len(clip.waveform), config.segment
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
    )


def _create_utterance(
    clip: _Clip, span: Span, probabilities: Probabilities, part: Part, config: PrepareConfig
) -> Utterance:
    row = clip.row
    waveform = clip.waveform[span.begin : span.end]
    first, last = span.begin // WINDOW_SAMPLES, -(-span.end // WINDOW_SAMPLES)
    windows = probabilities[first:last]
    offset = span.begin - first * WINDOW_SAMPLES
    near_speech = find_samples_near_speech(
        windows, offset + span.num_samples, config.segment.threshold
    )[offset:]
    loudness = measure_loudness(waveform, silence_dbfs=config.silence_dbfs, near_speech=near_speech)
    offset_seconds = row.begin_seconds or 0.0
    begin = offset_seconds + span.begin / SAMPLE_RATE
    end = offset_seconds + span.end / SAMPLE_RATE
    is_whole = span.num_samples == len(clip.waveform) and row.begin_seconds is None
    transcript = prepare_transcript(
        row.transcript or "",
        row.language,
        span.num_samples / SAMPLE_RATE,
        get_normalizer(config.normalizer),
        digits=config.digits,
        max_letters_per_second=config.max_letters_per_second,
    )
    return Utterance(
        id=f"{row.source}/{row.path}" + ("" if is_whole else f"#{begin:.3f}-{end:.3f}"),
        language=row.language,
        split=part.split,
        audio=encode_flac(waveform),
        num_samples=span.num_samples,
        text=transcript.text,
        raw_text=row.transcript,
        source=row.source,
        licence=row.licence,
        url=row.url,
        speaker=row.speaker,
        recording=row.recording,
        path=row.path,
        start_seconds=begin,
        end_seconds=end,
        snr_db=loudness.snr_db,
        speech_ratio=compute_speech_ratio(windows, config.segment.threshold),
        peak_dbfs=loudness.peak_dbfs,
        rms_dbfs=loudness.rms_dbfs,
        original_sample_rate=clip.sample_rate,
        original_channels=clip.num_channels,
        flags=[
            str(flag) for flag in (*transcript.flags, *_find_flags(clip, loudness, windows, config))
        ],
    )


def _find_flags(
    clip: _Clip, loudness: Loudness, windows: Probabilities, config: PrepareConfig
) -> list[Flag]:
    flags = []
    if loudness.is_clipped:
        flags.append(Flag.CLIPPED)
    if windows.max() < config.segment.threshold:
        flags.append(Flag.NO_SPEECH)
    if clip.is_longer:
        flags.append(Flag.LONGER)
    return flags


def _reject_file(
    row: ManifestRow,
    result: PartResult,
    reason: Reason,
    num_samples: int | None = None,
    value: float | None = None,
    threshold: float | None = None,
    detail: str = "",
) -> None:
    """Rejects a file as a whole; one that could not be decoded counts with its declared length."""
    if num_samples is None:
        num_samples = round((row.seconds or 0.0) * SAMPLE_RATE)
    result.add_file(row.source, num_samples)
    rejection = _create_rejection(row, reason, num_samples)
    rejection.value, rejection.threshold, rejection.detail = value, threshold, detail
    result.rejections.append(rejection)


def _create_rejection(row: ManifestRow, reason: Reason, num_samples: int) -> Rejection:
    return Rejection(
        path=row.path,
        source=row.source,
        language=row.language,
        reason=reason,
        num_samples=num_samples,
    )
