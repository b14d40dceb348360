"""A corpus of noise and a recogniser of random weights: nonsense, but always the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from speechvq.data.audio import encode_flac
from speechvq.data.corpus import CorpusWriter
from speechvq.data.records import Utterance
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

HINDI = ["नमस्ते दुनिया", "यह एक वाक्य है", "क्षत्रिय", "पानी", "हिन्दी में लिखो", "कल मिलेंगे"]
MBOSHI = ["wáre ngá", "obe la", "ngá", "moro adi", "baa", "lá obɛ"]
_SHAPE = {
    "features": Features.fbank,
    "fbank": FbankConfig(num_mels=20),
    "encoder": EncoderConfig(
        num_layers=1,
        model_dim=16,
        num_heads=2,
        ffn_dim=16,
        position_kernel=8,
        position_groups=2,
        norm_first=True,
    ),
}


def _create_rows():
    rng = np.random.default_rng(1)
    for language, texts in (("hin_Deva", HINDI), ("mdw_Latn", MBOSHI)):
        for split, speakers in (("train", "ab"), ("test", "bc")):
            for number, text in enumerate(texts):
                length = int(rng.integers(6_000, 30_000))
                audio = encode_flac(rng.normal(0, 0.1, length).astype(np.float32))
                yield Utterance(
                    id=f"{language}/{split}-{number}",
                    language=language,
                    split=split,
                    audio=audio,
                    num_samples=length,
                    text=text if number != 3 or split == "train" else None,
                    source=f"s{language[:3]}",
                    speaker=speakers[number % 2],
                    recording=f"r{number}",
                )
    # A language without transcripts.
    for number in range(2):
        yield Utterance(
            id=f"tam-{number}",
            language="tam_Taml",
            split="test",
            audio=encode_flac(np.full(8_000, 0.1, np.float32)),
            num_samples=8_000,
        )


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("evaluation") / "corpus"
    with CorpusWriter(directory, normalizer="basic-1") as writer:
        for row in _create_rows():
            writer.add(row)
    return directory


@pytest.fixture(scope="session")
def recognizer_directory(tmp_path_factory) -> Path:
    torch.manual_seed(3)
    vocabularies = {
        "hin_Deva": build_character_vocabulary(HINDI),
        "mdw_Latn": build_character_vocabulary(MBOSHI[1:]),  # lacks the á of the first
        "tam_Taml": build_character_vocabulary(["வணக்கம்"]),
    }
    model = create_ctc_model(CTCModelConfig(**_SHAPE), vocabularies)
    # Untrained weights write one label for everything; larger ones make it vary.
    with torch.no_grad():
        for head in model.heads.values():
            head.weight.mul_(20)
    directory = tmp_path_factory.mktemp("models") / "recognizer"
    save_model(directory, model)
    return directory


@pytest.fixture(scope="session")
def encoder_directory(tmp_path_factory) -> Path:
    torch.manual_seed(3)
    quantizer = GumbelConfig(num_codebooks=2, codebook_size=4, code_dim=8)
    config = PretrainModelConfig(**_SHAPE, quantizer=quantizer, final_dim=8)
    directory = tmp_path_factory.mktemp("models") / "encoder"
    save_model(directory, create_pretrain_model(config))
    return directory
