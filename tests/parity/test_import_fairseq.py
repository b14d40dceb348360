"""Checkpoints of fairseq become model directories that compute the same."""

from __future__ import annotations

import argparse
import contextlib
import pickle
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from speechvq.errors import ModelError
from speechvq.models import foreign_pickle
from speechvq.models.config import GumbelConfig
from speechvq.models.foreign_pickle import to_plain
from speechvq.models.importing import import_model
from tests.support.huggingface import compare_models, create_theirs
from tests.support.parity import Comparison

omegaconf = pytest.importorskip("omegaconf")


def to_fairseq(state: dict[str, Tensor], norm: str) -> dict[str, Tensor]:
    """Weights under the names that fairseq publishes."""
    conv_norm = "2.1" if norm == "layer" else "2"
    rules = [
        (r"^wav2vec2\.feature_projection\.layer_norm\.", "layer_norm."),
        (r"^wav2vec2\.feature_projection\.projection\.", "post_extract_proj."),
        (r"^wav2vec2\.masked_spec_embed$", "mask_emb"),
        (r"^quantizer\.codevectors$", "quantizer.vars"),
        (r"^project_hid\.", "final_proj."),
        (r"^wav2vec2\.", ""),
        (r"pos_conv_embed\.conv\.parametrizations\.weight\.original0", "pos_conv.0.weight_g"),
        (r"pos_conv_embed\.conv\.parametrizations\.weight\.original1", "pos_conv.0.weight_v"),
        (r"pos_conv_embed\.conv\.bias", "pos_conv.0.bias"),
        (r"(conv_layers\.\d+)\.conv\.", r"\1.0."),
        (r"(conv_layers\.\d+)\.layer_norm\.", rf"\1.{conv_norm}."),
        (r"(encoder\.layers\.\d+)\.layer_norm\.", r"\1.self_attn_layer_norm."),
        (r"\.attention\.", ".self_attn."),
        (r"\.feed_forward\.intermediate_dense\.", ".fc1."),
        (r"\.feed_forward\.output_dense\.", ".fc2."),
    ]
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def create_settings(norm: str) -> dict[str, Any]:
    return {
        "_name": "wav2vec2",
        "extractor_mode": "layer_norm" if norm == "layer" else "default",
        "layer_norm_first": norm == "layer",
        "encoder_layers": 2,
        "encoder_embed_dim": 32,
        "encoder_ffn_embed_dim": 48,
        "encoder_attention_heads": 4,
        "conv_feature_layers": "[(16, 10, 5)] + [(16, 3, 2)] * 4 + [(16,2,2)] + [(16,2,2)]",
        "conv_bias": norm == "layer",
        "conv_pos": 16,
        "conv_pos_groups": 4,
        "quantize_targets": True,
        "latent_vars": 20,
        "latent_groups": 2,
        "latent_dim": 16,
        "final_dim": 24,
        "logit_temp": 0.1,
    }


@pytest.mark.parametrize("task", ["audio_pretraining", "temp_sampled_audio_pretraining"])
@pytest.mark.parametrize("norm", ["group", "layer"])
def test_fairseq_checkpoint_computes_the_same(
    tmp_path: Path, compare: Comparison, norm: str, task: str
) -> None:
    theirs = create_theirs(norm)
    config = {"model": create_settings(norm), "task": {"_name": task, "normalize": False}}
    checkpoint = {
        "args": None,
        "cfg": omegaconf.OmegaConf.create(config),
        "model": to_fairseq(theirs.state_dict(), norm),
        "optimizer_history": [{"criterion_name": "Wav2vecCriterion", "num_updates": 7}],
        "last_optimizer_state": None,
        "extra_state": {"epoch": 1, "best": float("inf")},
    }
    torch.save(checkpoint, tmp_path / "checkpoint_best.pt")
    imported = import_model(tmp_path / "checkpoint_best.pt", tmp_path / "ours")
    assert imported.fresh == ()
    compare_models(theirs, tmp_path / "ours", compare)


def test_old_checkpoint_with_arguments_computes_the_same(
    tmp_path: Path, compare: Comparison
) -> None:
    theirs = create_theirs("group")
    settings = create_settings("group") | {"task": "audio_pretraining", "normalize": False}
    checkpoint = {
        "args": argparse.Namespace(**settings),
        "model": to_fairseq(theirs.state_dict(), "group"),
    }
    torch.save(checkpoint, tmp_path / "old.pt")
    import_model(tmp_path / "old.pt", tmp_path / "ours")
    compare_models(theirs, tmp_path / "ours", compare)


def test_half_precision_weights_are_read(tmp_path: Path, compare: Comparison) -> None:
    theirs = create_theirs("group").half().float()
    weights = {k: v.half() for k, v in to_fairseq(theirs.state_dict(), "group").items()}
    settings = argparse.Namespace(**create_settings("group"))
    torch.save({"args": settings, "model": weights}, tmp_path / "half.pt")
    import_model(tmp_path / "half.pt", tmp_path / "ours")
    compare_models(theirs, tmp_path / "ours", compare)


