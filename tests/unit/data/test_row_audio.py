"""The audio of a row is the same wherever it lies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest

from speechvq.data.audio import encode_flac
from speechvq.data.audio_errors import AudioError, TruncatedAudioError
from speechvq.data.manifest import read_manifests
from speechvq.data.row_audio import load_row_audio
from tests.unit.data.test_archives import write_archive

WAVEFORM = np.random.default_rng(0).uniform(-0.5, 0.5, 32_000).astype(np.float32)
FLAC = encode_flac(WAVEFORM)


def test_files_archives_and_stores_give_the_same_samples(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.flac").write_bytes(FLAC)
    write_archive(tmp_path / "b.tar.xz", {"a.flac": FLAC})
    store = fsspec.filesystem("memory")
    store.pipe("/rows/a.flac", FLAC)
    places = [str(tmp_path / "in"), str(tmp_path / "b.tar.xz"), "memory://rows"]
    rows, _ = read_manifests(places, language="hin_Deva")
    waveforms = [load_row_audio(row).waveform for row in rows]
    assert [row.source for row in rows] == ["in", "b", "rows"]
    for waveform in waveforms:
        np.testing.assert_allclose(waveform, WAVEFORM, atol=1 / 32768)
    store.rm("/rows", recursive=True)
    with pytest.raises(AudioError):
        load_row_audio(rows[2])


def test_a_part_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_bytes(FLAC)
    (row,), _ = read_manifests([str(tmp_path)], language="hin_Deva")
    whole = load_row_audio(row).waveform
    part = load_row_audio(replace(row, begin_seconds=0.5, end_seconds=1.25)).waveform
    np.testing.assert_array_equal(part, whole[8_000:20_000])
    tail = load_row_audio(replace(row, begin_seconds=1.5)).waveform
    np.testing.assert_array_equal(tail, whole[24_000:])
    rounded = load_row_audio(replace(row, begin_seconds=1.5, end_seconds=2.01)).waveform
    np.testing.assert_array_equal(rounded, whole[24_000:])
    for begin, end in ((1.5, 2.5), (2.5, None)):
        with pytest.raises(TruncatedAudioError, match="ends at"):
            load_row_audio(replace(row, begin_seconds=begin, end_seconds=end))
