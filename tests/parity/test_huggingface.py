"""The same weights and batches through transformers' Wav2Vec2 and ours, compared stage by stage."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from speechvq.models.build import create_ctc_model, create_pretrain_model
from speechvq.models.config import CTCModelConfig
from speechvq.models.interop_huggingface import (
    config_to_huggingface,
    pretrain_config_from_huggingface,
    state_from_huggingface,
    state_to_huggingface,
)
from speechvq.models.pretrain_model import PretrainModel
from speechvq.models.vocabulary import build_character_vocabulary
from speechvq.nn.gumbel_quantizer import compute_soft_perplexity
from speechvq.nn.masking import compute_span_mask, sample_distractors

transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-5
VARIANTS = list(itertools.product(["group", "layer"], [False, True], [False, True]))
NAMES = [
    f"{norm}-{'pre' if pre else 'post'}-{'padded' if padded else 'full'}"
    for norm, pre, padded in VARIANTS
]


def create_config(norm: str, norm_first: bool):
    return transformers.Wav2Vec2Config(
        vocab_size=12,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        conv_dim=(16,) * 7,
        conv_bias=norm == "layer",
        feat_extract_norm=norm,
        do_stable_layer_norm=norm_first,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        num_codevectors_per_group=20,
        num_codevector_groups=2,
        codevector_dim=16,
        proj_codevector_dim=24,
        num_negatives=10,
        layerdrop=0.0,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        feat_quantizer_dropout=0.0,
        final_dropout=0.0,
        mask_time_prob=0.6,
        mask_time_length=7,
        mask_time_min_masks=3,
        attn_implementation="eager",
    )


def randomize(model: torch.nn.Module) -> None:
    """Fresh transformers models have zero biases and unit norms, which would hide mistakes."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
            elif "codevectors" in name or "weight_proj" in name:
                parameter.normal_()


def create_pair(norm: str, norm_first: bool):
    torch.manual_seed(1)
    theirs = transformers.Wav2Vec2ForPreTraining(create_config(norm, norm_first)).eval()
    randomize(theirs)
    config = pretrain_config_from_huggingface(theirs.config.to_dict())
    ours = create_pretrain_model(config).eval()
    ours.load_state_dict(state_from_huggingface(theirs.state_dict(), num_codebooks=2))
    return theirs, ours


def create_waveforms(padded: bool) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([16000, 9400, 12345] if padded else [16000] * 3)
    waveform = torch.randn(3, 16000)
    waveform[torch.arange(16000) >= lengths[:, None]] = 0.0
    return waveform, lengths


def draw_masks(model: PretrainModel, lengths: Tensor, num_distractors: int):
    """Masked frames and distractors in our form and in transformers'."""
    rng = np.random.default_rng(0)
    frames = [model.num_frames(int(n)) for n in lengths]
    masks = [compute_span_mask(n, prob=0.5, length=4, min_spans=2, rng=rng) for n in frames]
    indices = [np.flatnonzero(mask) for mask in masks]
    size, total = max(map(len, indices)), max(frames)
    masked = torch.zeros(3, size, dtype=torch.long)
    distractors = torch.zeros(3, size, num_distractors, dtype=torch.long)
    their_mask = torch.zeros(3, total, dtype=torch.bool)
    their_negatives = torch.zeros(3, total, num_distractors, dtype=torch.long)
    for row, index in enumerate(indices):
        drawn = sample_distractors(len(index), num_distractors, rng)
        masked[row, : len(index)] = torch.from_numpy(index)
        distractors[row, : len(index)] = torch.from_numpy(drawn)
        their_mask[row, index] = True
        their_negatives[row, index] = torch.from_numpy(index[drawn] + row * total)
    counts = torch.tensor([len(index) for index in indices])
    return masked, counts, distractors, their_mask, their_negatives


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) <= TOLERANCE


