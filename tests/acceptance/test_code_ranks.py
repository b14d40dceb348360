"""Two ranks that restart codes of a bottleneck have the same ones afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import multiprocessing

from tests.acceptance.code_ranks import run_rank


@pytest.mark.slow
def test_restarted_codes_are_those_of_the_first_rank(tmp_path: Path) -> None:
    multiprocessing.start_processes(run_rank, args=(tmp_path,), nprocs=2, start_method="spawn")
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    assert torch.equal(first["after"], second["after"])
    is_changed = (first["after"] != first["before"]).any(-1)
    assert is_changed.nonzero()[:, 1].tolist() == [0, 0]