@pytest.mark.parametrize("way", ["numbers", "text", "absent"])
def test_settings_of_training_come_along(tmp_path: Path, way: str) -> None:
    training = {
        "numbers": {"mask_prob": 0.5, "latent_temp": [2.0, 0.1, 0.999], "feature_grad_mult": 1.0},
        "text": {"mask_length": 7, "latent_temp": "(1.5, 0.1, 0.99)"},
        "absent": {"latent_temp": None},
    }[way]
    losses = {"loss_weights": "[0.2, 0]" if way == "text" else [0.2, 0.0]}
    config = {
        "model": create_settings("group") | training,
        "task": "audio_pretraining",
        "criterion": {} if way == "absent" else losses,
    }
    weights = to_fairseq(create_theirs("group").state_dict(), "group")
    torch.save({"cfg": config, "model": weights}, tmp_path / "checkpoint.pt")
    found = import_model(tmp_path / "checkpoint.pt", tmp_path / "ours").model.config
    quantizer = found.quantizer
    assert isinstance(quantizer, GumbelConfig)
    temperatures = (
        quantizer.temperature_start,
        quantizer.temperature_end,
        quantizer.temperature_decay,
    )
    masks = (found.mask_prob, found.mask_length, found.feature_grad_scale)
    losses = (found.diversity_weight, found.feature_penalty_weight)
    expected = {
        "numbers": ((2.0, 0.1, 0.999), (0.5, 10, 1.0), (0.2, 0.0)),
        "text": ((1.5, 0.1, 0.99), (0.65, 7, 0.1), (0.2, 0.0)),
        "absent": ((2.0, 0.5, 0.999995), (0.65, 10, 0.1), (0.1, 10.0)),
    }
    assert (temperatures, masks, losses) == expected[way]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("latent_temp", "(2, 'x')"),
        ("latent_temp", [2.0]),
        ("latent_temp", [2.0, float("inf"), 0.9]),
        ("mask_prob", "a b"),
        ("mask_length", 7.5),
        ("feature_grad_mult", float("nan")),
        ("encoder_embed_dim", "x"),
        ("dropout", "${a}"),
        ("latent_vars", [1]),
        ("encoder_attention_heads", True),
        ("layer_norm_first", "False"),
        ("conv_bias", 1),
        ("extractor_mode", "group_norm"),
        ("extractor_mode", ["layer_norm"]),
        ("activation_fn", "relu"),
        ("activation_fn", "gelu_accurate"),
        ("normalize", "no"),
    ],
)
def test_settings_of_fairseq_that_cannot_be_are_refused_by_name(
    tmp_path: Path, name: str, value: Any
) -> None:
    settings = argparse.Namespace(**(create_settings("group") | {name: value}))
    torch.save({"args": settings, "model": {}}, tmp_path / "checkpoint.pt")
    with pytest.raises(ModelError, match=f"`{name}` (cannot be understood|must )") as caught:
        import_model(tmp_path / "checkpoint.pt", tmp_path / "ours")
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_fairseq_file_that_does_not_tell_normalisation_says_so(tmp_path: Path) -> None:
    weights = to_fairseq(create_theirs("layer").state_dict(), "layer")
    settings = argparse.Namespace(**create_settings("layer"))
    torch.save({"args": settings, "model": weights}, tmp_path / "old.pt")
    imported = import_model(tmp_path / "old.pt", tmp_path / "ours")
    assert imported.model.config.waveform.normalize
    assert imported.assumed == {"waveform.normalize": True}


def test_damaged_files_are_errors_and_nothing_else(tmp_path: Path) -> None:
    theirs = create_theirs("group")
    settings = argparse.Namespace(**create_settings("group"))
    weights = to_fairseq(theirs.state_dict(), "group")
    torch.save({"args": settings, "model": weights}, tmp_path / "good.pt")
    content = (tmp_path / "good.pt").read_bytes()
    rng = random.Random(0)
    for number in range(60):
        damaged = bytearray(content)
        if number % 3 == 0:
            damaged = damaged[: rng.randrange(len(damaged))]
        for _ in range(20):
            if damaged:
                damaged[rng.randrange(min(len(damaged), 20_000))] = rng.randrange(256)
        path = tmp_path / f"damaged{number}.pt"
        path.write_bytes(bytes(damaged))
        with contextlib.suppress(ModelError):
            import_model(path, tmp_path / f"ours{number}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cfg": {"model": {}, "task": {"_name": "audio_finetuning"}}}, "not a finetuned one"),
        ({"cfg": {"model": {}, "task": {"_name": [1]}}}, "not a finetuned one"),
        ({"model": {1: torch.zeros(3)}}, "must hold tensors only, by their names"),
        ({"args": None}, "must have `model` and `cfg` or `args`"),
        ({"model": {"mask_emb": torch.zeros(3)}}, "cannot work|do not fit"),
        ({"model": {"encoder.layers.0.adapter.weight": torch.zeros(3)}}, "no counterpart"),
        ({"model": {"mask_emb": [1, 2]}}, "must hold tensors only"),
    ],
)
def test_checkpoint_of_another_kind_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    settings = argparse.Namespace(**create_settings("group"))
    torch.save({"args": settings, "model": {}} | change, tmp_path / "other.pt")
    with pytest.raises(ModelError, match=message):
        import_model(tmp_path / "other.pt", tmp_path / "ours")


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').getcwd()",
        "[(1, 2)]",
        "[(16, 10, 5)] * 999",
        "[(16, 10, 5)] * 9 * 9",
        "[(a, 1, 1)]",
        "[",
    ],
)
def test_layers_are_read_and_not_run(tmp_path: Path, text: str) -> None:
    settings = create_settings("group") | {"conv_feature_layers": text}
    torch.save({"args": argparse.Namespace(**settings), "model": {}}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="cannot be understood"):
        import_model(tmp_path / "other.pt", tmp_path / "ours")


def test_settings_become_plain_whatever_wrote_them() -> None:
    config = omegaconf.OmegaConf.create({"a": {"b": [1, 2.5, "x", None]}, "c": True})
    program = pickle.dumps({"cfg": config, "args": argparse.Namespace(d=3)})
    found = to_plain(foreign_pickle.load_program(program, lambda *_: torch.zeros(0)))
    assert found == {"cfg": {"a": {"b": [1, 2.5, "x", None]}, "c": True}, "args": {"d": 3}}
