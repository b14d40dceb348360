"""A corpus of two sounds with exact labels, and tiny models of random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from speechvq.data.audio import encode_flac
from speechvq.data.corpus import CorpusWriter
from speechvq.data.records import SAMPLE_RATE, Utterance
from speechvq.models.build import create_ctc_model, create_pretrain_model
from speechvq.models.config import (
    CTCModelConfig,
    EncoderConfig,
    FbankConfig,
    Features,
    GumbelConfig,
    PretrainModelConfig,
)
from speechvq.models.directory import save_model
from speechvq.models.vocabulary import build_character_vocabulary

_SHAPE = {
    "features": Features.fbank,
    "fbank": FbankConfig(num_mels=20),
    "encoder": EncoderConfig(
        num_layers=2,
        model_dim=16,
        num_heads=2,
        ffn_dim=16,
        position_kernel=8,
        position_groups=2,
        norm_first=True,
    ),
}
LANGUAGES = ("hin_Deva", "mdw_Latn")
HERTZ = {"a": 700.0, "i": 2800.0, "sil": 0.0}


def speak(phones: list[tuple[str, float]]) -> np.ndarray:
    """A tone for each phone, noise alone for silence."""
    rng = np.random.default_rng(len(phones))
    parts = []
    for phone, seconds in phones:
        time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
        tone = 0.3 * np.sin(2 * np.pi * HERTZ[phone] * time) if HERTZ[phone] else 0 * time
        parts.append(tone + rng.normal(0, 0.003, len(time)))
    return np.concatenate(parts).astype(np.float32)


def create_track(number: int) -> list[tuple[str, float]]:
    rng = np.random.default_rng(number)
    phones = []
    for phone in ("sil", *(["a", "i"] * 3), "sil"):
        phones.append((phone, 0.08 + 0.01 * int(rng.integers(0, 9))))
    return phones


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """6 utterances of each of two languages, and beside it `phones.tsv` for all but one."""
    directory = tmp_path_factory.mktemp("analysis") / "corpus"
    rows = ["path\tphone\tstart_seconds\tend_seconds"]
    with CorpusWriter(directory, normalizer="basic-1") as writer:
        for language in LANGUAGES:
            for number in range(6):
                track = create_track(number)
                waveform = speak(track)
                path = f"audio/{language}-{number}.flac"
                writer.add(
                    Utterance(
                        id=f"tones/{path}",
                        language=language,
                        split="test",
                        audio=encode_flac(waveform),
                        num_samples=len(waveform),
                        text="ab ba",
                        source="tones",
                        speaker=f"s{number % 3}" if number else None,
                        recording=path,
                        path=path,
                    )
                )
                begin = 0.0
                for phone, seconds in track:
                    if number < 5:
                        rows.append(f"{path}\t{phone}\t{begin:.4f}\t{begin + seconds:.4f}")
                    begin += seconds
    (directory.parent / "phones.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return directory


@pytest.fixture(scope="session")
def encoder_directory(tmp_path_factory) -> Path:
    torch.manual_seed(3)
    quantizer = GumbelConfig(num_codebooks=2, codebook_size=6, code_dim=8)
    config = PretrainModelConfig(**_SHAPE, quantizer=quantizer, final_dim=8)
    directory = tmp_path_factory.mktemp("models") / "encoder"
    save_model(directory, create_pretrain_model(config))
    return directory


@pytest.fixture(scope="session")
def recognizer_directory(tmp_path_factory) -> Path:
    torch.manual_seed(3)
    vocabularies = {"mdw_Latn": build_character_vocabulary(["ab"])}
    directory = tmp_path_factory.mktemp("models") / "recognizer"
    save_model(directory, create_ctc_model(CTCModelConfig(**_SHAPE), vocabularies))
    return directory
