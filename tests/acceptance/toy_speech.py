"""Log-mel-like frames of known phones: what the toys learn from (METHODS: A.6)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NUM_MELS = 40
NUM_PHONES = 40
NUM_SPEAKERS = 20
LEVEL = -4.0
"""Mean of all frames: log-mel energies are far from zero."""
NUM_CEPSTRA = 13
PHONE_SCALE, SPEAKER_SCALE, FRAME_SCALE, NOISE_SCALE = 1.0, 0.4, 0.3, 0.2
"""Standard deviations: smooth spectra of phones, speakers and single frames; noise of each bin."""
SMALLEST_DURATION, LARGEST_DURATION = 1, 3
"""Frames. Spans of 5 then hide two and a half phones, as wav2vec 2.0's 200 ms do of 80 ms each."""


@dataclass(frozen=True)
class ToySpeech:
    """The sounds of a language and the voices of its speakers.

    Attributes:
        phones: (40, 40), the spectrum of each phone.
        speakers: (20, 40), what each speaker adds to it.
        curves: (13, 40), smooth curves of which all spectra are made: low cepstra.
    """

    phones: Tensor
    speakers: Tensor
    curves: Tensor

    def draw_frames(self, num_frames: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Frames of random phones and speakers, each by itself: (N, 40) and phones (N,)."""
        phones = torch.randint(NUM_PHONES, (num_frames,), generator=generator)
        speakers = torch.randint(NUM_SPEAKERS, (num_frames,), generator=generator)
        return self._speak(phones, speakers, generator), phones

    def draw_sequences(
        self, num_sequences: int, num_frames: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Utterances of one speaker each, phones lasting 1 to 3 frames: (B, T, 40) and (B, T)."""
        phones = torch.stack(
            [self._draw_phones(num_frames, generator) for _ in range(num_sequences)]
        )
        speakers = torch.randint(NUM_SPEAKERS, (num_sequences, 1), generator=generator)
        return self._speak(phones, speakers.expand_as(phones), generator), phones

    def _draw_phones(self, num_frames: int, generator: torch.Generator) -> Tensor:
        size = -(-num_frames // SMALLEST_DURATION)
        durations = torch.randint(
            SMALLEST_DURATION, LARGEST_DURATION + 1, (size,), generator=generator
        )
        phones = torch.randint(NUM_PHONES, (size,), generator=generator)
        return phones.repeat_interleave(durations)[:num_frames]

    def _speak(self, phones: Tensor, speakers: Tensor, generator: torch.Generator) -> Tensor:
        varied = torch.randn(*phones.shape, NUM_CEPSTRA, generator=generator) @ self.curves
        noise = torch.randn(*phones.shape, NUM_MELS, generator=generator)
        spectra = self.phones[phones] + self.speakers[speakers]
        return LEVEL + spectra + FRAME_SCALE * varied + NOISE_SCALE * noise


def create_toy_speech(seed: int) -> ToySpeech:
    """A language and its speakers."""
    generator = torch.Generator().manual_seed(seed)
    curves = _create_curves()
    phones = torch.randn(NUM_PHONES, NUM_CEPSTRA, generator=generator) @ curves
    speakers = torch.randn(NUM_SPEAKERS, NUM_CEPSTRA, generator=generator) @ curves
    return ToySpeech(PHONE_SCALE * phones, SPEAKER_SCALE * speakers, curves)


def _create_curves() -> Tensor:
    """Cosines over the mel axis, slower ones larger; random sums of them have unit variance."""
    order = torch.arange(NUM_CEPSTRA, dtype=torch.float32)[:, None]
    bins = (torch.arange(NUM_MELS, dtype=torch.float32) + 0.5) / NUM_MELS
    curves = torch.cos(torch.pi * order * bins) / (1 + order / 4)
    return curves / curves.square().sum(0).mean().sqrt()
