"""Numbers of a run: sums over all ranks, what is computed from them, and where they go.

`metrics.jsonl` holds one JSON object a line: `step`, `split` ("train" or "dev"), `loss`, … and
`languages`, an object per language. After a resume, lines past the restored step are dropped, so
that no step occurs twice.
"""

from __future__ import annotations

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

from speechvq.json_lines import read_json_lines

LANGUAGE_PREFIX = "language/"
"""Metric names of a language start with this, then the code, a slash, and the name."""

BOTTLENECK_PREFIX = "bottleneck/"
"""Those of a bottleneck start with this, then its place, a slash, and the name."""


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
    """Move `language/<code>/<name>` into `languages[<code>][<name>]`, those of bottlenecks
    likewise, and make values JSON-able.
    """
    nested: dict[str, Any] = {}
    for name, value in values.items():
        plain = _to_plain(value)
        for prefix, group in ((LANGUAGE_PREFIX, "languages"), (BOTTLENECK_PREFIX, "bottlenecks")):
            if name.startswith(prefix):
                owner, key = name.removeprefix(prefix).split("/", 1)
                nested.setdefault(group, {}).setdefault(owner, {})[key] = plain
                break
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
    """Appends lines to `metrics.jsonl`, one for each step and split.

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
        self._written = {(line["step"], line["split"]) for line in kept}

    def write(self, step: int, split: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Append one line, unless it is there: a validation may be repeated whole because a kill
        took a part of it. Returns the line.
        """
        line = {"step": step, "split": split, **nest_languages(values)}
        if (step, split) in self._written:
            return line
        self._written.add((step, split))
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        return line


def find_validations(path: Path, step: int) -> set[str]:
    """Return the names of the validations of a step that `metrics.jsonl` holds."""
    return {line["split"] for line in read_metrics(path) if line["step"] == step} - {"train"}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read `metrics.jsonl`; lines that a kill or the disk damaged are left out."""
    return [line for line in read_json_lines(path) if "step" in line and "split" in line]