@pytest.mark.parametrize(("norm", "norm_first", "padded"), VARIANTS, ids=NAMES)
@torch.no_grad()
def test_every_stage_of_pretraining(norm: str, norm_first: bool, padded: bool):
    theirs, ours = create_pair(norm, norm_first)
    waveform, lengths = create_waveforms(padded)
    attention_mask = torch.arange(16000) < lengths[:, None]
    masked, counts, distractors, mask, negatives = draw_masks(ours, lengths, 10)
    expected = theirs(
        waveform,
        attention_mask=attention_mask if padded else None,
        mask_time_indices=mask,
        sampled_negative_indices=negatives,
        output_hidden_states=True,
    )
    hidden = theirs.wav2vec2.feature_extractor(waveform).transpose(1, 2)
    encoded = ours.encoder(waveform, lengths, mask=mask, return_layers=True)
    valid = torch.arange(mask.size(1)) < encoded.lengths[:, None]

    assert_close(ours.encoder.front_end(waveform, lengths)[0], hidden)
    their_projection, their_features = theirs.wav2vec2.feature_projection(hidden)
    assert_close(encoded.features, their_features)
    assert_close(ours.encoder.projection(encoded.features), their_projection)
    frames = torch.randn(3, mask.size(1), 32)
    assert_close(ours.encoder.positions(frames), theirs.wav2vec2.encoder.pos_conv_embed(frames))
    # In pre-norm models their last entry is the output of the final norm, ours the layer's.
    num_layers = len(expected.hidden_states) - norm_first
    for layer, hidden_states in zip(
        encoded.layers[:num_layers], expected.hidden_states[:num_layers], strict=True
    ):
        assert_close(layer[valid], hidden_states[valid])
    assert_close(encoded.context[valid], expected.hidden_states[-1][valid])
    assert_close(
        ours.task.context_projection(encoded.context)[valid], expected.projected_states[valid]
    )
    codes = ours.quantizer.encode(encoded.features)
    targets = ours.task.target_projection(ours.quantizer.decode(codes))
    assert_close(targets[valid], expected.projected_quantized_states[valid])
    their_logits = theirs.quantizer.weight_proj(their_features)
    assert torch.equal(codes, their_logits.unflatten(-1, (2, 20)).argmax(-1))

    output = ours(waveform, lengths, masked, counts, distractors, temperature=1.0)
    assert int(output.num_targets) == int(counts.sum()) == int(mask.sum())
    per_frame = float(expected.contrastive_loss) / int(output.num_targets)
    assert abs(float(output.loss_sum) / int(output.num_targets) - per_frame) <= TOLERANCE
    check_logits(theirs, expected, mask, negatives, output)


def check_logits(theirs, expected, mask: Tensor, negatives: Tensor, output) -> None:
    """Similarities of every masked frame with its target and its distractors."""
    targets = expected.projected_quantized_states
    drawn = targets.flatten(0, 1)[negatives].permute(2, 0, 1, 3)  # (K, B, T, C)
    logits = theirs.compute_contrastive_logits(
        targets[None],
        drawn,
        expected.projected_states,
        theirs.config.contrastive_logits_temperature,
    )  # (1 + K, B, T)
    equal = (targets == drawn).all(-1)
    assert bool(equal.any()), "the batch should hold duplicates"
    logits[1:][equal] = float("-inf")
    wanted = logits.permute(1, 2, 0)[mask]  # (all masked frames, 1 + K)
    found = output.task.logits[output.task.valid]
    assert torch.equal(found.isinf(), wanted.isinf())
    assert_close(found.masked_fill(found.isinf(), 0.0), wanted.masked_fill(wanted.isinf(), 0.0))


