"""Checkpoints of fairseq2's wav2vec 2.0 become model directories that compute the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from speechvq.errors import ModelError
from speechvq.models.directory import load_pretrain_model
from speechvq.models.importing import ImportedModel, import_model
from speechvq.models.interop_shapes import ImportOptions
from speechvq.models.pretrain_model import PretrainModel
from speechvq.nn.gumbel_quantizer import compute_soft_perplexity
from tests.support.parity import SMALL_CONV, Comparison, create_batch, normalize, randomize

pytest.importorskip("fairseq2")

from fairseq2.models.transformer import TransformerNormOrder
from fairseq2.models.wav2vec2 import (
    Wav2Vec2Config,
    Wav2Vec2EncoderConfig,
    Wav2Vec2Masker,
    create_wav2vec2_model,
)
from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrConfig, create_wav2vec2_asr_model
from fairseq2.nn import BatchLayout

OPTIONS = ImportOptions(num_heads=4)
VARIANTS = [(norm, order) for norm in ("group", "layer") for order in ("post", "pre")]


@pytest.fixture(autouse=True)
def run_their_quantizer_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    """It compiles one sum at each call, which takes seconds and changes nothing."""
    monkeypatch.setattr(torch, "compile", lambda **_: lambda function: function)


def create_encoder_config(norm: str, order: str, **changes: Any) -> Wav2Vec2EncoderConfig:
    values: dict[str, Any] = {
        "model_dim": 32,
        "feature_dim": 16,
        "feature_extractor_layer_descs": SMALL_CONV,
        "feature_extractor_bias": norm == "layer",
        "feature_extractor_layer_norm_convs": norm == "layer",
        "layer_norm_features": order == "post",
        "norm_order": TransformerNormOrder.PRE if order == "pre" else TransformerNormOrder.POST,
        "num_encoder_layers": 3,
        "num_encoder_attn_heads": 4,
        "ffn_inner_dim": 48,
        "pos_conv_kernel_size": 16,
        "num_pos_conv_groups": 4,
    }
    return Wav2Vec2EncoderConfig(**(values | changes))


def create_theirs(norm: str = "layer", order: str = "pre", **changes: Any) -> Any:
    torch.manual_seed(1)
    config = Wav2Vec2Config(
        encoder_config=create_encoder_config(norm, order, **changes),
        final_dim=24,
        quantized_dim=18,
        num_codebooks=3,
        num_codebook_entries=7,
    )
    model = create_wav2vec2_model(config).eval()
    randomize(model)
    return model


def import_state(
    folder: Path, checkpoint: Any, options: ImportOptions = OPTIONS
) -> tuple[ImportedModel, PretrainModel]:
    torch.save(checkpoint, folder / "theirs.pt", pickle_protocol=2)  # fairseq2's protocol
    imported = import_model(folder / "theirs.pt", folder / "ours", options=options)
    return imported, load_pretrain_model(folder / "ours")


def run_theirs(
    theirs: Any, waveform: Tensor, lengths: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Context and features; `mask` stands where their random mask would."""
    layout = BatchLayout.of(waveform, lengths.tolist())
    features, layout, _ = theirs.encoder_frontend.extract_features(waveform, layout)

    def put_mask(frames: Tensor, _: BatchLayout) -> tuple[Tensor, Tensor]:
        assert mask is not None
        return torch.where(mask[..., None], theirs.masker.temporal_mask_embed, frames), mask

    frames, _ = theirs.encoder_frontend.process_features(
        features, layout, None if mask is None else put_mask
    )
    return theirs.encoder(frames, layout), features


@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize(("norm", "order"), VARIANTS)
@torch.no_grad()
def test_every_stage_computes_the_same(
    tmp_path: Path, record_property: Any, norm: str, order: str, padded: bool
) -> None:
    theirs, compare = create_theirs(norm, order), Comparison(record_property)
    imported, ours = import_state(tmp_path, {"model": theirs.state_dict()})
    assert imported.fresh == imported.left_out == ()
    waveform, lengths = create_batch(None if padded else [8000] * 3)
    given = normalize(waveform, lengths) if norm == "layer" else waveform
    expected, features = run_theirs(theirs, given, lengths)
    encoded = ours.encoder(waveform, lengths)
    valid = torch.arange(expected.size(1)) < encoded.lengths[:, None]
    compare("context", encoded.context[valid], expected[valid])
    compare("features", encoded.features[valid], features[valid])

    quantized = theirs.quantizer(features)
    codes = ours.quantizer.encode(encoded.features)
    assert codes.shape[-1] == 3
    assert len(codes[valid].unique()) > 2
    compare("quantised", ours.quantizer.decode(codes)[valid], quantized.quantized_vectors[valid])
    logits = ours.quantizer.compute_logits(encoded.features)
    everything = torch.ones(codes.shape[:2], dtype=torch.bool)
    perplexity = compute_soft_perplexity(logits.softmax(-1), everything).sum()
    if not padded:
        assert float((perplexity - quantized.prob_perplexity).abs()) <= 1e-4


