"""A recogniser that hears what a waveform spells, and rows of concepts."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from speechvq.analysis.concept_files import ConceptKind, ConceptRow
from speechvq.models.config import CTCModelConfig, EncoderConfig, FbankConfig, Features
from speechvq.nn.places import Place

HOP = 320
STRENGTH = 5.0
NEUTRAL = 7
TEXTS = {"mdw_Latn": "ab ba ab", "hin_Deva": "कख खक कख"}


def create_config(num_layers: int = 2, ffn_dim: int = 16) -> CTCModelConfig:
    return CTCModelConfig(
        features=Features.fbank,
        fbank=FbankConfig(num_mels=20),
        encoder=EncoderConfig(
            num_layers=num_layers,
            model_dim=16,
            num_heads=2,
            ffn_dim=ffn_dim,
            position_kernel=8,
            position_groups=2,
            norm_first=True,
        ),
    )


class SpelledFrontEnd(nn.Module):
    """Reads a label from the level of each frame: the waveform spells what is said."""

    output_dim = 8
    frame_samples = HOP

    def num_frames(self, num_samples: int) -> int:
        return num_samples // HOP

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        frames = waveform[:, : waveform.size(1) // HOP * HOP].unflatten(1, (-1, HOP)).mean(-1)
        labels = (10 * frames).round().long()
        return nn.functional.one_hot(labels, 8).float(), lengths // HOP


class NoPositions(nn.Module):
    def forward(self, frames: Tensor) -> Tensor:
        return torch.zeros_like(frames)


def spell(labels: list[int]) -> np.ndarray:
    """A waveform that the planted recogniser hears as these labels, one a frame."""
    return np.repeat(np.array(labels, dtype=np.float32) / 10, HOP)


def create_row(
    kind: ConceptKind, name: str, place: Place, head: int, code: int, codes: tuple[int, ...]
) -> ConceptRow:
    return ConceptRow(
        kind=kind,
        concept=name,
        layer=place.layer,
        site=place.site,
        head=head,
        code=code,
        codes=codes,
        precision=0.5,
        recall=0.5,
        support=9,
        lift=2.0,
        union_precision=0.5,
        union_recall=0.5,
        dev_precision=0.5 + 0.1 * head,
        dev_recall=0.5,
        dev_support=9,
    )
