"""More than forty ways in which a file is bad, each with the reason for which it must be set aside.

Files are made from one clean voice; `make_hostile` returns them by name.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from tests.unit.data.conftest import make_voice
from tests.unit.data.test_audio import write_media

RATE = 16_000
SECONDS = 3.0


@dataclass(frozen=True)
class Clip:
    """A file, and what must become of it; an empty reason is acceptance."""

    name: str
    reasons: tuple[str, ...]


def make_hostile(root: Path) -> list[Clip]:
    """Writes all files into a directory."""
    root.mkdir(parents=True, exist_ok=True)
    voice = make_voice(SECONDS)
    clips = [
        *_make_truncated(root, voice),
        *_make_empty(root, voice),
        *_make_broken_samples(root, voice),
        *_make_no_speech(root, voice),
        *_make_disguised(root, voice),
        *_make_good(root),
    ]
    return clips


def encode(samples: np.ndarray, rate: int = RATE, **options: str) -> bytes:
    """Returns a sound file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, **{"format": "WAV", **options})
    return buffer.getvalue()


def _make_truncated(root: Path, voice: np.ndarray) -> list[Clip]:
    write_media(root / "whole.m4a", voice, RATE, "aac")
    write_media(root / "whole.webm", voice, RATE, "libopus")
    whole = {
        "wav": encode(voice),
        "mp3": encode(voice, format="MP3"),
        "flac": encode(voice, format="FLAC"),
        "ogg": encode(voice, format="OGG", subtype="VORBIS"),
        "aiff": encode(voice, format="AIFF"),
        "opus": encode(voice, format="OGG", subtype="OPUS"),
        "au": encode(voice, format="AU"),
        "m4a": (root / "whole.m4a").read_bytes(),
        "webm": (root / "whole.webm").read_bytes(),
    }
    (root / "whole.m4a").unlink()
    (root / "whole.webm").unlink()
    clips = []
    for suffix, data in whole.items():
        for share in (0.5, 0.9):
            name = f"cut{int(100 * share)}.{suffix}"
            (root / name).write_bytes(data[: int(share * len(data))])
            clips.append(Clip(name, ("truncated", "unreadable")))
    lie = bytearray(whole["wav"])
    place = lie.index(b"data") + 4
    lie[place : place + 4] = struct.pack("<I", 24 * 3600 * RATE * 2)
    (root / "day.wav").write_bytes(lie)
    clips.append(Clip("day.wav", ("truncated",)))
    middle = len(whole["flac"]) // 2
    flipped = bytearray(whole["flac"])
    flipped[middle : middle + 400] = bytes(b ^ 0x55 for b in flipped[middle : middle + 400])
    (root / "flipped.flac").write_bytes(flipped)
    clips.append(Clip("flipped.flac", ("truncated", "unreadable")))
    return clips


def _make_empty(root: Path, voice: np.ndarray) -> list[Clip]:
    wav, flac = encode(voice), encode(voice, format="FLAC")
    files: list[tuple[str, bytes, tuple[str, ...]]] = [
        ("zero.wav", b"", ("unreadable",)),
        ("zero.flac", b"", ("unreadable",)),
        ("zero.webm", b"", ("unreadable",)),
        ("header.wav", wav[:44], ("truncated",)),
        ("header.flac", flac[:42], ("truncated", "unreadable")),
        ("header.mp3", b"ID3\x04\x00\x00\x00\x00\x00\x00", ("unreadable",)),
        ("no_frames.wav", encode(voice[:0]), ("too_short", "unreadable")),
        ("one_frame.wav", encode(voice[:1]), ("too_short",)),
        ("field.wav", encode(voice[:399]), ("too_short",)),
        ("noise.mp3", bytes(range(256)) * 64, ("unreadable", "truncated", "too_short")),
        ("text.wav", b"this is no audio\n" * 99, ("unreadable",)),
        ("riff.wav", b"RIFF\xff\xff\xff\xffWAVE" + bytes(100), ("unreadable", "too_short")),
    ]
    for name, data, _ in files:
        (root / name).write_bytes(data)
    return [Clip(name, reasons) for name, _, reasons in files]