@pytest.mark.parametrize(("norm", "order"), VARIANTS)
@torch.no_grad()
def test_logits_of_the_contrastive_task(
    tmp_path: Path, record_property: Any, norm: str, order: str
) -> None:
    theirs, compare = create_theirs(norm, order), Comparison(record_property)
    _, ours = import_state(tmp_path, {"model": theirs.state_dict()})
    waveform, lengths = create_batch()
    frames = [ours.num_frames(int(length)) for length in lengths]
    generator = torch.Generator().manual_seed(5)
    masked = torch.stack([torch.randperm(n, generator=generator)[:9].sort().values for n in frames])
    distractors = torch.randint(0, 9, (3, 9, 12), generator=generator)
    mask = torch.zeros(3, max(frames), dtype=torch.bool).scatter(1, masked, True)
    given = normalize(waveform, lengths) if norm == "layer" else waveform
    context, features = run_theirs(theirs, given, lengths, mask)
    quantized = theirs.quantizer(Wav2Vec2Masker.extract_masked_elements(features, mask))
    targets = theirs.final_target_proj(quantized.quantized_vectors)
    drawn = targets[torch.arange(3)[:, None, None], distractors]
    predicted = theirs.final_proj(Wav2Vec2Masker.extract_masked_elements(context, mask))
    expected = theirs._compute_logits(predicted, targets, drawn)

    output = ours(waveform, lengths, masked, torch.tensor([9] * 3), distractors, temperature=1.0)
    assert bool(expected.isinf().any()), "some distractors should equal their target"
    compare("logits", output.task.logits, expected)


@pytest.mark.parametrize("kind", ["bare", "wrapped", "half", "counted"])
@torch.no_grad()
def test_ways_in_which_files_are_written(tmp_path: Path, kind: str) -> None:
    theirs = create_theirs("group", "post")
    state = theirs.state_dict()
    checkpoint = {
        "bare": state,
        "wrapped": {"model": {f"module.{name}": tensor for name, tensor in state.items()}},
        "half": {"fs2": True, "model": {name: tensor.half() for name, tensor in state.items()}},
        "counted": {"model": state | {"quantizer.num_updates": torch.tensor(70_000)}},
    }[kind]
    _, ours = import_state(tmp_path, checkpoint)
    if kind == "half":
        theirs.half().float()
    waveform, lengths = create_batch()
    expected, _ = run_theirs(theirs, waveform, lengths)
    encoded = ours.encoder(waveform, lengths)
    valid = torch.arange(expected.size(1)) < encoded.lengths[:, None]
    assert torch.allclose(encoded.context[valid], expected[valid], atol=1e-5)


