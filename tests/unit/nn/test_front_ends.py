from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechvq.errors import DataError
from speechvq.nn.conv_features import (
    ChannelNormConvLayer,
    ConvFeatureExtractor,
    TimeGroupNorm,
)
from speechvq.nn.fbank_features import FbankFeatureExtractor
from speechvq.nn.lengths import create_padding_mask, lengths_to_padding_mask, may_be_padded
from speechvq.nn.waveform import normalize_waveform

KERNELS, STRIDES = [10, 3, 3, 3, 3, 2, 2], [5, 2, 2, 2, 2, 2, 2]


def create_front_end(name: str):
    torch.manual_seed(0)
    if name == "fbank":
        return FbankFeatureExtractor(40, 2)
    return ConvFeatureExtractor(
        [8] * 7, KERNELS, STRIDES, layer_norm=name == "layer", bias=True, normalize=name == "layer"
    )


@pytest.mark.parametrize("name", ["fbank", "layer", "group"])
def test_alone_is_the_row_of_a_padded_batch(name):
    front_end = create_front_end(name)
    lengths = torch.tensor([16000, 6001, 11234])
    waveform = torch.randn(3, 16000)
    features, frames = front_end(waveform, lengths)
    for row in range(3):
        size = int(lengths[row])
        alone, count = front_end(waveform[row : row + 1, :size], lengths[row : row + 1])
        assert int(count) == int(frames[row]) == front_end.num_frames(size) == alone.size(1)
        assert torch.allclose(features[row, : int(count)], alone[0], atol=2e-5)


@pytest.mark.parametrize("name", ["fbank", "layer", "group"])
@settings(max_examples=40, deadline=None)
@given(num_samples=st.integers(1, 3000))
def test_number_of_frames_is_what_comes_out(name, num_samples):
    front_end = create_front_end(name)
    waveform = torch.randn(1, max(num_samples, 800))
    features, frames = front_end(waveform, torch.tensor([num_samples]))
    assert int(frames) == front_end.num_frames(num_samples)
    assert features.shape == (1, front_end.num_frames(waveform.size(1)), front_end.output_dim)


def test_group_norm_with_padding_in_its_statistics_depends_on_the_batch():
    arguments = ([8] * 7, KERNELS, STRIDES)
    options = {"layer_norm": False, "bias": False, "normalize": False}
    front_end = ConvFeatureExtractor(*arguments, **options, masked_statistics=False)
    waveform = torch.zeros(1, 16000)
    waveform[:, :8000] = torch.randn(8000)
    padded, frames = front_end(waveform, torch.tensor([8000]))
    alone, _ = front_end(waveform[:, :8000], torch.tensor([8000]))
    assert not torch.allclose(padded[:, : int(frames)], alone, atol=0.1)


def test_masked_group_norm_without_padding_is_group_norm():
    norm = TimeGroupNorm(6)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    features = torch.randn(2, 6, 50)
    nothing = torch.zeros(2, 50, dtype=torch.bool)
    assert torch.allclose(norm(features, nothing), norm(features, None), atol=1e-5)


def test_a_tone_lights_up_its_mel_channel():
    front_end = FbankFeatureExtractor(80, 1, normalize=False)
    time = torch.arange(16000) / 16000
    peaks = []
    for hertz in (200.0, 1000.0, 4000.0):
        wave = 0.1 * torch.sin(2 * torch.pi * hertz * time)[None]
        features, frames = front_end(wave, torch.tensor([16000]))
        assert int(frames) == 98
        peaks.append(int(features[0].mean(0).argmax()))
    mel = 1127 * torch.log1p(torch.tensor([20.0, 8000.0, 200.0, 1000.0, 4000.0]) / 700)
    centres = (mel[2:] - mel[0]) / (mel[1] - mel[0]) * 81 - 1
    assert all(abs(peak - centre) <= 1 for peak, centre in zip(peaks, centres, strict=True))


def test_fbank_is_kaldis():
    """torchaudio's port of Kaldi on samples of the 16 bit range: the same up to a constant."""
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    waveform = 0.1 * torch.randn(1, 8000)
    wanted = kaldi.fbank(
        waveform * 32768, num_mel_bins=80, window_type="povey", dither=0.0, low_freq=20.0
    )
    found = FbankFeatureExtractor(80, 1).compute_log_mel(waveform)[0]
    constant = 2 * torch.log(torch.tensor(32768.0))
    assert torch.allclose(found + constant, wanted, atol=2e-3)


def test_fbank_frames_are_normalized_and_stay_fp32_under_autocast():
    front_end = FbankFeatureExtractor(40, 2)
    waveform, lengths = 0.1 * torch.randn(2, 16000) + 0.2, torch.tensor([16000, 9000])
    features, frames = front_end(waveform, lengths)
    valid = features[1, : int(frames[1])].reshape(-1, 40, 2).transpose(1, 2).reshape(-1, 40)
    assert valid.mean(0).abs().max() < 1e-4
    assert (valid.var(0, correction=0) - 1).abs().max() < 1e-2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(front_end(waveform, lengths)[0], features)


def test_stacked_frames_are_laid_out_mel_by_mel():
    waveform, lengths = 0.1 * torch.randn(1, 16000), torch.tensor([16000])
    single, _ = FbankFeatureExtractor(40, 1, normalize=False)(waveform, lengths)
    stacked, _ = FbankFeatureExtractor(40, 4, normalize=False)(waveform, lengths)
    assert torch.equal(stacked[0, 3].view(40, 4)[:, 2], single[0, 14])


@pytest.mark.parametrize("name", ["fbank", "layer", "group"])
def test_batch_without_a_frame_is_refused(name):
    with pytest.raises(DataError, match="has 300 samples"):
        create_front_end(name)(torch.randn(1, 300), torch.tensor([300]))


@pytest.mark.parametrize(
    ("kernel", "stride", "size"), [(3, 2, 20), (3, 2, 21), (2, 2, 9), (5, 2, 30), (2, 3, 17)]
)
def test_convolution_by_matrix_products_is_a_convolution(kernel, stride, size):
    layer = ChannelNormConvLayer(4, 6, kernel, stride, bias=True)
    features = torch.randn(2, size, 4)
    direct = layer.conv(features.transpose(1, 2)).transpose(1, 2)
    assert torch.allclose(layer._convolve(features), direct, atol=1e-5)


def test_silence_is_finite():
    for name in ("fbank", "layer", "group"):
        features, _ = create_front_end(name)(torch.zeros(2, 8000), torch.tensor([8000, 500]))
        assert features.isfinite().all()


def test_waveform_normalization_leaves_padding_out():
    waveform = torch.randn(2, 1000) * 3 + 5
    result = normalize_waveform(waveform, torch.tensor([1000, 300]))
    assert result[1, :300].mean().abs() < 1e-5
    assert abs(result[1, :300].var(correction=0) - 1) < 1e-4
    assert not result[1, 300:].any()


def test_padding_mask_is_made_only_where_something_is_padded():
    assert create_padding_mask(torch.tensor([5, 5]), 5) is None
    mask = create_padding_mask(torch.tensor([5, 2]), 5)
    assert mask is not None
    assert mask.tolist() == [[False] * 5, [False, False, True, True, True]]
    assert torch.equal(mask, lengths_to_padding_mask(torch.tensor([5, 2]), 5))
    assert may_be_padded(torch.empty(2, dtype=torch.long, device="meta"), 5)
