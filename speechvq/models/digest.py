"""What tells one model from another, whatever its directory is called."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def compute_model_digest(directory: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 over the files that make a model what it is."""
    digest = hashlib.sha256()
    for path in sorted(Path(directory).iterdir()):
        if path.name in ("config.json", "vocab.json") or path.suffix == ".safetensors":
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return f"sha256:{digest.hexdigest()}"
