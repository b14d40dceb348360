"""A codec that crashes or hangs costs one file: the decoder's own process, with real deaths."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechvq.data import decoder as decoder_module
from speechvq.data.audio import load_audio, to_pcm
from speechvq.data.audio_errors import (
    AudioError,
    DecoderCrashedError,
    DecoderHungError,
    NonFiniteAudioError,
    TooLongAudioError,
)
from speechvq.data.decoder import Decoder, end_idle_processes
from speechvq.data.recording import Recording, RecordingPart
from tests.unit.data.conftest import make_voice

RATE = 16_000


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.flac", make_voice(2, rate=44_100), 44_100)
    return tmp_path / "a.flac"


def test_samples_are_those_of_the_same_process(clip: Path) -> None:
    with Decoder(clip.parent) as decoder:
        for _ in range(2):
            audio = decoder.decode(str(clip.parent), clip.name, num_bytes=9, max_seconds=60)
            expected = to_pcm(load_audio(clip).waveform)
            assert np.array_equal(to_pcm(audio.samples[: len(audio.samples)]), expected)
            assert (audio.sample_rate, audio.num_channels) == (44_100, 1)


def test_errors_come_through(clip: Path, tmp_path: Path) -> None:
    broken = np.zeros(RATE, np.float32)
    broken[5] = np.inf
    soundfile.write(tmp_path / "inf.wav", broken, RATE, subtype="FLOAT")
    with Decoder(tmp_path) as decoder:
        with pytest.raises(TooLongAudioError, match="at most 1 s"):
            decoder.decode(str(tmp_path), clip.name, num_bytes=9, max_seconds=1)
        with pytest.raises(NonFiniteAudioError) as caught:
            decoder.decode(str(tmp_path), "inf.wav", num_bytes=9, max_seconds=60)
        assert (caught.value.num_samples, caught.value.num_bad) == (RATE, 1)
        with pytest.raises(AudioError, match="No such file"):
            decoder.decode(str(tmp_path), "absent.wav", num_bytes=9, max_seconds=60)


def test_a_decoder_that_dies_is_replaced(clip: Path) -> None:
    where = {"num_bytes": 9, "max_seconds": 60}
    with Decoder(clip.parent) as decoder:
        decoder.decode(str(clip.parent), clip.name, **where)
        process = decoder._process
        assert process is not None
        os.kill(process.pid, signal.SIGSEGV)
        process.wait()
        with pytest.raises(DecoderCrashedError, match="SIGSEGV"):
            decoder.decode(str(clip.parent), clip.name, **where)
        assert len(decoder.decode(str(clip.parent), clip.name, **where).samples) == 2 * RATE


def test_a_stream_gives_the_same_samples(clip: Path) -> None:
    with Decoder(clip.parent) as decoder, decoder.stream(clip, max_seconds=60) as stream:
        assert stream.declared_seconds == pytest.approx(2.0)
        waveform = np.concatenate(list(stream.blocks))
    assert np.array_equal(to_pcm(waveform), to_pcm(load_audio(clip).waveform))


def read_and_kill(decoder: Decoder, path: Path) -> None:
    with decoder.stream(path, max_seconds=3600) as stream:
        next(stream.blocks)
        assert decoder._process is not None
        os.kill(decoder._process.pid, signal.SIGSEGV)
        for _ in stream.blocks:
            pass


def test_a_stream_that_is_left_or_dies_costs_itself_only(tmp_path: Path) -> None:
    voice = np.tile(make_voice(2), 300)  # more than a pipe holds
    soundfile.write(tmp_path / "long.wav", voice, RATE)
    soundfile.write(tmp_path / "short.wav", voice[:RATE], RATE)
    with Decoder(tmp_path) as decoder:
        with decoder.stream(tmp_path / "long.wav", max_seconds=3600) as stream:
            assert len(next(stream.blocks)) == 20 * RATE
        with pytest.raises(DecoderCrashedError, match="SIGSEGV"):
            read_and_kill(decoder, tmp_path / "long.wav")
        with (
            pytest.raises(TooLongAudioError),
            decoder.stream(tmp_path / "long.wav", max_seconds=10),
        ):
            pass
        with decoder.stream(tmp_path / "short.wav", max_seconds=10) as stream:
            assert sum(map(len, stream.blocks)) == RATE


def test_the_next_decoder_takes_the_process_over(clip: Path) -> None:
    where = {"num_bytes": 9, "max_seconds": 60}
    end_idle_processes()
    with Decoder(clip.parent) as decoder, Decoder(clip.parent) as other:
        decoder.decode(str(clip.parent), clip.name, **where)
        other.decode(str(clip.parent), clip.name, **where)
        first, second = decoder._process, other._process
        assert first is not second
    with Decoder(clip.parent) as decoder:
        assert len(decoder.decode(str(clip.parent), clip.name, **where).samples) == 2 * RATE
        assert decoder._process is first
        answers = decoder._ask(
            {"root": str(clip.parent), "path": clip.name, "limit_seconds": 9} | where
        )
        next(answers)
    assert first is not None
    assert first.returncode is not None
    assert second is not None
    second.kill()
    second.wait()
    with Decoder(clip.parent) as decoder:
        assert len(decoder.decode(str(clip.parent), clip.name, **where).samples) == 2 * RATE


@pytest.mark.parametrize("kind", ["busy", "blocked"])
def test_a_decoder_that_hangs_is_ended_by_the_kernel(
    clip: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """One that burns time and one that waits for ever: a FIFO that nobody writes to."""
    if kind == "blocked":
        os.mkfifo(clip.parent / "fifo")
        name, limit = "fifo", 0.2  # by the clock ten times as long
    else:
        soundfile.write(clip.parent / "long.flac", np.zeros(600 * RATE, np.int16), RATE)
        name, limit = "long.flac", 0.02  # less than these samples take
    monkeypatch.setattr(decoder_module, "_SECONDS_A_MEGABYTE", 0.0)
    with Decoder(clip.parent, timeout_seconds=limit) as decoder:
        begin = time.monotonic()
        with pytest.raises(DecoderHungError) as caught:
            decoder.decode(str(clip.parent), name, num_bytes=0, max_seconds=9999)
        assert caught.value.limit_seconds == limit
        assert time.monotonic() - begin < 60


def test_a_long_recording_lies_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechvq.data.recording._MAX_BYTES_IN_MEMORY", 1000)
    pcm = np.arange(-2000, 2000, dtype=np.int16)
    recording = Recording(tmp_path)
    for first in range(0, len(pcm), 300):
        recording.append(pcm[first : first + 300].tobytes())
    assert recording._file is not None
    assert len(recording) == 4000
    assert np.array_equal(to_pcm(recording[10:3000]), pcm[10:3000])
    assert len(recording[3990:5000]) == 10
    part = RecordingPart(recording, 100, 200)
    assert np.array_equal(to_pcm(part[10:1000]), pcm[110:200])
    assert list(tmp_path.iterdir()) == []  # a file without a name leaves nothing behind
    recording.close()


def test_the_protocol_survives_odd_names(tmp_path: Path) -> None:
    name = "a\nb \u05d0\u200f \x01.wav"
    soundfile.write(tmp_path / name, make_voice(1), RATE, format="WAV")
    assert "\n" not in json.dumps({"path": name})
    with Decoder(tmp_path) as decoder:
        audio = decoder.decode(str(tmp_path), name, num_bytes=9, max_seconds=60)
        assert len(audio.samples) == RATE
