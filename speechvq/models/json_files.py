"""Reads JSON that came from elsewhere: of bounded size, and never from a pipe or a device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from speechvq.errors import ModelError

_MAX_BYTES = 64 << 20


def read_json(path: Path, *, missing: str, damaged: str) -> Any:
    """Reads a JSON file.

    Args:
        path: The file.
        missing: What to say of one that does not exist, after its path.
        damaged: What to do about one that cannot be read.

    Raises:
        ModelError: It is missing, damaged, huge, or no regular file.
    """
    try:
        check_regular(path)
        if path.stat().st_size > _MAX_BYTES:
            raise ModelError(f"{path} must be at most {_MAX_BYTES >> 20} MB, but is larger.")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path} does not exist: {missing}.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read ({error}); {damaged}.") from error


def check_regular(path: Path) -> None:
    """Refuses pipes and devices, which may never end, and folders.

    Raises:
        ModelError: It is there and none of the kind.
    """
    if path.exists() and not path.is_file():
        raise ModelError(f"{path} must be a regular file, but is none.")
