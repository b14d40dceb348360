"""Test 10 of METHODS A.6: choosing codes costs little beside the model."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from speechvq.models.build import create_pretrain_model
from speechvq.models.config import SimVQConfig
from speechvq.models.presets import create_preset
from speechvq.nn.masking import compute_span_mask, sample_distractors
from speechvq.nn.simvq import SimVQuantizer

NUM_UTTERANCES, SECONDS = 6, 10
LARGEST_SHARE = 0.15


def measure_seconds(function: Callable[[], object]) -> float:
    """Processor time: what else runs on the machine does not count."""
    start = time.process_time()
    function()
    return time.process_time() - start


@pytest.mark.slow
def test_codebook_and_search_are_a_small_part_of_a_step_of_tiny() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = replace(
        create_preset("tiny"), quantizer=SimVQConfig(num_codebooks=2, codebook_size=320)
    )
    model = create_pretrain_model(config)
    quantizer = model.quantizer
    assert isinstance(quantizer, SimVQuantizer)
    waveform = torch.randn(NUM_UTTERANCES, SECONDS * 16_000)
    lengths = torch.full((NUM_UTTERANCES,), SECONDS * 16_000)
    rng = np.random.default_rng(0)
    masks = [
        compute_span_mask(
            model.num_frames(waveform.size(1)),
            prob=config.mask_prob,
            length=config.mask_length,
            min_spans=config.mask_min_spans,
            rng=rng,
        )
        for _ in range(NUM_UTTERANCES)
    ]
    num_masked = torch.tensor([int(mask.sum()) for mask in masks])
    masked_frames = torch.zeros(NUM_UTTERANCES, int(num_masked.max()), dtype=torch.long)
    distractors = torch.zeros(*masked_frames.shape, config.num_distractors, dtype=torch.long)
    for row, mask in enumerate(masks):
        count = int(num_masked[row])
        masked_frames[row, :count] = torch.from_numpy(mask.nonzero()[0])
        drawn = sample_distractors(count, config.num_distractors, rng)
        distractors[row, :count] = torch.from_numpy(drawn)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def take_step() -> None:
        output = model(waveform, lengths, masked_frames, num_masked, distractors, temperature=1.0)
        loss = output.loss_sum + output.num_targets * (output.vq_loss + output.diversity_loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    vectors = torch.randn(*masked_frames.shape, 2, quantizer.entry_dim)

    def search() -> None:
        quantizer.choose(vectors, quantizer.compute_codebook())

    take_step()
    search()
    steps, searches = zip(
        *[(measure_seconds(take_step), measure_seconds(search)) for _ in range(5)], strict=True
    )
    share = statistics.median(searches) / statistics.median(steps)
    print(f"search {1000 * statistics.median(searches):.1f} ms, share {share:.4f} of a step")
    assert share <= LARGEST_SHARE
