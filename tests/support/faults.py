"""Faults that a run of the fork server can be given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def install_faults(faults: Mapping[str, Any]) -> None:
    """Make things go wrong in this process."""
    for name, value in faults.items():
        globals()[f"_install_{name}"](value)
