"""What an output directory already holds: results of the same configuration, or something else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from speechvq.errors import ConfigError


def check_earlier_results(
    file: Path,
    kind: str,
    name: str,
    is_same: Callable[[str, Any, Any], bool],
    config: Mapping[str, Any],
) -> None:
    """Refuses an output directory that holds something else.

    Args:
        file: JSON with the keys `kind` and `config`, which stands where results are complete.
        kind: Of the results that will be written.
        name: Of such results: "analysis".
        is_same: Whether the values of a key, now and before, give the same results.
        config: JSON values of the configuration.

    Raises:
        ConfigError: It holds results of another configuration, or of another kind.
    """
    if not file.exists():
        return
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        before = found["config"] if found["kind"] == kind else None
    except (ValueError, KeyError, TypeError, OSError):
        before = None
    if not isinstance(before, dict):
        raise ConfigError(
            [f"`output` must be a new directory, but {file.parent} holds other results."]
        )
    different = [
        f"`{key}` is {value!r} now and was {before.get(key)!r}"
        for key, value in config.items()
        if not is_same(key, value, before.get(key))
    ]
    if different:
        raise ConfigError(
            [
                f"`output` must be a new directory, but {file.parent} holds another {name}: "
                f"{'; '.join(different)}. Take another `output`, or remove that directory."
            ]
        )
