"""Corpora of synthetic sound.

Every letter is a tone of its own, so that a recogniser has something to learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from speechvq.data.audio import encode_flac
from speechvq.data.corpus import CorpusWriter
from speechvq.data.randomness import create_generator
from speechvq.data.records import SAMPLE_RATE, Utterance

LETTERS = "abcdef"
LETTER_SECONDS = 0.2


def speak(text: str, rng: np.random.Generator) -> np.ndarray:
    """Return tones for letters, near silence for spaces, and some noise."""
    num_samples = round(LETTER_SECONDS * SAMPLE_RATE)
    time = np.arange(num_samples) / SAMPLE_RATE
    pieces = []
    for letter in text:
        level = 0.0 if letter == " " else 0.3
        frequency = 300.0 * 1.35 ** LETTERS.find(letter)
        pieces.append(level * np.sin(2 * np.pi * frequency * time))
    wave = np.concatenate(pieces) + 0.005 * rng.standard_normal(num_samples * len(text))
    return wave.astype(np.float32)


def draw_text(rng: np.random.Generator, num_words: int) -> str:
    """Return words of two to four letters."""
    words = ["".join(rng.choice(list(LETTERS), size=rng.integers(2, 5))) for _ in range(num_words)]
    return " ".join(words)


def write_tone_corpus(
    directory: Path,
    *,
    languages: Sequence[str] = ("hin_Deva", "tam_Taml"),
    counts: dict[str, int] | None = None,
    seed: int = 0,
) -> Path:
    """Write a corpus with train, dev and test splits.

    Args:
        directory: Where it will stand.
        languages: Its languages.
        counts: Utterances per split and language.
        seed: Decides texts and noise.

    Returns:
        The directory.
    """
    counts = counts or {"train": 24, "dev": 4, "test": 4}
    with CorpusWriter(directory, normalizer="basic-1") as writer:
        for split, count in counts.items():
            for language in languages:
                for number in range(count):
                    name = f"tones/{language}/{split}/{number}"
                    rng = create_generator(seed, name)
                    text = draw_text(rng, int(rng.integers(2, 4)))
                    audio = speak(text, rng)
                    writer.add(
                        Utterance(
                            id=name,
                            language=language,
                            split=split,
                            audio=encode_flac(audio),
                            num_samples=len(audio),
                            text=text,
                            source="tones",
                            speaker=f"{split}{number % 3}",
                            recording=name,
                            path=name,
                            end_seconds=len(audio) / SAMPLE_RATE,
                        )
                    )
    return directory


TINY_MODEL = (
    "architecture.encoder.num_layers=2",
    "architecture.encoder.model_dim=32",
    "architecture.encoder.num_heads=2",
    "architecture.encoder.ffn_dim=64",
    "architecture.encoder.position_kernel=16",
    "architecture.encoder.position_groups=4",
    "architecture.quantizer.codebook_size=16",
    "architecture.quantizer.code_dim=32",
    "architecture.final_dim=32",
    "architecture.num_distractors=10",
)
"""Overrides that make a model of milliseconds a step."""
