"""What disks and power cuts do to files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def truncate(path: Path) -> None:
    """Cut the second half off."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    """Leave the name and nothing else."""
    path.write_bytes(b"")


def zero(path: Path) -> None:
    """Keep the size, with zeros for content."""
    path.write_bytes(bytes(path.stat().st_size))


def flip_bit(path: Path) -> None:
    """Change one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(bytes(content))


def remove(path: Path) -> None:
    """Take it away."""
    path.unlink()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "truncated": truncate, "empty": empty, "zeroed": zero, "bit-flipped": flip_bit,
    "missing": remove,
}  # fmt: skip
