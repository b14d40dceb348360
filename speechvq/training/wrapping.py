"""What the engine does to a model without changing what it computes: sharding, recomputing,
compiling. The encoder's layers are the units of all three.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from torch.nn import Module
from torch.utils.checkpoint import checkpoint

LAYERS = "encoder.transformer.layers"
"""Where both kinds of model keep the layers of their encoder."""


def apply_fsdp(model: Module, granularity: str, wrapper: Any) -> Module:
    """Shard each encoder layer, then the rest."""
    for name, layer in _list_layers(model):
        setattr(model.get_submodule(LAYERS), name, wrapper(layer))
    wrapped: Module = wrapper(model, reshard_after_forward=False)
    return wrapped


def apply_checkpointing(model: Module, every_nth_layer: int) -> Module:
    """Keep only the inputs of encoder layers, and compute the rest again in the backward pass.

    Names of parameters stay; dropout draws the same numbers again.

    Args:
        model: Has the layers.
        every_nth_layer: Of how many layers one is computed again.
    """
    for number, (_, layer) in enumerate(_list_layers(model)):
        if number % every_nth_layer == 0:
            recomputed = functools.partial(checkpoint, layer.forward, use_reentrant=False)
            layer.forward = recomputed
    return model


def compile_layers(model: Module, **options: Any) -> None:
    """Compile each encoder layer, which all share their code, with `torch.compile`.

    Self-attention stays as it is: it is one fused kernel already, and inductor of torch 2.9.1 takes
    a wrong stride for its mask in the backward pass on the CPU when lengths change.
    """
    for _, layer in _list_layers(model):
        attention = layer.get_submodule("attention")
        attention.forward = torch.compiler.disable(attention.forward)
        layer.compile(**options)


def unshard_model(model: Module, create: Callable[[], Module]) -> Module:
    """Return a model that can be saved: itself, or a copy if FSDP has sharded it.

    Args:
        model: The model that learns; if sharded, with its full parameters summoned.
        create: Makes a plain model of the same architecture.
    """
    if not isinstance(model, FSDPModule):
        return model
    # `state_dict` of a sharded model would shard it again.
    values = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    copy = create()
    copy.load_state_dict({name: values[name] for name in copy.state_dict()})
    return copy


def _list_layers(model: Module) -> Iterator[tuple[str, Module]]:
    return iter(list(model.get_submodule(LAYERS).named_children()))