def _make_broken_samples(root: Path, voice: np.ndarray) -> list[Clip]:
    nan, infinite = voice.copy(), voice.copy()
    nan[1000], infinite[2000:2100] = np.nan, np.inf
    soundfile.write(root / "nan.wav", nan, RATE, subtype="FLOAT")
    soundfile.write(root / "inf.wav", infinite, RATE, subtype="DOUBLE")
    soundfile.write(root / "loud.wav", np.clip(60 * voice, -1, 1), RATE)
    soundfile.write(root / "dc.wav", 0.3 * voice + 0.5, RATE)
    gaps = make_voice(6, seed=3)
    gaps.reshape(-1, RATE // 2)[::2] = 0
    soundfile.write(root / "gaps.wav", gaps, RATE)
    zeroed = make_voice(7, seed=4)
    zeroed[np.random.default_rng(0).random(len(zeroed)) < 0.5] = 0
    soundfile.write(root / "zeroed.wav", zeroed, RATE)
    return [
        Clip("nan.wav", ("non_finite",)),
        Clip("inf.wav", ("non_finite",)),
        Clip("loud.wav", ("clipped",)),
        Clip("dc.wav", ("dc_offset",)),
        Clip("gaps.wav", ("dropouts",)),
        Clip("zeroed.wav", ("dropouts",)),
    ]


def _make_no_speech(root: Path, voice: np.ndarray) -> list[Clip]:
    time = np.arange(int(SECONDS * RATE)) / RATE
    click = np.zeros(len(time))
    click[RATE] = 0.9
    noise = 0.1 * np.random.default_rng(0).standard_normal(len(time))
    files: list[tuple[str, np.ndarray, tuple[str, ...]]] = [
        ("silence.wav", np.zeros(len(time)), ("silent",)),
        ("click.wav", click, ("silent",)),
        ("faint.wav", 1e-5 * voice, ("silent",)),
        ("constant.wav", np.full(len(time), 0.25), ("no_speech",)),
        ("white.wav", noise, ("no_speech", "steady_noise")),
        ("tone.wav", 0.3 * np.sin(2 * np.pi * 440 * time), ("no_speech", "steady_noise")),
        ("hum.wav", 0.3 * np.sin(2 * np.pi * 50 * time), ("no_speech", "steady_noise")),
        ("square.wav", 0.3 * np.sign(np.sin(2 * np.pi * 997 * time)), ("no_speech",)),
    ]
    for name, samples, _ in files:
        soundfile.write(root / name, samples, RATE)
    return [Clip(name, reasons) for name, _, reasons in files]


def _make_disguised(root: Path, voice: np.ndarray) -> list[Clip]:
    (root / "hidden").mkdir()
    soundfile.write(root / "hidden" / "sibling.wav", voice, RATE)
    (root / "list.mp3").write_text("ffconcat version 1.0\nfile 'hidden/sibling.wav'\n")
    (root / "list.m3u8").write_text("#EXTM3U\n#EXTINF:3,\nhidden/sibling.wav\n")
    (root / "loop.wav").symlink_to(root / "loop.wav")
    (root / "folder.wav").mkdir()
    (root / "picture.wav").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(500))
    outside = root.parent / "outside.wav"
    outside.write_bytes(encode(voice))
    (root / "link.wav").symlink_to(outside)
    return [
        Clip("list.mp3", ("unreadable",)),
        Clip("list.m3u8", ("unreadable",)),
        Clip("loop.wav", ("missing_file",)),
        Clip("folder.wav", ("missing_file", "not_a_file")),
        Clip("picture.wav", ("unreadable",)),
        Clip("link.wav", ("outside_input",)),
        Clip("absent.wav", ("missing_file",)),
    ]


def _make_good(root: Path) -> list[Clip]:
    """Odd files that are good all the same: none may be lost."""
    variants: dict[str, Callable[[np.ndarray], tuple[np.ndarray, int]]] = {
        "rate8.wav": lambda v: (v[::2], 8000),
        "rate96.flac": lambda v: (np.repeat(v, 6), 96_000),
        "rate192.wav": lambda v: (np.repeat(v, 12), 192_000),
        "eight.flac": lambda v: (np.stack([v] * 8, axis=1), RATE),
        "flac_inside.mp3": lambda v: (v, RATE),
        "name with \u05e2\u05d1\u05e8\u05d9\u05ea \u200f.wav": lambda v: (v, RATE),
        "name%00%0a.wav": lambda v: (v, RATE),
    }
    for number, (name, change) in enumerate(variants.items()):
        # Of different lengths, so that none is taken for a copy of another.
        samples, rate = change(make_voice(SECONDS + number, seed=number + 10))
        container = "FLAC" if "flac" in name else "WAV"
        soundfile.write(root / name, samples, rate, format=container)
    return [Clip(name, ("",)) for name in variants]
