"""Toy 1 of METHODS A.6: an autoencoder whose bottleneck is one codebook."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechvq.models.build import create_quantizer
from speechvq.models.config import QuantizerConfig
from speechvq.nn.gumbel_quantizer import gumbel_temperature
from tests.acceptance.toy_speech import NUM_MELS, create_toy_speech

CODE_DIM = 64
HIDDEN_DIM = 128
NUM_FRAMES = 512
NUM_HELD_OUT = 20_480


@dataclass(frozen=True)
class AutoencoderResult:
    """What an autoencoder reached on 20,480 held-out frames.

    Attributes:
        utilisation: Share of the entries that were chosen at least once.
        perplexity: exp of the entropy of the codes.
        error: Mean square error of the reconstruction.
    """

    utilisation: float
    perplexity: float
    error: float


class ToyAutoencoder(nn.Module):
    """Two hidden layers on each side of a quantiser; the quantiser's own projection is the
    encoder's last layer.
    """

    def __init__(self, config: QuantizerConfig, *, normalizes: bool) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(NUM_MELS, HIDDEN_DIM),
            nn.GELU(),
            nn.Linear(HIDDEN_DIM, HIDDEN_DIM),
            nn.LayerNorm(HIDDEN_DIM) if normalizes else nn.GELU(),
        )
        self.quantizer = create_quantizer(config, HIDDEN_DIM)
        self.decoder = nn.Sequential(
            nn.Linear(config.code_dim, HIDDEN_DIM),
            nn.GELU(),
            nn.Linear(HIDDEN_DIM, HIDDEN_DIM),
            nn.GELU(),
            nn.Linear(HIDDEN_DIM, NUM_MELS),
        )

    def encode(self, frames: Tensor) -> Tensor:
        """Codes (N,) of frames (N, 40)."""
        return self.quantizer.encode(self.encoder(frames)[None])[0, :, 0]


def train_autoencoder(
    config: QuantizerConfig,
    *,
    seed: int,
    num_steps: int = 1500,
    vq_weight: float = 1.0,
    normalizes: bool = False,
) -> AutoencoderResult:
    """Trains with Adam (1e-3, 0.5, 0.9) on 512 new frames a step and measures.

    Args:
        config: One codebook.
        seed: Of data and weights.
        num_steps: Updates.
        vq_weight: Weight of the whole loss of the codebook, both of its terms.
        normalizes: Layer norm before the quantiser's projection.
    """
    torch.manual_seed(seed)
    speech = create_toy_speech(seed)
    generator = torch.Generator().manual_seed(seed + 1000)
    model = ToyAutoencoder(config, normalizes=normalizes)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.5, 0.9))
    valid = torch.ones(1, NUM_FRAMES, dtype=torch.bool)
    for step in range(num_steps):
        frames, _ = speech.draw_frames(NUM_FRAMES, generator)
        temperature = gumbel_temperature(step, 2.0, 0.5, 0.999)
        output = model.quantizer(model.encoder(frames)[None], temperature=temperature, valid=valid)
        loss = F.mse_loss(model.decoder(output.vectors[0]), frames)
        if output.vq_loss is not None:
            loss = loss + vq_weight * output.vq_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return measure_autoencoder(model, *speech.draw_frames(NUM_HELD_OUT, generator))


@torch.no_grad()
def measure_autoencoder(model: ToyAutoencoder, frames: Tensor, phones: Tensor) -> AutoencoderResult:
    """Utilisation, perplexity and reconstruction of held-out frames (N, 40)."""
    model.eval()
    codes = model.encode(frames)
    counts = torch.bincount(codes, minlength=model.quantizer.codebook_size)
    share = counts[counts > 0] / len(codes)
    decoded = model.decoder(model.quantizer.decode(codes[None, :, None])[0])
    return AutoencoderResult(
        utilisation=float((counts > 0).float().mean()),
        perplexity=float((-(share * share.log()).sum()).exp()),
        error=float(F.mse_loss(decoded, frames)),
    )
