"""Audio files of every kind, whole and damaged."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechvq.data.audio import decode_audio, load_audio, to_16k_mono
from speechvq.data.audio_errors import AudioError, TooLongAudioError, TruncatedAudioError
from speechvq.data.containers import compute_missing_bytes
from tests.unit.data.conftest import make_voice

FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "ogg": ("OGG", "OPUS"),
    "vorbis.ogg": ("OGG", "VORBIS"),
    "w64": ("W64", "PCM_16"),
}


def _write(path: Path, waveform: np.ndarray, rate: int, suffix: str) -> Path:
    kind, subtype = FORMATS[suffix]
    soundfile.write(path, waveform, rate, format=kind, subtype=subtype)
    return path


def write_media(path: Path, waveform: np.ndarray, rate: int, codec: str) -> Path:
    """Encodes WebM or M4A with FFmpeg."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(waveform[None, :], format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate)
        fifo = av.AudioFifo()
        for converted in resampler.resample(frame):
            fifo.write(converted)
        for piece in [*iter(lambda: fifo.read(stream.frame_size or 1024), None)]:
            container.mux(stream.encode(piece))
        last = fifo.read()
        for piece in [last] if last is not None else []:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    size = min(len(first), len(second))
    spectra = [np.abs(np.fft.rfft(x[:size])) for x in (first, second)]
    return float(np.corrcoef(*spectra)[0, 1])


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(("rate", "channels"), [(8000, 2), (48_000, 1)])
def test_any_format_rate_and_channels(
    tmp_path: Path, suffix: str, rate: int, channels: int
) -> None:
    voice = make_voice(1.5, rate=rate)
    waveform = np.repeat(voice[:, None], channels, axis=1)
    path = _write(tmp_path / f"a.{suffix}", waveform, rate, suffix)
    audio = load_audio(path)
    assert (audio.sample_rate, audio.num_channels) == (rate, channels)
    assert audio.waveform.dtype == np.float32
    assert len(audio.waveform) == pytest.approx(24_000, abs=2)
    assert _correlation(audio.waveform, to_16k_mono(voice, rate)) > 0.98
    plain, plain_rate = decode_audio(path.read_bytes())
    assert (plain_rate, plain.shape) == (rate, (pytest.approx(1.5 * rate, abs=2),))


@pytest.mark.parametrize(("suffix", "codec"), [("webm", "libopus"), ("m4a", "aac")])
def test_webm_and_m4a(tmp_path: Path, suffix: str, codec: str) -> None:
    voice = make_voice(1.5, rate=48_000)
    audio = load_audio(write_media(tmp_path / f"a.{suffix}", voice, 48_000, codec))
    assert audio.sample_rate == 48_000
    assert len(audio.waveform) == pytest.approx(24_000, abs=800)
    assert _correlation(audio.waveform, to_16k_mono(voice, 48_000)) > 0.9


def test_a_wrong_suffix_does_not_matter(tmp_path: Path) -> None:
    flac = _write(tmp_path / "a.flac", make_voice(0.5), 16_000, "flac")
    wrong = flac.rename(tmp_path / "a.mp3")
    assert len(load_audio(wrong).waveform) == 8000


def test_streamed_resampling_equals_resampling_at_once(tmp_path: Path) -> None:
    voice = make_voice(45, rate=22_050)  # more than two blocks
    path = _write(tmp_path / "a.wav", voice, 22_050, "wav")
    streamed = load_audio(path).waveform
    at_once = to_16k_mono(soundfile.read(path, dtype="float32")[0], 22_050)
    assert abs(len(streamed) - len(at_once)) <= 1
    size = min(len(streamed), len(at_once))
    np.testing.assert_allclose(streamed[:size], at_once[:size], atol=1e-4)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3"])
@pytest.mark.parametrize("share", [0.4, 0.7, 0.97])
def test_half_a_file_is_never_taken_for_a_whole_one(
    tmp_path: Path, suffix: str, share: float
) -> None:
    rng = np.random.default_rng(0)
    noise = (0.1 * rng.standard_normal(48_000)).astype(np.float32)
    data = _write(tmp_path / f"a.{suffix}", noise, 16_000, suffix).read_bytes()
    (tmp_path / f"half.{suffix}").write_bytes(data[: int(share * len(data))])
    with pytest.raises(TruncatedAudioError) as caught:
        load_audio(tmp_path / f"half.{suffix}")
    assert 0 <= caught.value.num_samples < 48_000


@pytest.mark.parametrize("suffix", ["ogg", "vorbis.ogg", "webm", "m4a"])
def test_half_a_container_is_refused_or_shorter(tmp_path: Path, suffix: str) -> None:
    voice = make_voice(3)
    path = tmp_path / f"a.{suffix}"
    if suffix in ("webm", "m4a"):
        write_media(path, voice, 16_000, "libopus" if suffix == "webm" else "aac")
    else:
        _write(path, voice, 16_000, suffix)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    try:
        waveform = load_audio(path).waveform
    except AudioError:
        return
    assert len(waveform) < 40_000  # the manifest's length tells


def test_mp3_without_a_header_of_its_length_is_checked_frame_by_frame(tmp_path: Path) -> None:
    data = _write(tmp_path / "a.mp3", make_voice(2), 16_000, "mp3").read_bytes()
    assert compute_missing_bytes(io.BytesIO(data)) == 0
    assert compute_missing_bytes(io.BytesIO(data + b"TAG" + bytes(125))) == 0
    assert compute_missing_bytes(io.BytesIO(data[:-7])) > 0


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF])
def test_a_streamed_wav_that_does_not_know_its_length_is_read(tmp_path: Path, size: int) -> None:
    data = bytearray(_write(tmp_path / "a.wav", make_voice(1), 16_000, "wav").read_bytes())
    position = data.index(b"data") + 4
    data[position : position + 4] = size.to_bytes(4, "little")
    assert compute_missing_bytes(io.BytesIO(bytes(data))) == 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"R",
        b"RIFF\x24\x00\x00\x00WAVEfmt ",
        b"fLaC" + bytes(10),
        b"OggS" + bytes(100),
        b"\x1aE\xdf\xa3" + bytes(200),
        b"\x00\x00\x00\x18ftypM4A " + bytes(64),
        b"no audio at all, just text\n" * 30,
        bytes(4096),
    ],
)
def test_rubbish_is_an_audio_error(content: bytes) -> None:
    with pytest.raises(AudioError):
        load_audio(content)


def test_a_playlist_cannot_open_its_sibling(tmp_path: Path) -> None:
    pytest.importorskip("av")
    _write(tmp_path / "sibling.wav", make_voice(1), 16_000, "wav")
    script = tmp_path / "a.mp3"
    script.write_text("ffconcat version 1.0\nfile sibling.wav\n")
    with pytest.raises(AudioError):
        load_audio(script)


def test_too_long_is_found_before_decoding(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.flac", make_voice(4), 16_000, "flac")
    with pytest.raises(TooLongAudioError, match="max_recording_seconds") as caught:
        load_audio(path, max_seconds=3)
    assert caught.value.num_samples == 64_000


def test_missing_file_is_an_audio_error(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="No such file"):
        load_audio(tmp_path / "none.wav")
