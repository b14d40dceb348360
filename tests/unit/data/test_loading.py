"""What a row names is the same wherever it lies, and a part of it where it names a part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest

from speechvq.data.archives import read_source_bytes
from speechvq.data.audio import decode_flac, encode_flac, to_pcm
from speechvq.data.audio_errors import TruncatedAudioError
from speechvq.data.decoder import DecodedRecording
from speechvq.data.loading import cut_part
from speechvq.data.manifest import read_manifests
from speechvq.data.recording import Recording
from speechvq.errors import StoreError
from tests.unit.data.test_archives import write_archive

FLAC = encode_flac(np.random.default_rng(0).uniform(-0.5, 0.5, 32_000).astype(np.float32))


def test_files_archives_and_stores_hold_the_same(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.flac").write_bytes(FLAC)
    write_archive(tmp_path / "b.tar.xz", {"a.flac": FLAC})
    store = fsspec.filesystem("memory")
    store.pipe("/rows/a.flac", FLAC)
    places = [str(tmp_path / "in"), str(tmp_path / "b.tar.xz"), "memory://rows"]
    rows, _ = read_manifests(places, language="hin_Deva")
    assert [row.source for row in rows] == ["in", "b", "rows"]
    assert [read_source_bytes(row.root, row.path) == FLAC for row in rows] == [True] * 3
    store.pipe("/rows/notes", b"")
    store.rm_file("/rows/a.flac")
    with pytest.raises(FileNotFoundError):
        read_source_bytes(rows[2].root, rows[2].path)
    store.rm("/rows", recursive=True)
    with pytest.raises(StoreError, match="memory://rows cannot be reached"):
        read_source_bytes(rows[2].root, rows[2].path)


def test_a_part_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_bytes(FLAC)
    (row,), _ = read_manifests([str(tmp_path)], language="hin_Deva")
    whole = decode_flac(FLAC)
    samples = Recording(tmp_path)
    samples.append(to_pcm(whole).tobytes())
    audio = DecodedRecording(samples, 16_000, 1)
    for begin, end, expected in (
        (None, None, whole),
        (0.5, 1.25, whole[8_000:20_000]),
        (1.5, None, whole[24_000:]),
        (1.5, 2.01, whole[24_000:]),  # tables round
    ):
        part = cut_part(replace(row, begin_seconds=begin, end_seconds=end), audio)
        np.testing.assert_array_equal(part[0 : len(part)], expected)
    for begin, end in ((1.5, 2.5), (2.5, None)):
        with pytest.raises(TruncatedAudioError, match="ends at"):
            cut_part(replace(row, begin_seconds=begin, end_seconds=end), audio)
