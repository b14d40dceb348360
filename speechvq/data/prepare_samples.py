"""The part of a preparation's report that one hears and sees: a few accepted segments, and a few of
each reason, with player and spectrogram.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from speechvq.data.audio import decode_flac
from speechvq.data.decide import REASONS, Decisions
from speechvq.data.segment_columns import SegmentColumns
from speechvq.data.segment_table import audio_file, read_segments
from speechvq.data.spectrum import compute_power
from speechvq.data.writing import read_audio
from speechvq.languages import parse_language
from speechvq.reporting.page import Page
from speechvq.reporting.spectrogram import draw_spectrogram

_NUM_LANGUAGES = 8
_NUM_OF_REASON = 2
_MAX_SECONDS = 20.0
_SHOWN = (
    ("snr_db", "SNR {:.0f} dB"),
    ("loudness_lufs", "{:.0f} LUFS"),
    ("bandwidth_hz", "up to {:.0f} Hz"),
    ("speech_ratio", "speech {:.0%}"),
    ("tone_share", "tones {:.0%}"),
)


def add_samples(page: Page, output: Path, segments: SegmentColumns, decisions: Decisions) -> None:
    """Adds players and spectrograms; nothing where the audio of candidates was not kept."""
    page.add_heading("Samples")
    page.add_heading("Accepted", level=3)
    with page.grid():
        for row in _pick_accepted(segments, decisions):
            _add_sample(page, output, row, segments, decisions)
    for code, reason in enumerate(REASONS):
        rows = _pick(segments, decisions.reason == code, _NUM_OF_REASON)
        if rows:
            page.add_heading(str(reason), level=3)
            with page.grid():
                for row in rows:
                    _add_sample(page, output, row, segments, decisions)


def _pick_accepted(segments: SegmentColumns, decisions: Decisions) -> Iterator[int]:
    """Yields one segment of each of the first languages."""
    names = segments.names["language"]
    for code in sorted(range(len(names)), key=names.__getitem__)[:_NUM_LANGUAGES]:
        wanted = decisions.is_accepted & (segments.codes["language"] == code)
        yield from _pick(segments, wanted, 1)


def _pick(segments: SegmentColumns, wanted: np.ndarray, count: int) -> list[int]:
    """Returns rows from the middle of what is wanted and short enough to be heard."""
    rows = np.flatnonzero(wanted & segments.has_audio & (segments.seconds <= _MAX_SECONDS))
    if len(rows) == 0:
        rows = np.flatnonzero(wanted & segments.has_audio & ~segments.is_candidate)
    if len(rows) == 0:
        return []
    places = np.linspace(0, len(rows), count + 2)[1:-1].astype(int)
    return sorted({int(rows[place]) for place in places})


def _add_sample(
    page: Page, output: Path, row: int, segments: SegmentColumns, decisions: Decisions
) -> None:
    piece = int(segments.piece[row])
    if not audio_file(output, piece).exists():
        return
    table = read_segments(output, piece, ["audio_row", "text", "language"])
    cells = table.slice(int(segments.row[row]), 1).to_pylist()[0]
    audio = read_audio(output, piece, [cells["audio_row"]])[0].as_py()
    with page.card():
        page.add_audio(audio, label=f"{segments.name('language', row)} · {segments.describe(row)}")
        page.add_figure(
            draw_spectrogram(compute_power(decode_flac(audio))),
            caption=_describe(row, segments, decisions),
            alt="Spectrogram, 0 to 8 kHz.",
        )
        if cells["text"]:
            page.add_paragraph(cells["text"], language=parse_language(cells["language"]).alias)


def _describe(row: int, segments: SegmentColumns, decisions: Decisions) -> str:
    facts = [f"{segments.seconds[row]:.1f} s"]
    value, threshold = decisions.value[row], decisions.threshold[row]
    if not decisions.is_accepted[row] and not np.isnan(threshold):
        shown = "undefined" if np.isnan(value) else f"{value:.4g}"
        facts.append(f"measured {shown}, limit {threshold:.4g}")
    for name, text in _SHOWN:
        number = segments.numbers[name][row]
        if not np.isnan(number):
            facts.append(text.format(number))
    return " · ".join(facts)
