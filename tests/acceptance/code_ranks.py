"""What each of two ranks does in `test_code_ranks`: its own module, as a spawned process imports
it.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from speechvq.nn.bottleneck import Bottleneck
from speechvq.nn.code_placement import restart_unused


def run_rank(rank: int, directory: Path) -> None:
    """Restarts other codes on each rank, as rounding may have it, and saves them."""
    dist.init_process_group(
        "gloo",
        init_method=f"file://{directory / 'meeting'}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=120),
    )
    torch.manual_seed(0)
    bottleneck = Bottleneck(8, num_codebooks=2, codebook_size=5, num_active=1)
    before = bottleneck.codebooks.detach().clone()
    counts = torch.ones(2, 5, dtype=torch.long)
    counts[:, rank] = 0
    restart_unused(bottleneck, counts, torch.randn(20, 2, 4), torch.Generator().manual_seed(1))
    tensors = {"before": before, "after": bottleneck.codebooks.detach().clone()}
    save_file(tensors, directory / f"{rank}.safetensors")
    dist.destroy_process_group()
