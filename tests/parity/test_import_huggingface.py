"""Directories of transformers become model directories that compute the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from recipes import import_model as import_recipe
from speechvq.config.application import load_config
from speechvq.errors import ModelError
from speechvq.models.directory import load_pretrain_model
from speechvq.models.importing import import_model
from speechvq.models.interop_shapes import ImportOptions
from speechvq.training.pretrain_config import PretrainConfig
from tests.support.huggingface import compare_models, create_theirs
from tests.support.parity import Comparison

transformers = pytest.importorskip("transformers")


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
