"""Numbers of a run: sums over all ranks, what is computed from them, and where they go.

`metrics.jsonl` holds one JSON object a line: `step`, `split` ("train" or "dev"), `loss`, … and
`languages`, an object per language. After a resume, lines past the restored step are dropped, so
that no step occurs twice.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torcheval.metrics import Metric
from typing_extensions import override

LANGUAGE_PREFIX = "language/"
"""Metric names of a language start with this, then the code, a slash, and the name."""


class TensorSum(Metric[Tensor]):
    """A sum of tensors of one shape, over batches and ranks; fp64.

    Args:
        shape: Shape of what is summed.
    """

    total: Tensor

    def __init__(self, shape: tuple[int, ...], device: torch.device | None = None) -> None:
        super().__init__(device=device)
        self._add_state("total", torch.zeros(shape, dtype=torch.float64, device=self.device))

    @override
    @torch.inference_mode()
    def update(self, value: Tensor) -> Self:
        self.total += value.detach().to(self.total)
        return self

    @override
    @torch.inference_mode()
    def compute(self) -> Tensor:
        return self.total.clone()

    @override
    @torch.inference_mode()
    def merge_state(self, metrics: Iterable[Self]) -> Self:
        for metric in metrics:
            self.total += metric.total.to(self.device)
        return self


def compute_perplexity(counts: Tensor) -> Tensor:
    """Compute exp of the entropy of code counts.

    Args:
        counts: How often each entry was chosen (…, V).

    Returns:
        Perplexity (…), between 1 and V; 0 where nothing was counted.
    """
    totals = counts.sum(-1, keepdim=True)
    shares = counts / totals.clamp(min=1)
    entropy = -(shares * shares.clamp(min=1e-12).log()).sum(-1)
    return torch.where(totals.squeeze(-1) > 0, entropy.exp(), torch.zeros_like(entropy))


def pop_tensor(values: MutableMapping[str, Any], name: str) -> Tensor:
    """Take a sum out of the values of an interval, onto the CPU."""
    value = values.pop(name)
    assert isinstance(value, Tensor)
    return value.cpu()


def nest_languages(values: Mapping[str, Any]) -> dict[str, Any]:
    """Move `language/<code>/<name>` into `languages[<code>][<name>]`, and make values JSON-able."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        plain = _to_plain(value)
        if name.startswith(LANGUAGE_PREFIX):
            code, key = name.removeprefix(LANGUAGE_PREFIX).split("/", 1)
            nested.setdefault("languages", {}).setdefault(code, {})[key] = plain
        else:
            nested[name] = plain
    return nested


def _to_plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_to_plain(item) for item in value]
    if isinstance(value, float):
        # JSON has no NaN; null says "not a number" to every reader.
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


class MetricsFile:
    """Appends lines to `metrics.jsonl`.

    Args:
        path: The file.
        first_step: Lines at or past this step are dropped first (they will be written again).
    """

    def __init__(self, path: Path, first_step: int) -> None:
        self._path = path
        kept = [line for line in read_metrics(path) if line["step"] < first_step]
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        temporary.replace(path)

    def write(self, step: int, split: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Append one line and return it."""
        line = {"step": step, "split": split, **nest_languages(values)}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        return line


def has_validation(path: Path, step: int) -> bool:
    """Tell whether `metrics.jsonl` holds the validation of a step."""
    return any(line["step"] == step and line["split"] == "dev" for line in read_metrics(path))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read `metrics.jsonl`; lines that a kill or the disk damaged are left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_bytes().splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(text))
    return [line for line in lines if isinstance(line, dict)]
