"""Switches codes of bottlenecks while a model runs: edits of a span, and interchange interventions.

    with apply_edits(model, [Edit(layer=3, head=1, span=(40, 52), code=17, mode=EditMode.all)]):
        model(waveform, lengths, language="hin_Deva")

An edit that asks for what is there already changes nothing, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechvq.nn.bottleneck import ABLATED, ABSENT
from speechvq.nn.bottleneck_sites import AttachedBottleneck, list_bottlenecks
from speechvq.nn.places import Place, Site


class EditMode(StrEnum):
    """How a code is put among the k that are active."""

    one = "one"
    """In place of the least similar, unless it is active already."""
    all = "all"
    """In place of all."""
    append = "append"
    """Beside them, unless it is active already."""
    ablate = "ablate"
    """Not at all: its slot gives nothing to the mean, which is over k slots still."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One code, switched in one span.

    Attributes:
        layer: From 0.
        site: Which bottleneck of the layer.
        head: Which of its codebooks, from 0: the attention head; 0 after a feed-forward part.
        span: First frame and the one after the last.
        code: Which code; None ablates all.
        mode: How.
        row: Which utterance of the batch; None for all.
    """

    layer: int
    head: int
    span: tuple[int, int]
    code: int | None
    mode: EditMode
    site: Site = Site.heads
    row: int | None = None

    @property
    def place(self) -> Place:
        """Which bottleneck it belongs to."""
        return Place(self.layer, self.site)

    def check(self, bottleneck: AttachedBottleneck) -> None:
        """Raises ValueError if the bottleneck has no such codebook or code."""
        _check_span(self.span)
        if not 0 <= self.head < bottleneck.num_codebooks:
            raise ValueError(
                f"`head` must be from 0 to {bottleneck.num_codebooks - 1} at {self.place}, but is "
                f"{self.head}."
            )
        if self.code is None and self.mode is not EditMode.ablate:
            raise ValueError(f"`code` must be given with mode {self.mode}; only ablate has none.")
        if self.code is not None and not 0 <= self.code < bottleneck.codebook_size:
            raise ValueError(
                f"`code` must be from 0 to {bottleneck.codebook_size - 1} at {self.place}, but is "
                f"{self.code}."
            )

    def apply(self, codes: Tensor) -> Tensor:
        """Edits (B, T, G, K) codes; `append` may add a slot.

        Raises:
            ValueError: The span ends after the batch, or the batch has no such row.
        """
        rows = _find_rows(codes, self.span, self.row)
        last = codes[rows, self.span[0] : self.span[1], self.head, -1]
        if self.mode is EditMode.append and bool((last != ABSENT).any()):
            codes = F.pad(codes, (0, 1), value=ABSENT)
        codes = codes.clone()
        slots = codes[rows, self.span[0] : self.span[1], self.head]  # (b, s, K), a view
        is_there = slots != ABSENT
        if self.mode is EditMode.ablate:
            is_changed = is_there if self.code is None else slots.eq(self.code)
            slots.masked_fill_(is_changed, ABLATED)
        elif self.mode is EditMode.all:
            slots.masked_fill_(is_there, int(self.code or 0))
        else:
            # Slots that are not there come last: their number is the place of the first of them.
            place = is_there.sum(-1, keepdim=True)  # (b, s, 1)
            place = place - int(self.mode is EditMode.one)
            code = int(self.code or 0)
            is_active = slots.eq(code).any(-1, keepdim=True)
            new = slots.gather(-1, place).masked_fill(~is_active, code)
            slots.scatter_(-1, place, new)
        return codes


@dataclass(frozen=True, kw_only=True)
class Interchange:
    """Codes that were recorded elsewhere, put in the place of those of a span.

    Attributes:
        layer: From 0.
        site: Which bottleneck of the layer.
        span: First frame and the one after the last, s frames.
        codes: (B, s, G, k) long, as `BottleneckOutput.codes` has them.
    """

    layer: int
    site: Site
    span: tuple[int, int]
    codes: Tensor

    @property
    def place(self) -> Place:
        """Which bottleneck it belongs to."""
        return Place(self.layer, self.site)

    def check(self, bottleneck: AttachedBottleneck) -> None:
        """Raises ValueError if the codes are not those of such a bottleneck."""
        _check_span(self.span)
        expected = (self.span[1] - self.span[0], bottleneck.num_codebooks)
        if self.codes.dim() != 4 or tuple(self.codes.shape[1:3]) != expected:
            raise ValueError(
                f"`codes` must be (B, {expected[0]}, {expected[1]}, k) at {self.place}, but are "
                f"{tuple(self.codes.shape)}."
            )
        if int(self.codes.max()) >= bottleneck.codebook_size:
            raise ValueError(
                f"`codes` must be below {bottleneck.codebook_size} at {self.place}, but one is "
                f"{int(self.codes.max())}."
            )

    def apply(self, codes: Tensor) -> Tensor:
        """Replaces those of (B, T, G, K) codes."""
        rows = _find_rows(codes, self.span, None)
        missing = codes.size(3) - self.codes.size(3)
        codes = F.pad(codes, (0, max(0, -missing)), value=ABSENT)
        new = F.pad(self.codes.to(codes.device), (0, max(0, missing)), value=ABSENT)
        codes = codes.clone()
        codes[rows, self.span[0] : self.span[1]] = new
        return codes


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """Many codes of one bottleneck that give nothing in any frame, others in each utterance.

    Attributes:
        layer: From 0.
        site: Which bottleneck of the layer.
        is_ablated: (B, G, V) bool, True = gives nothing.
    """

    layer: int
    site: Site
    is_ablated: Tensor

    @property
    def place(self) -> Place:
        """Which bottleneck it belongs to."""
        return Place(self.layer, self.site)

    def check(self, bottleneck: AttachedBottleneck) -> None:
        """Raises ValueError if the bottleneck has not such codebooks."""
        expected = (bottleneck.num_codebooks, bottleneck.codebook_size)
        if self.is_ablated.dim() != 3 or tuple(self.is_ablated.shape[1:]) != expected:
            raise ValueError(
                f"`is_ablated` must be (B, {expected[0]}, {expected[1]}) at {self.place}, but is "
                f"{tuple(self.is_ablated.shape)}."
            )

    def apply(self, codes: Tensor) -> Tensor:
        """Takes codes out of (B, T, G, K) codes.

        Raises:
            ValueError: The batch has another number of utterances.
        """
        num_rows, _, num_codebooks, _ = codes.shape
        if num_rows != len(self.is_ablated):
            raise ValueError(
                f"`is_ablated` must be of {num_rows} utterances, as the batch is, but is of "
                f"{len(self.is_ablated)}."
            )
        rows = torch.arange(num_rows, dtype=torch.long, device=codes.device)[:, None, None, None]
        heads = torch.arange(num_codebooks, dtype=torch.long, device=codes.device)[:, None]
        is_changed = self.is_ablated.to(codes.device)[rows, heads, codes.clamp(min=0)]
        return codes.masked_fill(is_changed & (codes >= 0), ABLATED)


CodeChange = Edit | Interchange | Ablation


@contextmanager
def apply_edits(module: nn.Module, edits: Iterable[CodeChange]) -> Iterator[None]:
    """Switches codes of a model in every forward pass, one edit after another.

    Args:
        module: A model with bottlenecks.
        edits: What is switched where.

    Yields:
        Nothing; afterwards the model is as before.

    Raises:
        ValueError: An edit's place has no bottleneck, or not such a code; in the forward pass: its
            span ends after the batch.
    """
    bottlenecks = list_bottlenecks(module)
    by_place: dict[Place, list[Callable[[Tensor], Tensor]]] = {}
    for edit in edits:
        if edit.place not in bottlenecks:
            known = ", ".join(map(str, bottlenecks)) or "none"
            raise ValueError(
                f"An edit needs a bottleneck at {edit.place}, but the model's are: {known}."
            )
        edit.check(bottlenecks[edit.place])
        by_place.setdefault(edit.place, []).append(edit.apply)
    before = {place: list(bottlenecks[place].attachment.edits) for place in by_place}
    for place, functions in by_place.items():
        bottlenecks[place].attachment.edits.extend(functions)
    try:
        yield
    finally:
        for place, functions in before.items():
            bottlenecks[place].attachment.edits = functions


def _check_span(span: tuple[int, int]) -> None:
    if not 0 <= span[0] < span[1]:
        raise ValueError(f"`span` must be a frame and a later one, from 0, but is {span}.")


def _find_rows(codes: Tensor, span: tuple[int, int], row: int | None) -> slice:
    num_rows, num_frames = codes.shape[:2]
    if span[1] > num_frames:
        raise ValueError(
            f"`span` must end at frame {num_frames} at the latest, where the batch does, but is "
            f"{span}."
        )
    if row is None:
        return slice(None)
    if not 0 <= row < num_rows:
        raise ValueError(f"`row` must be from 0 to {num_rows - 1}, but is {row}.")
    return slice(row, row + 1)
