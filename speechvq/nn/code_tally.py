"""What bottlenecks do over many batches: usage of codes, errors, norms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from speechvq.nn.bottleneck import BottleneckOutput
from speechvq.nn.bottleneck_sites import list_bottlenecks
from speechvq.nn.nearest import compute_entropy_perplexity
from speechvq.nn.places import Place


@dataclass(frozen=True, kw_only=True)
class CodeStatistics:
    """What the G codebooks of one bottleneck did.

    Attributes:
        num_frames: Valid frames that were counted.
        num_used: (G,) codes that were chosen at least once.
        perplexity: (G,) exp of the entropy of the choices, from 1 to V.
        error: (G,) mean square distance of inputs to means: the auxiliary loss.
        input_norm: (G,) mean length of the normalised inputs.
        output_norm: (G,) mean length of the means of codes.
        code_norm: (G,) mean length of the codes.
    """

    num_frames: int
    num_used: Tensor
    perplexity: Tensor
    error: Tensor
    input_norm: Tensor
    output_norm: Tensor
    code_norm: Tensor


class CodeTally:
    """Sums over batches, valid frames only; its `receive` is for `capture_codes`.

    Args:
        module: A model with bottlenecks.
    """

    def __init__(self, module: nn.Module) -> None:
        self._bottlenecks = list_bottlenecks(module)
        self.reset()

    def reset(self) -> None:
        """Forgets all batches."""
        self._num_frames = dict.fromkeys(self._bottlenecks, 0)
        self._counts = {
            place: torch.zeros(one.codebooks.shape[:2], dtype=torch.long, device="cpu")
            for place, one in self._bottlenecks.items()
        }
        self._sums = {
            place: torch.zeros(3, one.num_codebooks, dtype=torch.float64, device="cpu")
            for place, one in self._bottlenecks.items()
        }

    @torch.no_grad()
    def receive(self, place: Place, output: BottleneckOutput) -> None:
        """Adds a batch."""
        codes, inputs = output.get_valid()  # (N, G, k), (N, G, d)
        num_codebooks, size = self._counts[place].shape
        for number in range(num_codebooks):
            chosen = codes[:, number].flatten()
            counts = torch.bincount(chosen[chosen >= 0], minlength=size)
            self._counts[place][number] += counts.cpu()
        means = output.vectors.detach().float().unflatten(-1, inputs.shape[1:])
        if output.padding is not None:
            means = means[~output.padding]
        lengths = [one.norm(dim=-1).sum(tuple(range(one.dim() - 2))) for one in (inputs, means)]
        sums = torch.stack([output.losses.detach() * len(inputs), *lengths])
        self._num_frames[place] += len(inputs)
        self._sums[place] += sums.double().cpu()

    def get_counts(self, place: Place) -> Tensor:
        """(G, V) long, how often each code was chosen."""
        return self._counts[place]

    def get_sums(self, place: Place) -> Tensor:
        """(G, V + 4) float64, all that is known of a place; adds up over batches and ranks."""
        num_frames = torch.full(
            (len(self._counts[place]), 1),
            float(self._num_frames[place]),
            dtype=torch.float64,
            device="cpu",
        )
        return torch.cat([self._counts[place].double(), self._sums[place].t(), num_frames], dim=1)

    def add_sums(self, place: Place, sums: Tensor) -> None:
        """Adds what `get_sums` gave of other batches, (G, V + 4) on the CPU."""
        size = self._counts[place].size(1)
        self._counts[place] += sums[:, :size].round().long()
        self._sums[place] += sums[:, size : size + 3].t()
        self._num_frames[place] += round(float(sums[0, -1]))

    def compute(self) -> Mapping[Place, CodeStatistics]:
        """The statistics of each place."""
        found = {}
        for place, bottleneck in self._bottlenecks.items():
            counts, num_frames = self._counts[place], self._num_frames[place]
            share = counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
            error, input_norm, output_norm = self._sums[place] / max(1, num_frames)
            found[place] = CodeStatistics(
                num_frames=num_frames,
                num_used=(counts > 0).sum(1),
                perplexity=compute_entropy_perplexity(share),
                error=error,
                input_norm=input_norm,
                output_norm=output_norm,
                code_norm=bottleneck.codebooks.detach().norm(dim=-1).mean(1).double().cpu(),
            )
        return found
