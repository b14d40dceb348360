"""The one interface of all quantisers: features in, discrete codes and their vectors out.

A quantiser sees the masked frames only, in the front end's normalised features; the
contrastive loss compares the Transformer's guesses with the vectors it returns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class QuantizerOutput:
    """What a quantiser says about M frames of each utterance.

    Attributes:
        vectors: (B, M, C) float, exactly `decode(codes)` in value.
        codes: (B, M, G) long.
        diversity_loss: () float32, 0 when all entries are used alike, towards 1 on collapse;
            differentiable.
        vq_loss: () float32 mean per frame, or None for quantisers that have none.
        soft_perplexity: (G,) float32, exp of the entropy of the mean soft assignment; from 1 to V.
    """

    vectors: Tensor
    codes: Tensor
    diversity_loss: Tensor
    vq_loss: Tensor | None
    soft_perplexity: Tensor


class Quantizer(nn.Module, ABC):
    """Base of all quantisers.

    Attributes:
        num_codebooks: G.
        codebook_size: V.
        output_dim: C, channels of the vectors, all codebooks together.
    """

    num_codebooks: int
    codebook_size: int
    output_dim: int

    @abstractmethod
    def forward(self, features: Tensor, *, temperature: float, valid: Tensor) -> QuantizerOutput:
        """Quantises for training.

        Args:
            features: (B, M, D) float.
            temperature: Of the Gumbel softmax; quantisers without one ignore it.
            valid: (B, M) bool, False = padding, which enters no statistic.

        Returns:
            The quantised frames.
        """

    @abstractmethod
    def place(self, features: Tensor, generator: torch.Generator) -> None:
        """Puts the codebooks where the data are, before training.

        Args:
            features: (N, D) float32 on the CPU, frames of much and varied speech; N at least V.
            generator: Of whatever is random in it, on the CPU.

        Raises:
            ValueError: There are too few frames.
        """

    def restart(self, unused: Tensor, features: Tensor, generator: torch.Generator) -> None:
        """Puts unused entries on frames, where entries can be moved one by one.

        Args:
            unused: (G, V) bool.
            features: (N, D) float32 on the CPU, frames of much and varied speech.
            generator: Chooses the frames, on the CPU.

        Raises:
            NotImplementedError: The entries of this quantiser cannot be moved one by one.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot restart single entries.")

    @abstractmethod
    def encode(self, features: Tensor) -> Tensor:
        """Finds codes without randomness.

        Args:
            features: (B, M, D) float.

        Returns:
            (B, M, G) long.
        """

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Looks codes up.

        Args:
            codes: (B, M, G) long.

        Returns:
            (B, M, C) float, bit for bit what `forward` returned with these codes.
        """
