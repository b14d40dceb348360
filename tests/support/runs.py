"""Starts recipes as users do: as processes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def create_environment(**changes: str) -> dict[str, str]:
    """Return the environment of a recipe in a test: one thread, no rank."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    }
    return {**environment, "OMP_NUM_THREADS": "1", **changes}


def create_command(verb: str, arguments: Sequence[str], ranks: int = 1) -> list[str]:
    """Return the command line of a recipe, under torchrun if there are several ranks."""
    if ranks == 1:
        return [sys.executable, "-m", f"recipes.{verb}", *arguments]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    return [sys.executable, *launcher, "-m", f"recipes.{verb}", *arguments]


def run_recipe(
    verb: str, arguments: Sequence[str], *, ranks: int = 1, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run a recipe to its end."""
    return subprocess.run(
        create_command(verb, arguments, ranks),
        cwd=ROOT,
        env=create_environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def start_recipe(verb: str, arguments: Sequence[str], *, ranks: int = 1) -> subprocess.Popen[str]:
    """Start a recipe in a process group of its own; its output is one stream."""
    return subprocess.Popen(
        create_command(verb, arguments, ranks),
        cwd=ROOT,
        env=create_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def hash_weights(run: Path) -> str:
    """Return the digest of the weights that a run left."""
    return hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest()
