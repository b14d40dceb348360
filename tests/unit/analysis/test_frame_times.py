"""The centre of a frame, against what the front ends really see."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from speechvq.analysis.frame_times import compute_frame_times, find_window_samples
from speechvq.nn.conv_features import ConvFeatureExtractor
from speechvq.nn.fbank_features import FbankFeatureExtractor


def create_front_end(name: str):
    if name == "waveform":
        return ConvFeatureExtractor(
            [4] * 7,
            [10, 3, 3, 3, 3, 2, 2],
            [5, 2, 2, 2, 2, 2, 2],
            layer_norm=True,
            bias=False,
            normalize=False,
        )
    return FbankFeatureExtractor(8, int(name), normalize=False)


@pytest.mark.parametrize(
    ("name", "hop_ms", "first_ms"),
    [("waveform", 20, 12.5), ("2", 20, 17.5), ("4", 40, 27.5), ("1", 10, 12.5)],
)
def test_the_centre_is_the_middle_of_the_samples_that_change_a_frame(name, hop_ms, first_ms):
    torch.manual_seed(0)
    front_end = create_front_end(name)
    length, frame = 16_000, 5
    waveform = torch.randn(1, length)
    with torch.no_grad():
        before = front_end(waveform, torch.tensor([length]))[0][0, frame]
    window = find_window_samples(front_end)
    begin = frame * front_end.frame_samples

    def changes(sample: int) -> bool:
        moved = waveform.clone()
        moved[0, sample] += 100.0
        with torch.no_grad():
            after = front_end(moved, torch.tensor([length]))[0][0, frame]
        return bool((after - before).abs().max() > 1e-6)

    assert changes(begin + 1)
    assert changes(begin + window - 2)
    assert not changes(begin - 1)
    assert not changes(begin + window)
    times = compute_frame_times(front_end, 3)
    assert times.tolist() == pytest.approx([(first_ms + hop_ms * t) / 1000 for t in range(3)])
    assert times[0] == pytest.approx(window / 2 / 16_000)


def test_energy_rises_where_the_sound_begins():
    """A tone from 0.5 s on: the frames' energy, drawn over their times, is half-way up there."""
    front_end = FbankFeatureExtractor(20, 2, normalize=False)
    time = torch.arange(16_000, dtype=torch.float32) / 16_000
    waveform = torch.where(time >= 0.5, torch.sin(2 * torch.pi * 1000 * time), 0.0)[None]
    energy = front_end(waveform, torch.tensor([16_000]))[0][0].exp().sum(1)
    times = compute_frame_times(front_end, len(energy))
    share = (energy / energy[-1]).numpy()
    last = int((share < 0.5).nonzero()[0][-1])
    crossing = np.interp(0.5, share[last : last + 2], times[last : last + 2])
    assert crossing == pytest.approx(0.5, abs=0.004)
