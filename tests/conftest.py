"""What all tests share: few threads, no network, and the way to real speech."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before anything imports torch. One thread: a tiny model gains nothing from more, and `make test`
# runs one process per core.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Whoever looks something up or reports something during a test has made a mistake.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "disabled")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the checkout that is under test."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real speech: $SPEECHVQ_DATA, or shared/data beside the checkout."""
    path = Path(os.environ.get("SPEECHVQ_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real speech here: {path} is not a directory (SPEECHVQ_DATA names one)")
    return path


@pytest.fixture(autouse=True)
def _limit_torch_threads() -> Iterator[None]:
    """A test that changes torch's number of threads must not slow down the next one."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else None
    yield
    if torch and before is not None and torch.get_num_threads() != before:
        torch.set_num_threads(before)
