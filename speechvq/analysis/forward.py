"""Runs a model over a batch of waveforms, and gives back the memory that batches leave."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from speechvq.data.audio import Waveform
from speechvq.models.ctc_model import CTCModel
from speechvq.models.pretrain_model import PretrainModel


@torch.inference_mode()
def compute_frames(
    model: PretrainModel | CTCModel,
    waveforms: Sequence[Waveform],
    layers: Sequence[int],
    *,
    language: str,
) -> tuple[list[int], Tensor | None, list[Tensor]]:
    """Runs the model over a batch.

    Args:
        model: In evaluation mode.
        waveforms: B arrays (S_b,) at 16 kHz, each of at least one frame.
        layers: Layers that are wanted; where none is, the Transformer does not run.
        language: Whose adapters a recogniser uses.

    Returns:
        Frames of each waveform; codes (B, T, G) on the CPU, None without a quantiser; and (B, T, D)
        float32 on the CPU for each layer.
    """
    device = model.encoder.mask_embedding.device
    lengths = torch.tensor([len(one) for one in waveforms])
    batch = torch.zeros(len(waveforms), int(lengths.max()), dtype=torch.float32)
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = torch.from_numpy(waveform)
    batch = batch.to(device)
    quantizer = model.quantizer if isinstance(model, PretrainModel) else None
    hidden: list[Tensor] = []
    if layers:
        adapters = None
        if isinstance(model, CTCModel) and language in model.heads:
            adapters = model.get_adapters(language)
        output = model.encoder(batch, lengths, adapters=adapters, return_layers=True)
        features, num_frames = output.features, output.lengths
        hidden = [output.layers[layer].float().cpu() for layer in layers]
    else:
        features, num_frames, _ = model.encoder.compute_features(batch, lengths)
    codes = None if quantizer is None else quantizer.encode(features).cpu()
    return num_frames.tolist(), codes, hidden


def release_free_memory() -> None:
    """Gives freed memory back to the system: batches of many lengths leave gaps in glibc's heap,
    which would grow by a tenth of a gigabyte in ten hours of audio. Nothing happens elsewhere.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
