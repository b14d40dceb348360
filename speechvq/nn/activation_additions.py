"""Adds a direction to what a bottleneck gives: the control that switching codes is compared with.

Activation addition with a difference of means (Turner et al. 2023, "Activation Addition"; Marks and
Tegmark 2023, "The Geometry of Truth"), each frame by as much as an edit of the codes would move it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from torch import Tensor, nn

from speechvq.nn.bottleneck import BottleneckOutput, average_slots
from speechvq.nn.bottleneck_sites import AttachedBottleneck, list_bottlenecks
from speechvq.nn.code_edits import Edit


@dataclass(frozen=True, kw_only=True)
class Addition:
    """A direction in place of an edit.

    Attributes:
        edit: Where, and how far: in each frame the vector that is added is as long as the change of
            the codes' mean that this edit would make there. It is not made itself.
        direction: (d,) float32, of length 1, in the channels of the edit's codebook.
    """

    edit: Edit
    direction: Tensor

    def check(self, bottleneck: AttachedBottleneck) -> None:
        """Raises ValueError if the bottleneck has no such codebook, code or channels."""
        self.edit.check(bottleneck)
        if tuple(self.direction.shape) != (bottleneck.code_dim,):
            raise ValueError(
                f"`direction` must be ({bottleneck.code_dim},) at {self.edit.place}, but is "
                f"{tuple(self.direction.shape)}."
            )

    def apply(
        self, bottleneck: AttachedBottleneck, output: BottleneckOutput, vectors: Tensor
    ) -> Tensor:
        """Moves vectors (B, T, D).

        Args:
            bottleneck: Whose codes they are.
            output: What it made of the batch.
            vectors: What the layer would go on with.
        """
        begin, end = self.edit.span
        head, row = self.edit.head, self.edit.row
        rows = slice(None) if row is None else slice(row, row + 1)
        codes = output.codes[rows, begin:end]  # (b, s, G, k)
        edited = replace(self.edit, span=(0, end - begin), row=None).apply(codes)
        means = [
            average_slots(bottleneck.codebooks.detach(), part.flatten(0, 1))[:, head]
            for part in (edited, codes)
        ]
        lengths = (means[0] - means[1]).norm(dim=-1).view(*codes.shape[:2], 1)  # (b, s, 1)
        channels = slice(head * bottleneck.code_dim, (head + 1) * bottleneck.code_dim)
        moved = vectors.clone()
        moved[rows, begin:end, channels] += (lengths * self.direction).to(vectors.dtype)
        return moved


@contextmanager
def apply_additions(module: nn.Module, additions: Iterable[Addition]) -> Iterator[None]:
    """Adds directions in every forward pass, one after another.

    Args:
        module: A model with bottlenecks.
        additions: What is added where.

    Yields:
        Nothing; afterwards the model is as before.

    Raises:
        ValueError: A place has no bottleneck, or not such a code.
    """
    bottlenecks = list_bottlenecks(module)
    before = {place: list(one.attachment.additions) for place, one in bottlenecks.items()}

    def create(addition: Addition) -> Callable[[BottleneckOutput, Tensor], Tensor]:
        bottleneck = bottlenecks[addition.edit.place]
        return lambda output, vectors: addition.apply(bottleneck, output, vectors)

    wanted = list(additions)
    for addition in wanted:
        if addition.edit.place not in bottlenecks:
            raise ValueError(f"An addition needs a bottleneck at {addition.edit.place}.")
        addition.check(bottlenecks[addition.edit.place])
    try:
        for addition in wanted:
            attachment = bottlenecks[addition.edit.place].attachment
            attachment.additions.append(create(addition))
        yield
    finally:
        for place, functions in before.items():
            bottlenecks[place].attachment.additions = functions
