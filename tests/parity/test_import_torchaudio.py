"""State dicts of torchaudio's wav2vec 2.0 become model directories that compute the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from recipes import import_model as recipe
from speechvq.errors import ModelError
from speechvq.models.directory import load_pretrain_model
from speechvq.models.importing import ImportedModel, import_model
from speechvq.models.interop_shapes import ImportOptions
from speechvq.models.pretrain_model import PretrainModel
from tests.support.parity import SMALL_CONV, Comparison, create_batch, normalize, randomize

torchaudio = pytest.importorskip("torchaudio")

VARIANTS = [(norm, order) for norm in ("group", "layer") for order in ("post", "pre")]
NEW = ("encoder.mask_embedding", "quantizer", "task")


def create_settings(norm: str, order: str) -> dict[str, Any]:
    return {
        "extractor_mode": f"{norm}_norm",
        "extractor_conv_layer_config": SMALL_CONV,
        "extractor_conv_bias": norm == "layer",
        "encoder_embed_dim": 32,
        "encoder_projection_dropout": 0.0,
        "encoder_pos_conv_kernel": 16,
        "encoder_pos_conv_groups": 4,
        "encoder_num_layers": 3,
        "encoder_num_heads": 4,
        "encoder_attention_dropout": 0.0,
        "encoder_ff_interm_features": 48,
        "encoder_ff_interm_dropout": 0.0,
        "encoder_dropout": 0.0,
        "encoder_layer_norm_first": order == "pre",
        "encoder_layer_drop": 0.0,
    }


def create_theirs(norm: str, order: str, num_labels: int | None = None) -> Any:
    torch.manual_seed(1)
    settings = create_settings(norm, order)
    model = torchaudio.models.wav2vec2_model(**settings, aux_num_out=num_labels).eval()
    randomize(model)
    return model


def create_hubert() -> Any:
    torch.manual_seed(1)
    masks = {
        f"mask_{kind}{name}": value
        for kind in ("", "channel_")
        for name, value in {"prob": 0.5, "selection": "static", "other": 0.0, "length": 4}.items()
    }
    model = torchaudio.models.hubert_pretrain_model(
        **create_settings("group", "post"),
        **masks,
        no_mask_overlap=False,
        mask_min_space=1,
        no_mask_channel_overlap=False,
        mask_channel_min_space=1,
        skip_masked=False,
        skip_nomask=False,
        num_classes=5,
        final_dim=24,
        feature_grad_mult=None,
    ).eval()
    randomize(model)
    return model


def import_state(
    folder: Path, checkpoint: Any, *, order: str | None = None, normalizes: bool | None = None
) -> tuple[ImportedModel, PretrainModel]:
    torch.save(checkpoint, folder / "theirs.pt")
    options = ImportOptions(
        num_heads=4, norm_first=None if order is None else order == "pre", normalize=normalizes
    )
    imported = import_model(folder / "theirs.pt", folder / "ours", options=options)
    return imported, load_pretrain_model(folder / "ours")


def run_theirs(theirs: Any, waveform: Tensor, lengths: Tensor) -> Tensor:
    """Context before `aux`."""
    features, lengths = theirs.feature_extractor(waveform, lengths)
    context: Tensor = theirs.encoder(features, lengths)
    return context


def compare_context(
    compare: Comparison, theirs: Any, ours: PretrainModel, lengths: list[int] | None = None
) -> None:
    waveform, sizes = create_batch(lengths)
    given = normalize(waveform, sizes) if ours.config.waveform.normalize else waveform
    expected = run_theirs(theirs, given, sizes)
    encoded = ours.encoder(waveform, sizes)
    valid = torch.arange(expected.size(1)) < encoded.lengths[:, None]
    compare("context", encoded.context[valid], expected[valid])


@pytest.mark.parametrize("lengths", [[8000] * 3, None], ids=["full", "padded"])
@pytest.mark.parametrize(("norm", "order"), VARIANTS)
@torch.no_grad()
def test_encoder_computes_the_same(
    tmp_path: Path, record_property: Any, norm: str, order: str, lengths: list[int] | None
) -> None:
    theirs = create_theirs(norm, order)
    imported, ours = import_state(tmp_path, theirs.state_dict(), order=order)
    assert imported.fresh == NEW
    assert imported.left_out == ()
    assert "encoder.norm_first" not in imported.assumed
    compare_context(Comparison(record_property), theirs, ours, lengths)


@pytest.mark.parametrize(("norm", "order"), [("group", "post"), ("layer", "pre")])
@torch.no_grad()
def test_published_orders_need_no_option(
    tmp_path: Path, record_property: Any, norm: str, order: str
) -> None:
    theirs = create_theirs(norm, order, num_labels=9)
    imported, ours = import_state(tmp_path, theirs.state_dict())
    assert imported.left_out == ("aux",)
    assert imported.assumed["encoder.norm_first"] is (order == "pre")
    assert imported.assumed["waveform.normalize"] is (norm == "layer")
    compare_context(Comparison(record_property), theirs, ours)


@torch.no_grad()
def test_names_before_torch_2_and_a_bundle_around_the_model(
    tmp_path: Path, record_property: Any
) -> None:
    theirs = create_theirs("layer", "pre")
    old = {"weight_g": "original0", "weight_v": "original1"}
    state = {f"model.{name}": tensor for name, tensor in theirs.state_dict().items()}
    for name, new in old.items():
        start = "model.encoder.transformer.pos_conv_embed.conv."
        state[start + name] = state.pop(f"{start}parametrizations.weight.{new}")
    _, ours = import_state(tmp_path, {"state_dict": state}, normalizes=False)
    assert not ours.config.waveform.normalize
    compare_context(Comparison(record_property), theirs, ours)


@pytest.mark.parametrize("prefix", ["", "model."])
@torch.no_grad()
def test_pretrained_hubert_brings_its_mask(
    tmp_path: Path, record_property: Any, prefix: str
) -> None:
    theirs = create_hubert()
    state = {f"{prefix}{name}": tensor for name, tensor in theirs.state_dict().items()}
    imported, ours = import_state(tmp_path, {"state_dict": state})
    assert imported.fresh == ("quantizer", "task")
    assert imported.left_out == ("logit_generator",)
    assert torch.equal(ours.encoder.mask_embedding, theirs.mask_generator.mask_embedding)
    compare_context(Comparison(record_property), theirs.wav2vec2, ours)


def test_wavlm_is_refused(tmp_path: Path) -> None:
    with torch.device("meta"):
        names = list(torchaudio.models.wavlm_base().state_dict())
    with pytest.raises(ModelError, match="is a WavLM"):
        import_state(tmp_path, {name: torch.zeros(1) for name in names})
    assert not (tmp_path / "ours").exists()


def test_model_of_transformers_in_a_file_is_refused(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, conv_dim=(16,) * 7
    )
    state = transformers.Wav2Vec2ForCTC(config).state_dict()
    with pytest.raises(ModelError, match="weights of transformers; give its directory"):
        import_state(tmp_path, state)


def test_command_says_what_was_kept_and_what_was_assumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(create_theirs("layer", "post", num_labels=9).state_dict(), tmp_path / "theirs.pt")
    words = [str(tmp_path / "theirs.pt"), str(tmp_path / "ours"), "--heads=4", "--norm-order=post"]
    recipe.run(recipe.parse_arguments(words))
    printed = capsys.readouterr().out
    assert "A .pt file is a pickle" in printed
    assert "new now: encoder.mask_embedding, quantizer, task." in printed
    assert "Left out, as a pretraining model has none: aux." in printed
    assert "assumed: waveform.strides=[5, 2, 2, 2, 2, 2, 2], waveform.normalize=True." in printed
    config = load_pretrain_model(tmp_path / "ours").config
    assert (config.encoder.num_heads, config.encoder.norm_first) == (4, False)


def test_strides_that_are_no_numbers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        recipe.parse_arguments(["theirs.pt", "ours", "--strides=5,x"])
    assert "must be whole numbers with commas between" in capsys.readouterr().err
