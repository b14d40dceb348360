"""Hostile files: each is set aside with its reason, no good one is lost, nothing takes the run
down."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from speechvq.data.audio_errors import AudioError, DecoderCrashedError, DecoderHungError
from speechvq.data.config import PrepareConfig
from speechvq.data.corpus import read_utterances
from speechvq.data.decoder import Decoder
from speechvq.data.prepare import prepare_corpus
from tests.unit.data.conftest import make_voice, write_manifest
from tests.unit.data.hostile import RATE, Clip, encode, make_hostile


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Clip]]:
    root = tmp_path_factory.mktemp("hostile") / "in"
    clips = make_hostile(root)
    write_manifest(root, [{"path": clip.name, "language": "hin_Deva"} for clip in clips])
    return root, clips


@pytest.fixture(scope="module")
def corpus(clips: tuple[Path, list[Clip]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("out") / "corpus"
    return prepare_corpus(
        PrepareConfig(input=[str(clips[0])], output=str(output), workers=2, part_minutes=1)
    )


def test_every_hostile_clip_has_its_reason(clips: tuple[Path, list[Clip]], corpus: Path) -> None:
    lines = (corpus / "rejected.tsv").read_text(encoding="utf-8").splitlines()
    reasons: dict[str, str] = {}
    for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
        if float(row["seconds"]) > 0 or row["path"] not in reasons:
            reasons[row["path"]] = row["reason"]
    kept = {row.path for row in read_utterances(corpus, columns=["path"])}
    bad = [clip for clip in clips[1] if "" not in clip.reasons]
    assert len(bad) >= 40
    wrong = {
        clip.name: ("accepted" if clip.name in kept else reasons.get(clip.name), clip.reasons)
        for clip in bad
        if clip.name in kept or reasons.get(clip.name) not in clip.reasons
    }
    assert wrong == {}
    assert kept == {clip.name for clip in clips[1] if "" in clip.reasons}


def test_hours_in_are_accepted_and_rejected(corpus: Path) -> None:
    summary = json.loads((corpus / "summary.json").read_text())
    total = summary["hours_accepted"] + summary["hours_rejected"]
    assert summary["hours_in"] * 3600 == pytest.approx(total * 3600, abs=0.1)
    accepted = sum(row.num_seconds for row in read_utterances(corpus, columns=["num_samples"]))
    assert summary["hours_accepted"] * 3600 == pytest.approx(accepted, abs=0.1)


def _mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Flips, overwrites, removes or repeats a few stretches."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        place, size = int(rng.integers(0, len(changed))), int(rng.integers(1, 64))
        match int(rng.integers(0, 4)):
            case 0:
                changed[place] ^= 1 << int(rng.integers(0, 8))
            case 1:
                changed[place : place + size] = rng.bytes(size)
            case 2:
                del changed[place : place + size]
            case _:
                changed[place:place] = changed[place : place + size]
        changed = changed or bytearray(b"\0")
    return bytes(changed)


def _decode_mutated(directory: Path, count: int) -> None:
    rng = np.random.default_rng(1)
    voice = make_voice(1)
    seeds = [
        encode(voice),
        encode(voice, format="FLAC"),
        encode(voice, format="MP3"),
        encode(voice, format="OGG", subtype="VORBIS"),
        encode(voice, 16_000, format="OGG", subtype="OPUS"),
        encode(voice, format="AIFF"),
        encode(voice, format="CAF"),
        encode(voice, format="AU"),
    ]
    path = directory / "mutated"
    decoded = 0
    with Decoder(directory, timeout_seconds=20) as decoder:
        for number in range(count):
            path.write_bytes(_mutate(seeds[number % len(seeds)], rng))
            try:
                audio = decoder.decode(
                    str(directory), path.name, num_bytes=path.stat().st_size, max_seconds=60
                )
            except (DecoderCrashedError, DecoderHungError):
                continue  # a file is lost, and the decoder goes on with the next
            except AudioError:
                continue
            assert np.isfinite(audio.samples[:RATE]).all()
            audio.samples.close()
            decoded += 1
    assert decoded > count / 20


@pytest.mark.slow
def test_mutated_files(tmp_path: Path) -> None:
    _decode_mutated(tmp_path, 200)


@pytest.mark.long
def test_many_mutated_files(tmp_path: Path) -> None:
    _decode_mutated(tmp_path, 2000)
