"""Puts the codes of bottlenecks where the frames are: k-means before training, restarts in it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from speechvq.nn.bottleneck import Bottleneck, BottleneckOutput
from speechvq.nn.bottleneck_sites import bypass_bottlenecks, capture_codes, list_bottlenecks
from speechvq.nn.kmeans import draw_rows, fit_kmeans
from speechvq.nn.places import Place

RESTART_NOISE = 1e-4
"""Length of the noise on a restarted code, as a share of its own (ρ of the paper's code)."""


class FrameSample:
    """A uniform sample of the valid frames that bottlenecks see, of bounded memory; its `receive`
    is for `capture_codes`.

    Args:
        max_frames: Frames that are kept of each bottleneck.
        generator: Chooses them, on the CPU.
    """

    def __init__(self, max_frames: int, generator: torch.Generator) -> None:
        self.max_frames = max_frames
        self._generator = generator
        self._frames: dict[Place, Tensor] = {}
        self._keys: dict[Place, Tensor] = {}

    def receive(self, place: Place, output: BottleneckOutput) -> None:
        """Adds a batch."""
        _, inputs = output.get_valid()
        keys = torch.rand(len(inputs), generator=self._generator, dtype=torch.float32, device="cpu")
        frames = inputs.cpu()
        if place in self._frames:
            frames = torch.cat([self._frames[place], frames])
            keys = torch.cat([self._keys[place], keys])
        if len(keys) > self.max_frames:
            kept = keys.topk(self.max_frames, sorted=False).indices
            frames, keys = frames[kept], keys[kept]
        self._frames[place], self._keys[place] = frames, keys

    def get_frames(self, place: Place) -> Tensor:
        """(N, G, d) float32 on the CPU; what `BottleneckOutput.inputs` has."""
        return self._frames[place]


@torch.no_grad()
def place_codebooks(
    module: nn.Module,
    run: Callable[[], object],
    *,
    generator: torch.Generator,
    max_frames: int = 8192,
) -> None:
    """Fits the codes of all bottlenecks to the frames that come to their places while none of them
    acts: k-means after layer norm.

    Memory is `max_frames` × D numbers a bottleneck.

    Args:
        module: A model with bottlenecks, in evaluation mode.
        run: Runs the model over enough batches.
        generator: Chooses frames and first centroids, on the CPU.
        max_frames: Frames that k-means sees.

    Raises:
        ValueError: There are fewer frames than codes.
    """
    sample = FrameSample(max_frames, generator)
    with bypass_bottlenecks(module), capture_codes(module, sample.receive):
        run()
    for place, bottleneck in list_bottlenecks(module).items():
        frames = sample.get_frames(place)
        if len(frames) < bottleneck.codebook_size:
            raise ValueError(
                f"{bottleneck.codebook_size} codes at {place} need as many frames, but there are "
                f"{len(frames)}: take smaller codebooks or more batches."
            )
        for number in range(bottleneck.num_codebooks):
            centroids, _ = fit_kmeans(
                frames[:, number].contiguous(), bottleneck.codebook_size, generator=generator
            )
            bottleneck.codebooks[number] = centroids


@torch.no_grad()
def restart_unused(
    bottleneck: Bottleneck, counts: Tensor, inputs: Tensor, generator: torch.Generator
) -> int:
    """Puts codes that nothing chose on frames that there are now, with a little noise. All ranks
    get the codes of rank 0: DistributedDataParallel would not mend what rounding set apart.

    Args:
        bottleneck: Changed in place.
        counts: (G, V), how often each code was chosen (`CodeTally.get_counts`).
        inputs: (N, G, d) float32, valid frames (`FrameSample.get_frames`).
        generator: Chooses frames and draws the noise, on the CPU.

    Returns:
        How many codes were restarted.
    """
    unused = (counts == 0).cpu()
    for number in range(bottleneck.num_codebooks):
        places = unused[number].nonzero().flatten()
        frames = draw_rows(inputs[:, number].cpu(), len(places), generator)
        noise = torch.randn(frames.shape, generator=generator, dtype=torch.float32, device="cpu")
        noise *= RESTART_NOISE * frames.norm(dim=-1, keepdim=True)
        device = bottleneck.codebooks.device
        bottleneck.codebooks[number, places.to(device)] = (frames + noise).to(device)
    if dist.is_available() and dist.is_initialized():
        dist.broadcast(bottleneck.codebooks.detach(), src=0)
    return int(unused.sum())
