"""What each of two ranks does in `test_ema_ranks`: its own module, as a spawned process imports it
by name.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor

from speechvq.nn.ema_quantizer import EMAQuantizer

INPUT_DIM, CODE_DIM, NUM_CODEBOOKS, SIZE = 12, 8, 2, 16
NUM_STEPS = 6


def create_quantizer(restart_share: float) -> EMAQuantizer:
    """The same on all ranks."""
    torch.manual_seed(0)
    quantizer = EMAQuantizer(
        INPUT_DIM,
        CODE_DIM,
        num_codebooks=NUM_CODEBOOKS,
        codebook_size=SIZE,
        commitment=0.25,
        rotates=False,
        decay=0.8,
        restart_share=restart_share,
    )
    quantizer.codebook[:, SIZE // 2 :] += 50.0  # far from every frame
    quantizer.average_sum.copy_(quantizer.codebook)
    return quantizer.train()


def draw_batch(rank: int, step: int, case: str) -> tuple[Tensor, Tensor]:
    """Features (2, 30, D) of a rank and which are valid, by the name of the case."""
    generator = torch.Generator().manual_seed(10 * step + rank)
    features = torch.randn(2, 30, INPUT_DIM, generator=generator) + rank
    valid = torch.ones(2, 30, dtype=torch.bool)
    valid[1, 20 + step :] = False
    if case == f"empty {rank}":
        valid[:] = False
    if case == f"nan {rank}":
        features[0, 3, 1] = torch.nan
    if case == f"infinite {rank}":
        features[1, 2, 5] = torch.inf
    return features, valid


def get_buffers(quantizer: EMAQuantizer) -> dict[str, Tensor]:
    """Copies of what the averages consist of."""
    names = ("codebook", "average_count", "average_sum")
    return {name: getattr(quantizer, name).clone() for name in names}


def run_rank(rank: int, directory: Path, cases: list[tuple[str, float]]) -> None:
    """Trains each case for some steps and saves the buffers after each step."""
    dist.init_process_group(
        "gloo",
        init_method=f"file://{directory / 'meeting'}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=120),
    )
    tensors: dict[str, Tensor] = {}
    for case, restart_share in cases:
        quantizer = create_quantizer(restart_share)
        torch.manual_seed(100 + rank)  # ranks draw differently, as in training
        for step in range(NUM_STEPS):
            features, valid = draw_batch(rank, step, case)
            quantizer(features, temperature=1.0, valid=valid)
            for name, value in get_buffers(quantizer).items():
                tensors[f"{case}/{restart_share}/{step}/{name}"] = value
    save_file(tensors, directory / f"{rank}.safetensors")
    dist.destroy_process_group()
