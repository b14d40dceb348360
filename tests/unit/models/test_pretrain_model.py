from __future__ import annotations

import numpy as np
import pytest
import torch

from speechvq.errors import ConfigError, ModelError
from speechvq.models.build import create_pretrain_model
from speechvq.models.config import (
    EncoderConfig,
    FeatureNorm,
    Features,
    GumbelConfig,
    PretrainModelConfig,
    WaveformConfig,
)
from speechvq.models.interop_huggingface import config_to_huggingface
from speechvq.models.presets import PRESETS, create_gumbel, create_preset
from speechvq.nn.masking import compute_span_mask, sample_distractors

FRONT_ENDS = ["fbank", "layer", "group"]


def create_config(front_end: str = "fbank") -> PretrainModelConfig:
    return PretrainModelConfig(
        features=Features.fbank if front_end == "fbank" else Features.waveform,
        waveform=WaveformConfig(
            dims=[16] * 7, norm=FeatureNorm.group if front_end == "group" else FeatureNorm.layer
        ),
        encoder=EncoderConfig(
            num_layers=2,
            model_dim=32,
            num_heads=4,
            ffn_dim=64,
            norm_first=True,
            dropout=0.0,
            attention_dropout=0.0,
            layer_drop_prob=0.0,
            position_kernel=32,
            position_groups=4,
        ),
        quantizer=GumbelConfig(codebook_size=12, code_dim=16),
        final_dim=16,
        num_distractors=8,
        dropout_input=0.0,
        dropout_features=0.0,
    )


def create_model(front_end: str = "fbank"):
    torch.manual_seed(0)
    return create_pretrain_model(create_config(front_end))


def create_batch(model, lengths: list[int], num_masked: list[int] | None = None):
    rng = np.random.default_rng(0)
    masks = [
        np.flatnonzero(
            compute_span_mask(model.num_frames(n), prob=0.5, length=4, min_spans=1, rng=rng)
        )
        for n in lengths
    ]
    if num_masked is not None:
        masks = [mask[:count] for mask, count in zip(masks, num_masked, strict=True)]
    size = max(map(len, masks))
    frames = torch.zeros(len(lengths), size, dtype=torch.long)
    distractors = torch.zeros(len(lengths), size, 8, dtype=torch.long)
    for row, mask in enumerate(masks):
        frames[row, : len(mask)] = torch.from_numpy(mask)
        drawn = sample_distractors(len(mask), 8, rng)
        distractors[row, : len(mask)] = torch.from_numpy(drawn)
    torch.manual_seed(1)
    waveform = 0.1 * torch.randn(len(lengths), max(lengths))
    counts = torch.tensor([len(mask) for mask in masks])
    return waveform, torch.tensor(lengths), frames, counts, distractors


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@torch.no_grad()
def test_alone_is_the_row_of_a_padded_batch(front_end):
    model = create_model(front_end).eval()
    batch = create_batch(model, [16000, 7000, 11111])
    together = model(*batch, temperature=1.0)
    codes, frames = model.extract_codes(*batch[:2])
    penalties = []
    for row, length in enumerate(batch[1].tolist()):
        count = int(batch[3][row])
        one = (batch[0][row : row + 1, :length], *(part[row : row + 1] for part in batch[1:]))
        alone = model(one[0], one[1], one[2][:, :count], one[3], one[4][:, :count], temperature=1.0)
        found = together.task.loss_per_frame[row, :count]
        assert torch.allclose(found, alone.task.loss_per_frame[0], atol=1e-4)
        assert torch.equal(together.codes[row, :count], alone.codes[0])
        assert torch.equal(model.extract_codes(*one[:2])[0][0], codes[row, : int(frames[row])])
        penalties.append(float(alone.feature_penalty) * int(frames[row]))
    expected = sum(penalties) / int(frames.sum())
    assert float(together.feature_penalty) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.parametrize("num_masked", [[15, 1, 0], [1, 1, 1], [0, 0, 0]])
def test_every_parameter_gets_a_finite_gradient(front_end, num_masked):
    model = create_model(front_end).train()
    output = model(*create_batch(model, [16000, 9000, 8000], num_masked), temperature=2.0)
    loss = output.loss_sum + output.num_targets * (output.diversity_loss + output.feature_penalty)
    loss.backward()
    assert int(output.num_targets) == (num_masked[0] if num_masked[0] > 1 else 0)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_training_lowers_the_loss():
    model = create_model().train()
    batch = create_batch(model, [9600] * 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        output = model(*batch, temperature=1.0)
        mean = output.loss_sum / output.num_targets
        (mean + 0.1 * output.diversity_loss).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(mean.detach()))
    assert losses[-1] < losses[0] - 0.2


