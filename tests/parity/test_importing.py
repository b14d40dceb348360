"""Checkpoints of other projects become model directories that compute the same."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pickle
import random
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from recipes import import_model as import_recipe
from speechvq.config.application import load_config
from speechvq.errors import ModelError
from speechvq.models import foreign_pickle
from speechvq.models.config import GumbelConfig
from speechvq.models.directory import load_pretrain_model
from speechvq.models.foreign_pickle import Foreign, read_checkpoint, to_plain
from speechvq.models.importing import import_model
from speechvq.models.interop_shapes import ImportOptions
from speechvq.training.config import PretrainConfig
from tests.support.parity import Comparison

transformers = pytest.importorskip("transformers")
omegaconf = pytest.importorskip("omegaconf")


def create_theirs(norm: str = "layer", *, bare: bool = False) -> Any:
    config = transformers.Wav2Vec2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        conv_dim=(16,) * 7,
        conv_bias=norm == "layer",
        feat_extract_norm=norm,
        do_stable_layer_norm=norm == "layer",
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        num_codevectors_per_group=20,
        codevector_dim=16,
        proj_codevector_dim=24,
    )
    torch.manual_seed(0)
    kind = transformers.Wav2Vec2Model if bare else transformers.Wav2Vec2ForPreTraining
    return kind(config).eval()


@pytest.fixture
def compare(record_property: Any) -> Comparison:
    return Comparison(record_property)


def compare_models(theirs: Any, directory: Path, compare: Comparison) -> None:
    """The same context of the same waveform, and the same codes if there are any."""
    ours = load_pretrain_model(directory)
    torch.manual_seed(1)
    waveform = 0.1 * torch.randn(2, 8000)
    lengths = torch.tensor([8000, 8000])
    with torch.no_grad():
        base = getattr(theirs, "wav2vec2", theirs)
        given = waveform
        if ours.config.waveform.normalize:
            given = waveform - waveform.mean(1, keepdim=True)
            given = given / torch.sqrt(waveform.var(1, correction=0, keepdim=True) + 1e-7)
        expected = base(given)
        encoded = ours.encoder(waveform, lengths)
        compare("context", encoded.context, expected.last_hidden_state)
        if hasattr(theirs, "quantizer"):
            logits = theirs.quantizer.weight_proj(expected.extract_features)
            codes = logits.unflatten(-1, (2, 20)).argmax(-1)
            assert torch.equal(ours.quantizer.encode(encoded.features), codes)
            projected = theirs.project_hid(expected.last_hidden_state)
            compare("projected", ours.task.context_projection(encoded.context), projected)


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_transformers_directory_computes_the_same(
    tmp_path: Path, compare: Comparison, norm: str
) -> None:
    theirs = create_theirs(norm)
    theirs.save_pretrained(tmp_path / "theirs")
    imported = import_model(tmp_path / "theirs", tmp_path / "ours")
    assert imported.fresh == ()
    compare_models(theirs, tmp_path / "ours", compare)


def test_normalization_of_the_processor_moves_into_the_model(
    tmp_path: Path, compare: Comparison
) -> None:
    theirs = create_theirs()
    theirs.save_pretrained(tmp_path / "theirs")
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path / "theirs")
    imported = import_model(tmp_path / "theirs", tmp_path / "ours")
    assert imported.model.config.waveform.normalize
    compare_models(theirs, tmp_path / "ours", compare)


def test_encoder_alone_gets_a_new_quantiser_and_says_so(
    tmp_path: Path, compare: Comparison
) -> None:
    theirs = create_theirs(bare=True)
    theirs.save_pretrained(tmp_path / "theirs")
    imported = import_model(tmp_path / "theirs", tmp_path / "ours", seed=5)
    assert imported.fresh == ("quantizer", "task")
    compare_models(theirs, tmp_path / "ours", compare)
    again = import_model(tmp_path / "theirs", tmp_path / "again", seed=5)
    for name, tensor in imported.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name


@pytest.mark.parametrize("place", ["theirs", "theirs/ours", ".", "link"])
def test_output_never_touches_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    create_theirs("group").save_pretrained(tmp_path / "theirs")
    (tmp_path / "link").symlink_to("theirs")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"must be outside of theirs, and not above it"):
        import_model("theirs", place)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_model_directory_around_a_file_is_not_replaced(tmp_path: Path) -> None:
    create_theirs("group").save_pretrained(tmp_path / "theirs")
    import_model(tmp_path / "theirs", tmp_path / "ours")
    torch.save({}, tmp_path / "ours" / "weeks_of_training.pt")
    with pytest.raises(ModelError, match=r"must be outside of .*, and not above it"):
        import_model(tmp_path / "ours" / "weeks_of_training.pt", tmp_path / "ours")
    assert (tmp_path / "ours" / "weeks_of_training.pt").exists()
    import_model(tmp_path / "theirs", tmp_path / "ours")  # ours again: that may be replaced


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


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("processor", ["none", "without the key", "true", "false"])
def test_normalisation_is_what_the_processor_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], norm: str, processor: str
) -> None:
    create_theirs(norm).save_pretrained(tmp_path / "theirs")
    documents = {
        "without the key": {"feature_size": 1},
        "true": {"do_normalize": True},
        "false": {"do_normalize": False},
    }
    if processor in documents:
        path = tmp_path / "theirs" / "preprocessor_config.json"
        path.write_text(json.dumps(documents[processor]))
    options = import_recipe.parse_arguments([str(tmp_path / "theirs"), str(tmp_path / "ours")])
    import_recipe.run(options)
    expected = {"none": norm == "layer", "false": False}.get(processor, True)
    assert load_pretrain_model(tmp_path / "ours").config.waveform.normalize is expected
    is_told = f"waveform.normalize={expected}" in capsys.readouterr().out
    assert is_told is (processor == "none")


def test_normalisation_that_is_no_switch_is_refused(tmp_path: Path) -> None:
    create_theirs().save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs" / "preprocessor_config.json").write_text('{"do_normalize": "false"}')
    with pytest.raises(ModelError, match="do_normalize must be true or false, but is 'false'"):
        import_model(tmp_path / "theirs", tmp_path / "ours")


def test_fairseq_file_that_does_not_tell_normalisation_says_so(tmp_path: Path) -> None:
    weights = to_fairseq(create_theirs("layer").state_dict(), "layer")
    settings = argparse.Namespace(**create_settings("layer"))
    torch.save({"args": settings, "model": weights}, tmp_path / "old.pt")
    imported = import_model(tmp_path / "old.pt", tmp_path / "ours")
    assert imported.model.config.waveform.normalize
    assert imported.assumed == {"waveform.normalize": True}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"mask_time_prob": 0.5, "mask_time_length": 7, "mask_time_min_masks": 3}, (0.5, 7, 3)),
        ({"mask_time_prob": 0.05, "mask_time_length": 7}, (0.65, 10, 2)),  # of finetuning
        ({"mask_time_prob": 0.075}, (0.65, 10, 2)),
    ],
)
def test_masks_of_pretraining_come_along(
    tmp_path: Path, changes: dict[str, Any], expected: tuple[float, int, int]
) -> None:
    create_theirs().save_pretrained(tmp_path / "theirs")
    path = tmp_path / "theirs" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    imported = import_model(tmp_path / "theirs", tmp_path / "ours")
    config = imported.model.config
    assert (config.mask_prob, config.mask_length, config.mask_min_spans) == expected
    printed = "\n".join(import_recipe.describe(imported, "ours"))
    is_assumed = "mask_prob=0.65, mask_length=10, mask_min_spans=2" in printed
    assert is_assumed is (changes["mask_time_prob"] < 0.1)


@pytest.mark.parametrize("bare", [True, False])
def test_command_says_which_temperature_the_quantiser_will_have(tmp_path: Path, bare: bool) -> None:
    create_theirs(bare=bare).save_pretrained(tmp_path / "theirs")
    imported = import_model(tmp_path / "theirs", tmp_path / "ours")
    printed = "\n".join(import_recipe.describe(imported, "ours"))
    assert ("new Gumbel quantiser begins at its `temperature_start`" in printed) is bare
    assert ("kept Gumbel quantiser stays at its `temperature_end`" in printed) is not bare


def test_flags_name_the_project_and_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    create_theirs("group").save_pretrained(tmp_path / "theirs")
    words = [str(tmp_path / "theirs"), "--output", str(tmp_path / "ours")]
    monkeypatch.setattr("sys.argv", ["speechvq import", "--from", "fairseq", *words])
    with pytest.raises(SystemExit) as caught:
        import_recipe.main()
    assert caught.value.code == 2
    assert "`--from` must be huggingface, or left out, but is fairseq" in capsys.readouterr().err
    assert not (tmp_path / "ours").exists()
    monkeypatch.setattr("sys.argv", ["speechvq import", "--from", "huggingface", *words])
    import_recipe.main()
    assert load_pretrain_model(tmp_path / "ours").config.encoder.num_layers == 2


@pytest.mark.parametrize("preset", ["base", "large"])
def test_pretraining_takes_the_architecture_over(tmp_path: Path, preset: str) -> None:
    norm = "layer" if preset == "large" else "group"
    create_theirs(norm).save_pretrained(tmp_path / "theirs")
    imported = import_model(tmp_path / "theirs", tmp_path / "ours")
    command = import_recipe.describe(imported, str(tmp_path / "ours"))[-1]
    assert command.endswith(f"init={tmp_path / 'ours'} preset={preset}")
    verb, *words = command.replace("DIR", str(tmp_path)).split()[1:]
    assert verb == "pretrain"
    config = load_config(PretrainConfig, "pretrain", words)
    assert config.architecture == imported.model.config


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_pickle_is_run(tmp_path: Path) -> None:
    torch.save({"model": {}, "bomb": Bomb(tmp_path / "ran")}, tmp_path / "bomb.pt")
    found = read_checkpoint(tmp_path / "bomb.pt")
    assert isinstance(found["bomb"], Foreign)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ModelError, match="must have `model` and `cfg` or `args`"):
        import_model(tmp_path / "bomb.pt", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def create_bare_states() -> dict[str, dict[str, Tensor]]:
    """Just enough of a state dict to be taken for another project's."""
    return {
        "fairseq2": {"encoder_frontend.post_extract_layer_norm.weight": torch.zeros(2)},
        "torchaudio": {"encoder.feature_projection.layer_norm.weight": torch.zeros(2)},
    }


