"""Puts bottlenecks of codes into a Transformer encoder, and takes them out again.

The encoder keeps its class and its weights. A bottleneck becomes a child of the module whose input
or output it replaces, by a hook: it moves, trains and is saved with the model, and after
`detach_bottlenecks` the model is what it was.

    attach_bottleneck(model, Place(3, Site.heads), codebook_size=512, num_active=8)
    found = {}
    with capture_codes(model, found.__setitem__):
        model(waveform, lengths, language="hin_Deva")
    found[Place(3, Site.heads)].codes  # (B, T, H, k)

Any module will do whose `EncoderLayer`s are counted from 0 in the order of `modules()`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from speechvq.nn.bottleneck import Bottleneck, BottleneckOutput
from speechvq.nn.places import Place, Site
from speechvq.nn.transformer import EncoderLayer

CHILD = "bottleneck"
"""Name of a bottleneck below the module that it belongs to."""


@dataclass
class Attachment:
    """What a bottleneck has to know while the model runs; nothing of it is saved.

    Attributes:
        handles: Its hooks.
        padding: (B, T) bool of the batch that its layer works on.
        receivers: Called with every output.
        edits: Change the codes, one after another.
        additions: Change the means (B, T, D) that the layer goes on with, one after another.
        is_bypassed: Whether frames pass as they are; receivers are called all the same.
    """

    handles: list[RemovableHandle] = field(default_factory=list)
    padding: Tensor | None = None
    receivers: list[Callable[[BottleneckOutput], None]] = field(default_factory=list)
    edits: list[Callable[[Tensor], Tensor]] = field(default_factory=list)
    additions: list[Callable[[BottleneckOutput, Tensor], Tensor]] = field(default_factory=list)
    is_bypassed: bool = False

    def edit(self, codes: Tensor) -> Tensor:
        """All edits of (B, T, G, k) codes."""
        for edit in self.edits:
            codes = edit(codes)
        return codes


class AttachedBottleneck(Bottleneck):
    """A bottleneck that stands in an encoder; see `Bottleneck` for the arguments."""

    def __init__(
        self, model_dim: int, *, num_codebooks: int, codebook_size: int, num_active: int
    ) -> None:
        super().__init__(
            model_dim,
            num_codebooks=num_codebooks,
            codebook_size=codebook_size,
            num_active=num_active,
        )
        self.attachment = Attachment()

    def replace(self, frames: Tensor) -> Tensor:
        """Frames (B, T, D) as the layer goes on with them."""
        attachment = self.attachment
        edit = attachment.edit if attachment.edits else None
        output: BottleneckOutput = self(frames, attachment.padding, edit=edit)
        for receive in attachment.receivers:
            receive(output)
        if attachment.is_bypassed:
            return frames
        vectors = output.vectors
        for add in attachment.additions:
            vectors = add(output, vectors)
        return vectors


def list_layers(module: nn.Module) -> list[EncoderLayer]:
    """The Transformer layers of a model or an encoder, in their order."""
    return [one for one in module.modules() if isinstance(one, EncoderLayer)]


def list_bottlenecks(module: nn.Module) -> dict[Place, AttachedBottleneck]:
    """The bottlenecks of a model, by place, from the bottom."""
    found = {}
    for number, layer in enumerate(list_layers(module)):
        for site in Site:
            child = dict(_get_host(layer, site).named_children()).get(CHILD)
            if isinstance(child, AttachedBottleneck):
                found[Place(number, site)] = child
    return found


def attach_bottleneck(
    module: nn.Module,
    place: Place,
    *,
    codebook_size: int,
    num_active: int,
    num_codebooks: int | None = None,
) -> AttachedBottleneck:
    """Puts a bottleneck with codes from N(0, 1) into a model, on the device of its layer.

    Args:
        module: A model or an encoder.
        place: Where.
        codebook_size: V.
        num_active: k.
        num_codebooks: G; None: one a head at `Site.heads`, which has no other, else 1.

    Returns:
        The bottleneck. `speechvq.nn.code_placement` puts its codes where the frames are.

    Raises:
        ValueError: There is no such place, it is taken, or the sizes cannot work.
    """
    layers = list_layers(module)
    if not 0 <= place.layer < len(layers):
        raise ValueError(
            f"`layer` must be from 0 to {len(layers) - 1}, the model's layers, but is "
            f"{place.layer}."
        )
    layer = layers[place.layer]
    host = _get_host(layer, place.site)
    if CHILD in dict(host.named_children()):
        raise ValueError(f"There is a bottleneck at {place} already; detach it first.")
    num_heads = layer.attention.num_heads
    if num_codebooks is None:
        num_codebooks = num_heads if place.site is Site.heads else 1
    if place.site is Site.heads and num_codebooks != num_heads:
        raise ValueError(
            f"`num_codebooks` must be the number of heads ({num_heads}) at {place}, but is "
            f"{num_codebooks}."
        )
    weight = layer.attention.output.weight
    bottleneck = AttachedBottleneck(
        weight.size(0),
        num_codebooks=num_codebooks,
        codebook_size=codebook_size,
        num_active=num_active,
    ).to(weight.device)
    bottleneck.train(layer.training)
    host.add_module(CHILD, bottleneck)
    bottleneck.attachment.handles = [
        layer.register_forward_pre_hook(_note_padding, with_kwargs=True),
        host.register_forward_pre_hook(_replace_input)
        if place.site is Site.heads
        else host.register_forward_hook(_replace_output),
    ]
    return bottleneck


def detach_bottlenecks(module: nn.Module) -> None:
    """Takes all bottlenecks out. All other weights stay as they are."""
    layers = list_layers(module)
    for place, bottleneck in list_bottlenecks(module).items():
        for handle in bottleneck.attachment.handles:
            handle.remove()
        delattr(_get_host(layers[place.layer], place.site), CHILD)


def attach_alike(module: nn.Module, source: nn.Module) -> None:
    """Gives a model bottlenecks of the same places and sizes as another has, with new codes."""
    for place, bottleneck in list_bottlenecks(source).items():
        attach_bottleneck(
            module,
            place,
            codebook_size=bottleneck.codebook_size,
            num_active=bottleneck.num_active,
            num_codebooks=bottleneck.num_codebooks,
        )


def set_num_active(module: nn.Module, num_active: int) -> None:
    """Sets k of all bottlenecks, as a schedule asks for it (`compute_num_active`)."""
    for bottleneck in list_bottlenecks(module).values():
        bottleneck.num_active = num_active


def compute_num_active(step: int, *, start: int, end: int, num_steps: int) -> int:
    """Returns k of a step, which goes from `start` to `end` in equal ratios.

    Args:
        step: From 1.
        start: k of the first step.
        end: k from step `num_steps` on.
        num_steps: Length of the schedule; 0 for none.
    """
    if num_steps <= 1 or step >= num_steps:
        return end
    share = (step - 1) / (num_steps - 1)
    return round(math.exp((1 - share) * math.log(start) + share * math.log(end)))


@contextmanager
def capture_codes(
    module: nn.Module, receive: Callable[[Place, BottleneckOutput], None]
) -> Iterator[None]:
    """Hands over what every bottleneck makes of a batch while a model runs.

    What the model returns stays the same, bit for bit. The losses that are handed over belong to
    the graph: added to that of the task they train the codes.

    Args:
        module: A model with bottlenecks.
        receive: Called in each forward pass with each place and its output; `{}.__setitem__`
            collects those of one pass.

    Yields:
        Nothing; afterwards nothing is handed over any more.
    """

    def create_receiver(place: Place) -> Callable[[BottleneckOutput], None]:
        return lambda output: receive(place, output)

    bottlenecks = list_bottlenecks(module)
    receivers = {place: create_receiver(place) for place in bottlenecks}
    for place, bottleneck in bottlenecks.items():
        bottleneck.attachment.receivers.append(receivers[place])
    try:
        yield
    finally:
        for place, bottleneck in bottlenecks.items():
            bottleneck.attachment.receivers.remove(receivers[place])


@contextmanager
def bypass_bottlenecks(module: nn.Module) -> Iterator[None]:
    """Lets frames pass as they are, while codes are found and handed over all the same."""
    attachments = [one.attachment for one in list_bottlenecks(module).values()]
    before = [one.is_bypassed for one in attachments]
    for one in attachments:
        one.is_bypassed = True
    try:
        yield
    finally:
        for one, was_bypassed in zip(attachments, before, strict=True):
            one.is_bypassed = was_bypassed


def _get_host(layer: EncoderLayer, site: Site) -> nn.Module:
    """The module whose input (heads) or output (feed-forward) is replaced."""
    return layer.attention.output if site is Site.heads else layer.feed_forward


def _get_child(host: nn.Module) -> AttachedBottleneck:
    child = host.get_submodule(CHILD)
    assert isinstance(child, AttachedBottleneck)
    return child


# Hooks find their bottleneck by the module: a copy of a model so uses its own.


def _note_padding(layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    assert isinstance(layer, EncoderLayer)
    padding = kwargs.get("padding", args[2] if len(args) > 2 else None)
    for site in Site:
        child = dict(_get_host(layer, site).named_children()).get(CHILD)
        if isinstance(child, AttachedBottleneck):
            child.attachment.padding = padding


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _replace_input(host: nn.Module, args: tuple[Any, ...]) -> tuple[Tensor]:
    return (_get_child(host).replace(args[0]),)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _replace_output(host: nn.Module, _: tuple[Any, ...], output: Tensor) -> Tensor:
    return _get_child(host).replace(output)
