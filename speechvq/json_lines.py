"""Files of one JSON object a line, which a run appends to while others read them."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file; lines that a kill or the disk damaged are left out.

    Args:
        path: The file; without it there are no lines.
    """
    if not path.exists():
        return []
    lines = []
    for text in path.read_bytes().splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(text))
    return [line for line in lines if isinstance(line, dict)]