def test_masked_frames_are_hidden_from_the_context_but_not_from_the_targets():
    model = create_model().eval()
    batch = create_batch(model, [16000])
    mask = torch.zeros(1, model.num_frames(16000), dtype=torch.bool)
    mask[0, batch[2][0]] = True
    features = model.encoder.compute_features(*batch[:2])[0]
    frames = torch.where(
        mask[..., None], model.encoder.mask_embedding, model.encoder.projection(features)
    )
    context, _ = model.encoder.transformer(frames + model.encoder.positions(frames), None)
    with torch.no_grad():
        assert torch.allclose(model.encoder(*batch[:2], mask=mask).context, context, atol=1e-5)
        codes = model(*batch, temperature=1.0).codes
        assert torch.equal(codes[0], model.extract_codes(*batch[:2])[0][0, batch[2][0]])


def test_forward_has_no_memory():
    model = create_model().train()
    batch = create_batch(model, [9000, 8000])
    state = {name: value.clone() for name, value in model.state_dict().items()}
    outputs = []
    for _ in range(2):
        torch.manual_seed(5)
        outputs.append(model(*batch, temperature=1.0).loss_sum)
    assert torch.equal(outputs[0], outputs[1])
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_autocast_stays_close_and_losses_are_fp32():
    model = create_model("layer").eval()
    batch = create_batch(model, [16000, 9000])
    plain = model(*batch, temperature=1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(*batch, temperature=1.0)
    for name in ("loss_sum", "diversity_loss", "feature_penalty", "soft_perplexity"):
        assert getattr(output, name).dtype == torch.float32
        assert torch.allclose(getattr(output, name), getattr(plain, name), rtol=0.05)


def test_channel_mask_hides_channels():
    model = create_model().eval()
    waveform, lengths = 0.1 * torch.randn(1, 9000), torch.tensor([9000])
    hide = torch.zeros(1, 32, dtype=torch.bool)
    hide[0, 3:7] = True
    with torch.no_grad():
        layers = model.encoder(waveform, lengths, channel_mask=hide, return_layers=True).layers
        plain = model.encoder(waveform, lengths, return_layers=True).layers
        model.encoder.projection.weight[3:7] = 0
        model.encoder.projection.bias[3:7] = 0
        expected = model.encoder(waveform, lengths, return_layers=True).layers
    assert torch.allclose(layers[0], expected[0], atol=1e-6)
    assert not torch.allclose(layers[0], plain[0], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "millions"), [("tiny", 6.5), ("small", 22.9), ("base", 95.0), ("large", 317.4)]
)
def test_presets_have_their_size_and_are_valid(name, millions):
    config = create_preset(name)
    assert config.validate() == []
    with torch.device("meta"):
        model = create_pretrain_model(config)
    found = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert found == pytest.approx(millions, rel=0.02)


def test_every_preset_takes_both_front_ends():
    for name in PRESETS:
        for features in Features:
            config = create_preset(name)
            config.features = features
            assert config.validate() == []
    with pytest.raises(ConfigError, match="`preset` must be one of tiny, small, base, large"):
        create_preset("huge")


def test_tiny_hears_frames_of_40_ms_with_both_front_ends():
    for features in Features:
        config = create_preset("tiny")
        config.features = features
        model = create_pretrain_model(config)
        frames = [model.num_frames(seconds * 16_000) for seconds in (1, 11)]
        assert frames[1] - frames[0] == 250


def test_silent_frames_of_filter_banks_stay_small():
    """A norm over each frame's channels would blow their noise up until it looks like speech."""
    config = create_preset("tiny")
    encoder = create_pretrain_model(config).encoder
    torch.manual_seed(0)
    waveform = 1e-4 * torch.randn(1, 32_000)
    waveform[0, :16_000] *= 3000
    features, _, _ = encoder.compute_features(waveform, torch.tensor([32_000]))
    assert not list(encoder.feature_norm.parameters())
    quiet = features[0, 30:]
    assert quiet.var(1).mean() < 0.1 * quiet.square().mean()


def test_local_convolutions_and_other_quantizers_are_not_exported():
    config = create_preset("tiny")
    config.features = Features.waveform
    with pytest.raises(ModelError, match="`quantizer` must be gumbel"):
        config_to_huggingface(config)
    config.quantizer = create_gumbel("tiny")
    with pytest.raises(ModelError, match="conv_kernel` must be 0"):
        config_to_huggingface(config)
    config.encoder.conv_kernel = 0
    assert config_to_huggingface(config)["num_hidden_layers"] == 6


def test_all_problems_are_named_at_once():
    config = create_config()
    config.encoder.num_heads = 5
    config.quantizer.num_codebooks = 3
    config.mask_prob = 1.5
    config.fbank.stack = 0
    with pytest.raises(ConfigError) as caught:
        create_pretrain_model(config)
    message = str(caught.value)
    for key in ("encoder.model_dim", "quantizer.code_dim", "mask_prob", "fbank.stack"):
        assert f"`{key}`" in message
    assert len(caught.value.problems) == 4
