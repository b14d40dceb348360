"""Pretraining that goes on from a model: what is kept of it, what is new, and what is forgotten.

The encoder is always kept. The quantiser and its task are kept where the configuration asks for the
same ones; otherwise they are new, so that any quantiser can be put on any pretrained encoder.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from speechvq.errors import ConfigError
from speechvq.models.config import Features, FSQConfig, PretrainModelConfig
from speechvq.models.directory import read_model_config
from speechvq.models.pretrain_model import PretrainModel
from speechvq.training.report import get_task_loss

SHAPES_OF_ENCODER = (
    "num_layers", "model_dim", "num_heads", "ffn_dim", "norm_first", "position_kernel",
    "position_groups", "conv_kernel",
)  # fmt: skip
"""Keys of the encoder that a model cannot change when it goes on; dropouts may."""


@dataclass(frozen=True)
class Kept:
    """What a run keeps of the model that it starts from, besides the encoder.

    Attributes:
        quantizer: Whether the codebooks are kept.
        task: Whether the projections of the task are kept.
    """

    quantizer: bool
    task: bool

    def describe(self, init: str) -> str:
        """Say it in a sentence."""
        if self.quantizer and self.task:
            return f"Goes on from {init} with its codebooks; the optimiser starts anew."
        if self.quantizer:
            return f"Goes on from {init} with its codebooks; the task's projections are new."
        return (
            f"Goes on from the encoder of {init}; codebooks and the task's projections are new: "
            "the model was imported without, or `architecture.quantizer` asks for others."
        )


def check_init(found: PretrainModelConfig, wanted: PretrainModelConfig, init: str) -> None:
    """Refuse an architecture that the encoder of a model does not fit.

    Args:
        found: The model's configuration.
        wanted: The run's.
        init: The model's directory.

    Raises:
        ConfigError: Names every key that differs.
    """
    front_end = wanted.features.value
    pairs: list[tuple[str, Any, Any]] = [("features", found.features.value, front_end)]
    if found.features is wanted.features:
        sections = (
            (found.fbank, wanted.fbank)
            if wanted.features is Features.fbank
            else (found.waveform, wanted.waveform)
        )
        before, now = (asdict(section) for section in sections)
        pairs += [(f"architecture.{front_end}.{key}", before[key], now[key]) for key in now]
    pairs += [
        (f"architecture.encoder.{key}", getattr(found.encoder, key), getattr(wanted.encoder, key))
        for key in SHAPES_OF_ENCODER
    ]
    problems = [
        f"`{key}` must be that of the model in `init` ({init}), {before!r}, but is {now!r}."
        for key, before, now in pairs
        if before != now
    ]
    if problems:
        raise ConfigError([*problems, "Leave these keys out: they follow `init`."])


def read_untrained(directory: str) -> frozenset[str]:
    """Parts of an imported model, "quantizer" or "task", that its source did not have."""
    training = read_model_config(directory).get("training") or {}
    return frozenset(str(part) for part in training.get("fresh") or [])


def find_kept(source: PretrainModel, model: PretrainModel, untrained: Collection[str] = ()) -> Kept:
    """Tell which parts of a model fit into another with the same encoder.

    Args:
        source: The model to go on from.
        model: The new one.
        untrained: Parts of the model that are not worth keeping; see `read_untrained`.
    """
    before, now = source.config.quantizer, model.config.quantizer
    quantizer = (
        "quantizer" not in untrained
        and type(before) is type(now)
        and have_equal_shapes(source.quantizer, model.quantizer)
    )
    if isinstance(before, FSQConfig) and isinstance(now, FSQConfig):
        quantizer = quantizer and list(before.levels) == list(now.levels)
    task = (
        quantizer
        and "task" not in untrained
        and source.config.objective is model.config.objective
        and have_equal_shapes(source.task, model.task)
    )
    return Kept(quantizer, task)


def have_equal_shapes(first: nn.Module, second: nn.Module) -> bool:
    """Tell whether the state of one module fits into another."""
    shapes = [
        {name: value.shape for name, value in part.state_dict().items()} for part in (first, second)
    ]
    return shapes[0] == shapes[1]


def load_kept(source: PretrainModel, model: PretrainModel, untrained: Collection[str] = ()) -> Kept:
    """Copy what fits from a model into a new one; see `find_kept`."""
    kept = find_kept(source, model, untrained)
    model.encoder.load_state_dict(source.encoder.state_dict())
    if kept.quantizer:
        model.quantizer.load_state_dict(source.quantizer.state_dict())
    if kept.task:
        model.task.load_state_dict(source.task.state_dict())
    return kept


def summarize_forgetting(lines: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Put losses before the first update beside those after the last.

    Args:
        lines: Of `metrics.jsonl`.

    Returns:
        Split → language → [loss before, loss after], nats per masked frame.
    """
    changes: dict[str, dict[str, list[float]]] = {}
    for split in sorted({line["split"] for line in lines} - {"train"}):
        chosen = [line for line in lines if line["split"] == split and line.get("languages")]
        if not chosen or chosen[0]["step"] != 0:
            continue
        first, last = chosen[0]["languages"], chosen[-1]["languages"]
        changes[split] = {
            code: [get_task_loss(first[code]), get_task_loss(last[code])]
            for code in sorted(first.keys() & last.keys())
        }
    return changes
