"""Pretraining that goes on from a model: what is kept of it, what is new, and what is forgotten.

The encoder is always kept. The quantiser and its task are kept where the configuration asks for the
same ones; otherwise they are new, so that any quantiser can be put on any pretrained encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from speechvq.errors import ConfigError
from speechvq.models.config import Features, FSQConfig, PretrainModelConfig
from speechvq.models.directory import read_model_config
from speechvq.models.pretrain_model import PretrainModel
from speechvq.nn.bottleneck_sites import attach_alike
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
        are_there: Whether the model had codebooks of its own; an imported one may have got random
            ones instead.
    """

    quantizer: bool
    task: bool
    are_there: bool = True

    def describe(self, init: str) -> str:
        """Say it in a sentence."""
        if self.quantizer and self.task:
            return f"Goes on from {init} with its codebooks; the optimiser starts anew."
        if self.quantizer:
            return f"Goes on from {init} with its codebooks; the task's projections are new."
        reason = (
            "`architecture.quantizer` asks for others"
            if self.are_there
            else "the checkpoint that it was imported from has none"
        )
        return (
            f"Goes on from the encoder of {init}; codebooks and the task's projections are new, as "
            f"{reason}."
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


def read_fresh(init: str) -> frozenset[str]:
    """Parts of an imported model that have learned nothing, as its checkpoint lacked them.

    Args:
        init: The model's directory.

    Returns:
        Names of parts, such as "quantizer"; empty for models that were not imported.

    Raises:
        ModelError: The directory cannot be read.
    """
    training = read_model_config(init)["training"]
    fresh = training.get("fresh") if isinstance(training, Mapping) else None
    return frozenset(map(str, fresh)) if isinstance(fresh, list) else frozenset()


def find_kept(
    source: PretrainModel, model: PretrainModel, fresh: frozenset[str] = frozenset()
) -> Kept:
    """Tell which parts of a model fit into another with the same encoder.

    Args:
        source: The model to go on from.
        model: The new one.
        fresh: What `read_fresh` returned: parts of `source` that are not worth keeping.
    """
    before, now = source.config.quantizer, model.config.quantizer
    quantizer = "quantizer" not in fresh
    quantizer = quantizer and type(before) is type(now)
    quantizer = quantizer and have_equal_shapes(source.quantizer, model.quantizer)
    if isinstance(before, FSQConfig) and isinstance(now, FSQConfig):
        quantizer = quantizer and list(before.levels) == list(now.levels)
    task = (
        quantizer
        and "task" not in fresh
        and source.config.objective is model.config.objective
        and have_equal_shapes(source.task, model.task)
    )
    return Kept(quantizer, task, "quantizer" not in fresh)


def have_equal_shapes(first: nn.Module, second: nn.Module) -> bool:
    """Tell whether the state of one module fits into another."""
    shapes = [
        {name: value.shape for name, value in part.state_dict().items()} for part in (first, second)
    ]
    return shapes[0] == shapes[1]


def load_kept(
    source: PretrainModel, model: PretrainModel, fresh: frozenset[str] = frozenset()
) -> Kept:
    """Copy what fits from a model into a new one; see `find_kept`."""
    kept = find_kept(source, model, fresh)
    attach_alike(model, source)
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
