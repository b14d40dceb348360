"""A wheel built once, and fresh environments to put it into."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

_OFFLINE = ("failed to fetch", "error sending request", "dns error", "network was disabled")
"""What uv says when it reaches no index, in lower case."""


@pytest.fixture(scope="session")
def uv(checkout: Path) -> Callable[..., str]:
    """Runs the locked uv; returns what it printed. Skips the test where no index is reachable."""

    def run(*arguments: str | Path) -> str:
        process = subprocess.run(
            [sys.executable, "-m", "uv", *arguments],
            cwd=checkout,
            capture_output=True,
            text=True,
            check=False,
        )
        if process.returncode != 0:
            if any(sign in process.stderr.lower() for sign in _OFFLINE):
                pytest.skip(f"no package index is reachable: {process.stderr.strip()[-300:]}")
            pytest.fail(process.stderr[-3000:])
        return process.stdout + process.stderr

    return run


@pytest.fixture(scope="session")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """speechvq's wheel, built from its source distribution with the locked tools, offline."""
    output = tmp_path_factory.mktemp("dist")
    process = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", output, checkout],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout[-2000:] + process.stderr[-2000:]
    (built,) = output.glob("*.whl")
    return built


@pytest.fixture
def make_environment(tmp_path: Path) -> Callable[[], Path]:
    """Makes an empty virtual environment; returns its interpreter."""

    def make() -> Path:
        folder = tmp_path / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        return folder / "bin" / "python"

    return make
