"""Each tier installs: the locked ones for real; all of them, unlocked, by resolving."""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

# fmt: off
TIERS = (
    "base", "train", "prep", "fetch", "indic", "lhotse", "lm", "onnx", "phones", "cloud", "media",
    "text", "demo", "slurm", "sweep", "all", "dev",
)
# fmt: on
WITHOUT_WHEEL = (
    *("--no-binary", "antlr4-python3-runtime", "--no-binary", "docopt"),
    *("--no-binary", "unicodecsv"),
)
NOT_IN_BASE = (
    *("fairseq2", "torchaudio", "transformers", "silero_vad", "av", "sentencepiece"),
    *("lhotse", "yt_dlp", "indicnlp", "gcsfs", "flashlight"),
)


def test_every_extra_is_a_tier_here(checkout: Path) -> None:
    settings = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    assert {"base", *settings["project"]["optional-dependencies"]} == set(TIERS)


@pytest.mark.long
@pytest.mark.parametrize("tier", TIERS)
def test_tier_resolves_today(uv: Callable[..., str], tmp_path: Path, tier: str) -> None:
    """Without the lock, as `pip install "speechvq[tier]"` does; two small parsers are built."""
    extra = [] if tier == "base" else ["--extra", tier]
    output = tmp_path / "resolved.txt"
    uv(
        *("pip", "compile", "--quiet", "--python-version", "3.11", "--only-binary", ":all:"),
        *(*WITHOUT_WHEEL, "pyproject.toml", "-o", output, *extra),
    )
    resolved = output.read_text(encoding="utf-8")
    assert "\ntorch==" in resolved
    assert (
        "\nhydra-core==1.3" in resolved
    )  # a resolver that refuses source packages falls back to 0.11
    assert ("\nfairseq2==0.8.1" in resolved) == (tier in ("train", "all"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("tier", ["base", "train"])
def test_locked_tier_installs_and_imports(
    wheel: Path,
    checkout: Path,
    make_environment: Callable[[], Path],
    uv: Callable[..., str],
    tmp_path: Path,
    tier: str,
) -> None:
    """A machine without a checkout: the tier's lock, then the wheel, nothing else."""
    python = make_environment()
    requirements = checkout / "requirements"
    uv(
        *("pip", "sync", "--python", python, "--require-hashes", "--only-binary", ":all:"),
        *WITHOUT_WHEEL,
        *("--build-constraints", requirements / "build.txt", requirements / f"{tier}.txt"),
    )
    uv("pip", "install", "--python", python, "--no-deps", "--offline", wheel)
    program = (
        "import importlib, importlib.util, pkgutil\n"
        "import speechvq.data, speechvq.decoding, speechvq.models\n"
        "for package in (speechvq.models, speechvq.decoding, speechvq.data):\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        f"there = [n for n in {NOT_IN_BASE!r} if importlib.util.find_spec(n)]\n"
        "print(*there)\n"
    )
    process = subprocess.run(
        [python, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr[-3000:]
    expected = {"base": [], "train": ["fairseq2", "torchaudio", "transformers", "sentencepiece"]}
    assert process.stdout.split() == expected[tier]
    doctor = subprocess.run(
        [python.parent / "speechvq", "doctor"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert doctor.returncode == 0, doctor.stdout