@pytest.mark.parametrize("project", ["fairseq2", "torchaudio"])
def test_nothing_in_their_pickles_is_run_either(tmp_path: Path, project: str) -> None:
    state = create_bare_states()[project]
    bombs = {
        "beside": {"model": state, "bomb": Bomb(tmp_path / "ran")},
        "inside": {"model": state | {"encoder.bomb": Bomb(tmp_path / "ran")}},
        "alone": Bomb(tmp_path / "ran"),
    }
    messages = {
        "beside": "must have one of|lacks the weight",
        "inside": "must be tensors only",
        "alone": "must hold a dictionary",
    }
    for name, checkpoint in bombs.items():
        torch.save(checkpoint, tmp_path / f"{name}.pt")
        with pytest.raises(ModelError, match=messages[name]):
            import_model(tmp_path / f"{name}.pt", tmp_path / "ours")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize("project", ["fairseq2", "torchaudio"])
def test_their_files_cut_off_are_errors(tmp_path: Path, project: str) -> None:
    torch.save({"model": create_bare_states()[project]}, tmp_path / "whole.pt")
    content = (tmp_path / "whole.pt").read_bytes()
    for size in (0, 1, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.pt").write_bytes(content[:size])
        with pytest.raises(ModelError, match="zip format"):
            import_model(tmp_path / "cut.pt", tmp_path / "ours")


def test_archives_of_another_kind_are_errors(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "text.zip", "w") as archive:
        archive.writestr("readme.txt", "no model")
    with pytest.raises(ModelError, match=r"must hold one `data\.pkl`, but holds 0"):
        import_model(tmp_path / "text.zip", tmp_path / "ours")
    torch.save(
        {"weight": torch.zeros(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False
    )
    with pytest.raises(ModelError, match="zip format"):
        import_model(tmp_path / "old.pt", tmp_path / "ours")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    with pytest.raises(ModelError, match="must hold a dictionary"):
        import_model(tmp_path / "script.pt", tmp_path / "ours")
    names = {f"weight{number}": torch.zeros(1) for number in range(9)}
    torch.save(names, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="weight0, weight1, weight2, weight3, weight4, …"):
        import_model(tmp_path / "other.pt", tmp_path / "ours")


def test_finetuned_directory_of_transformers_is_refused(tmp_path: Path) -> None:
    config = create_theirs().config
    transformers.Wav2Vec2ForCTC(config).save_pretrained(tmp_path / "theirs")
    with pytest.raises(ModelError, match=r"but holds a finetuned one \(it has lm_head\)"):
        import_model(tmp_path / "theirs", tmp_path / "ours")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "relu"}, "hidden_act must be 'gelu'"),
        ({"model_type": "hubert"}, "model_type must be 'wav2vec2'"),
        ({"feat_extract_norm": "batch"}, "cannot be understood"),
        ({"conv_dim": 16}, "cannot be understood"),
        ({"hidden_size": "32"}, "must be a int"),
        ({"num_attention_heads": 5}, "settings cannot work"),
        ({"num_hidden_layers": 3}, "do not fit the settings"),
        ({"intermediate_size": 2**40}, "do not fit the settings"),
        ({"intermediate_size": 2**62}, "settings cannot work"),
        ({"intermediate_size": 2**90}, "settings cannot work"),
        ({"mask_time_prob": "0.65"}, "mask_time_prob must be a number"),
        ({"mask_time_prob": 0.65, "mask_time_length": 7.5}, "mask_length must be a int"),
    ],
)
def test_settings_of_transformers_that_cannot_be_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    create_theirs().save_pretrained(tmp_path / "theirs")
    path = tmp_path / "theirs" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ModelError, match=message):
        import_model(tmp_path / "theirs", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_options_do_not_overrule_settings_of_the_file(tmp_path: Path) -> None:
    create_theirs().save_pretrained(tmp_path / "theirs")
    options = ImportOptions(num_heads=2, norm_first=True)
    with pytest.raises(ModelError, match="`--heads`, `--norm-order` must be left out"):
        import_model(tmp_path / "theirs", tmp_path / "ours", options=options)
    options = ImportOptions(normalize=True)
    imported = import_model(tmp_path / "theirs", tmp_path / "ours", options=options)
    assert imported.model.config.waveform.normalize


def write_archive(path: Path, program: bytes, **storages: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key}", content)
    return path


def test_tensor_outside_of_its_storage_is_refused(tmp_path: Path) -> None:
    """A stride that reaches past the end would read memory of the process."""
    program = (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage"
        b"\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQK\x00K\x05\x85K\x01\x85\x89}tR."
    )
    path = write_archive(tmp_path / "evil.pt", program, **{"0": b"\0" * 8})
    with pytest.raises(ModelError, match="outside of its storage"):
        read_checkpoint(path)


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


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        import_model(tmp_path / "nothing", tmp_path / "ours")
    (tmp_path / "theirs").mkdir()
    with pytest.raises(ModelError, match=r"config\.json does not exist"):
        import_model(tmp_path / "theirs", tmp_path / "ours")
    (tmp_path / "text.pt").write_text("no zip")
    with pytest.raises(ModelError, match="zip format"):
        import_model(tmp_path / "text.pt", tmp_path / "ours")
    (tmp_path / "theirs" / "config.json").write_text(json.dumps([]))
    (tmp_path / "theirs" / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="cannot be read"):
        import_model(tmp_path / "theirs", tmp_path / "ours")


def test_settings_become_plain_whatever_wrote_them() -> None:
    config = omegaconf.OmegaConf.create({"a": {"b": [1, 2.5, "x", None]}, "c": True})
    program = pickle.dumps({"cfg": config, "args": argparse.Namespace(d=3)})
    found = to_plain(foreign_pickle.load_program(program, lambda *_: torch.zeros(0)))
    assert found == {"cfg": {"a": {"b": [1, 2.5, "x", None]}, "c": True}, "args": {"d": 3}}