@pytest.mark.parametrize("norm_first", [False, True])
def test_diversity_loss_and_gradients_in_training(norm_first: bool):
    theirs, ours = create_pair("layer", norm_first)
    waveform, lengths = create_waveforms(padded=True)
    masked, counts, distractors, mask, negatives = draw_masks(ours, lengths, 10)
    theirs.train()
    expected = theirs(
        waveform,
        attention_mask=torch.arange(16000) < lengths[:, None],
        mask_time_indices=mask,
        sampled_negative_indices=negatives,
    )
    output = ours.train()(waveform, lengths, masked, counts, distractors, temperature=2.0)
    wanted = expected.diversity_loss / counts.sum()
    assert abs(float((output.diversity_loss - wanted).detach())) <= TOLERANCE
    wanted.backward()
    output.diversity_loss.backward()
    gradient = state_from_huggingface(
        {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None},
        num_codebooks=2,
    )
    assert_close(ours.quantizer.projection.weight.grad, gradient["quantizer.projection.weight"])
    found = ours.encoder.front_end.layers[0].conv.weight.grad
    # Our configuration has wav2vec 2.0's gradient scale, theirs has none.
    name = "encoder.front_end.layers.0.conv.weight"
    assert_close(found / ours.encoder.feature_grad_scale, gradient[name])


def test_perplexity_of_masked_frames_only():
    theirs, _ = create_pair("layer", True)
    probs = torch.randn(3, 15, 2, 20).softmax(-1)
    valid = torch.rand(3, 15) < 0.5
    wanted = theirs.quantizer._compute_perplexity(probs.flatten(0, 1), valid)
    assert abs(float(compute_soft_perplexity(probs, valid).sum() - wanted)) <= 1e-4


@pytest.mark.parametrize(("norm", "norm_first", "padded"), VARIANTS, ids=NAMES)
@torch.no_grad()
def test_logits_of_ctc(norm: str, norm_first: bool, padded: bool):
    torch.manual_seed(2)
    theirs = transformers.Wav2Vec2ForCTC(create_config(norm, norm_first)).eval()
    randomize(theirs)
    vocabulary = build_character_vocabulary(["abcdefghi"])
    config = pretrain_config_from_huggingface(theirs.config.to_dict())
    ours = create_ctc_model(
        CTCModelConfig(waveform=config.waveform, encoder=config.encoder), {"eng_Latn": vocabulary}
    ).eval()
    ours.load_state_dict(state_from_huggingface(theirs.state_dict(), language="eng_Latn"))
    waveform, lengths = create_waveforms(padded)
    attention_mask = torch.arange(16000) < lengths[:, None]
    expected = theirs(waveform, attention_mask=attention_mask if padded else None).logits
    output = ours(waveform, lengths, language="eng_Latn")
    valid = torch.arange(expected.size(1)) < output.lengths[:, None]
    assert_close(output.logits[valid], expected[valid])


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_names_and_configuration_survive_the_way_back(norm: str):
    theirs, ours = create_pair(norm, True)
    back = state_to_huggingface(ours.state_dict())
    assert back.keys() == theirs.state_dict().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in theirs.state_dict().items())
    masks = (ours.config.mask_prob, ours.config.mask_length, ours.config.mask_min_spans)
    assert masks == (0.6, 7, 3)
    document = config_to_huggingface(ours.config)
    original = theirs.config.to_dict()
    different = {k for k, v in document.items() if k != "architectures" and original[k] != v}
    assert different <= {"conv_dim", "conv_kernel", "conv_stride"}
    assert pretrain_config_from_huggingface(original | document) == ours.config


@pytest.mark.parametrize(("prob", "length"), [(0.65, 10), (0.3, 4)])
def test_both_mask_as_many_frames_with_the_same_settings(prob: float, length: int):
    """`mask_time_prob` means what `mask_prob` means, and not the probability of a start."""
    from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices

    np.random.seed(0)
    rng = np.random.default_rng(0)
    theirs = _compute_mask_indices((400, 500), prob, length, min_masks=2).mean()
    drawn = [
        compute_span_mask(500, prob=prob, length=length, min_spans=2, rng=rng) for _ in range(400)
    ]
    assert abs(theirs - np.mean(drawn)) < 0.01