@pytest.mark.parametrize("masks", [True, False])
@torch.no_grad()
def test_encoder_of_a_recogniser_gets_a_new_quantiser(
    tmp_path: Path, record_property: Any, masks: bool
) -> None:
    torch.manual_seed(1)
    theirs = create_wav2vec2_asr_model(
        Wav2Vec2AsrConfig(
            encoder_config=create_encoder_config("layer", "pre"),
            target_vocab_size=9,
            use_masking=masks,
        )
    ).eval()
    randomize(theirs)
    # As in omnilingual-asr's recognisers with a language model behind the encoder.
    state = theirs.state_dict() | {"llama_decoder.layers.0.ffn.weight": torch.zeros(2, 2)}
    imported, ours = import_state(tmp_path, {"model": state})
    new = ("quantizer", "task")
    assert imported.fresh == (new if masks else ("encoder.mask_embedding", *new))
    assert imported.left_out == ("final_proj", "llama_decoder")
    waveform, lengths = create_batch()
    expected, _ = run_theirs(theirs, normalize(waveform, lengths), lengths)
    encoded = ours.encoder(waveform, lengths)
    valid = torch.arange(expected.size(1)) < encoded.lengths[:, None]
    Comparison(record_property)("context", encoded.context[valid], expected[valid])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_conformer": True, "depthwise_conv_kernel_size": 5}, "Conformers cannot"),
        ({"pos_encoder_type": "rotary"}, "no single positional convolution"),
        ({"pos_encoder_depth": 2}, "no single positional convolution"),
        ({"use_fbank": True, "num_fbank_channels": 8, "fbank_stride": 2}, "filter banks"),
        ({"model_dim": 16}, "no projection"),
        ({"norm_order": TransformerNormOrder.PRE}, "has both"),
        ({"layer_norm_features": False}, "has neither"),
    ],
)
def test_models_that_speechvq_has_not_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    theirs = create_theirs("group", "post", **changes)
    with pytest.raises(ModelError, match=message) as caught:
        import_state(tmp_path, {"model": theirs.state_dict()})
    assert str(caught.value).startswith(f"{tmp_path / 'theirs.pt'}: ")
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ImportOptions(), "`--heads` must be given.*32 wide"),
        (ImportOptions(num_heads=5), r"`--heads` must divide the model's width \(32\)"),
        (ImportOptions(num_heads=4, strides=[2, 2]), "`--strides` must have 7 positive numbers"),
        (ImportOptions(num_heads=4, norm_first=False), "`--norm-order` must be left out.*pre-norm"),
    ],
)
def test_options_that_cannot_be_are_refused(
    tmp_path: Path, options: ImportOptions, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        import_state(tmp_path, {"model": create_theirs().state_dict()}, options)


def test_settings_are_read_off_or_told(tmp_path: Path) -> None:
    convs = [(16, 8, 4), (24, 4, 4), (16, 4, 2)]
    theirs = create_theirs(feature_extractor_layer_descs=convs)
    with pytest.raises(ModelError, match=r"`--strides` must be given.*kernels 8, 4, 4"):
        import_state(tmp_path, {"model": theirs.state_dict()})
    options = ImportOptions(num_heads=2, strides=[4, 4, 2], normalize=False)
    imported, ours = import_state(tmp_path, {"model": theirs.state_dict()}, options)
    assert imported.assumed == {"preset": "large"}
    waveform, encoder = ours.config.waveform, ours.config.encoder
    assert (waveform.dims, waveform.kernels) == ([16, 24, 16], [8, 4, 4])
    assert (waveform.strides, waveform.bias, waveform.normalize) == ([4, 4, 2], True, False)
    assert (encoder.num_heads, encoder.num_layers, encoder.ffn_dim) == (2, 3, 48)
    assert (encoder.position_kernel, encoder.position_groups) == (16, 4)
    quantizer = ours.config.quantizer
    assert (quantizer.num_codebooks, quantizer.codebook_size, quantizer.code_dim) == (3, 7, 18)
    assert ours.config.final_dim == 24


@pytest.mark.parametrize(("width", "heads"), [(64, 1), (768, 12), (1024, 16), (1280, 16)])
def test_heads_of_published_widths(tmp_path: Path, width: int, heads: int) -> None:
    theirs = create_theirs(model_dim=width, num_encoder_layers=1, num_encoder_attn_heads=1)
    imported, ours = import_state(tmp_path, {"model": theirs.state_dict()}, ImportOptions())
    assert ours.config.encoder.num_heads == heads
    assert imported.assumed == {
        "preset": "large",
        "encoder.num_heads": heads,
        "waveform.strides": [5, 2, 2, 2, 2, 2, 2],
        "waveform.normalize": True,
    }


def change(state: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    changed = dict(state)
    if value is None:
        del changed[name]
    else:
        changed[name] = value
    return changed


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("encoder.layers.1.self_attn.k_proj.weight", None, "is missing"),
        ("encoder.layers.1.ffn_layer_norm.bias", None, "is missing"),
        ("encoder.layers.1.extra.bias", torch.zeros(3), "no counterpart"),
        ("encoder.layers.1.ffn.inner_proj.weight", torch.zeros(3, 3), "has the shape"),
        ("quantizer.entries", torch.zeros(1, 22, 6), "do not make vectors of 18"),
        ("quantizer.entries", torch.zeros(21, 6), "must have 3 axes"),
        ("encoder_frontend.model_dim_proj.weight", torch.zeros(0, 2), "must have 2 axes"),
        ("encoder_frontend.model_dim_proj.bias", "text", "must be tensors only"),
    ],
)
def test_damaged_states_are_refused(tmp_path: Path, name: str, value: Any, message: str) -> None:
    state = change(create_theirs().state_dict(), name, value)
    with pytest.raises(ModelError, match=message):
        import_state(tmp_path, {"model": state})
    assert not (tmp_path / "ours").exists()
