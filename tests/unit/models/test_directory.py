from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from speechvq.errors import ConfigError, ModelError
from speechvq.models.build import create_ctc_model, create_pretrain_model
from speechvq.models.config import CTCModelConfig, PretrainModelConfig
from speechvq.models.config_json import config_from_json, config_to_json
from speechvq.models.directory import (
    load_ctc_model,
    load_model,
    load_pretrain_model,
    save_model,
)
from speechvq.models.presets import PRESETS, create_preset
from speechvq.models.transfer import init_ctc_from_pretrained
from speechvq.models.vocabulary import build_character_vocabulary
from tests.unit.models.test_pretrain_model import create_config

VOCABULARIES = {
    "mdw_Latn": build_character_vocabulary(["abc"]),
    "hin_Deva": build_character_vocabulary(["नमस्ते"]),
}


def create_ctc():
    config = create_config()
    return create_ctc_model(
        CTCModelConfig(features=config.features, encoder=config.encoder), VOCABULARIES
    )


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_model(
        tmp_path / "model",
        create_pretrain_model(create_config()),
        metrics={"accuracy": 0.25},
        training={"steps": 7},
        corpus={"hours": {"mdw_Latn": 1.5}},
    )
    return tmp_path / "model"


def read_files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@pytest.mark.parametrize("kind", ["pretrain", "ctc"])
def test_round_trip_is_bit_exact_and_bytes_are_the_same(tmp_path, kind):
    model = create_pretrain_model(create_config()) if kind == "pretrain" else create_ctc()
    save_model(tmp_path / "one", model)
    loaded = load_model(tmp_path / "one")
    assert type(loaded) is type(model)
    assert not loaded.training
    assert loaded.config == model.config
    state = model.state_dict()
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(state[name], value) for name, value in loaded.state_dict().items())
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    waveform, lengths = torch.randn(2, 9000), torch.tensor([9000, 5000])
    encoded = model.eval().encoder(waveform, lengths).context
    assert torch.equal(loaded.encoder(waveform, lengths).context, encoded)
    save_model(tmp_path / "two", loaded)
    assert read_files(tmp_path / "one") == read_files(tmp_path / "two")


def test_nothing_but_the_model_is_left(pretrained):
    save_model(pretrained, create_pretrain_model(create_config()))
    assert [path.name for path in pretrained.parent.iterdir()] == ["model"]
    assert set(read_files(pretrained)) == {
        "README.md",
        "config.json",
        "metrics.json",
        "model.safetensors",
    }
    assert pretrained.stat().st_mode & 0o055 == (pretrained.parent / "model").stat().st_mode & 0o055


def test_failed_save_leaves_the_old_model(pretrained):
    before = read_files(pretrained)
    with pytest.raises(ModelError, match=r"metrics\.json"):
        save_model(
            pretrained, create_pretrain_model(create_config()), metrics={"loss": float("nan")}
        )
    assert read_files(pretrained) == before
    assert [path.name for path in pretrained.parent.iterdir()] == ["model"]


def test_other_directories_are_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ModelError, match="choose another name"):
        save_model(tmp_path, create_pretrain_model(create_config()))
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize("config", [None, "", "[]", '{"model_type": "wav2vec2"}'])
def test_weights_alone_do_not_make_a_directory_ours(tmp_path, config):
    """Other projects name their files the same."""
    (tmp_path / "model.safetensors").write_bytes(b"weeks of training")
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    before = read_files(tmp_path)
    with pytest.raises(ModelError, match="must be a new, empty or model directory"):
        save_model(tmp_path, create_pretrain_model(create_config()))
    assert read_files(tmp_path) == before


def test_card_tells_size_results_and_corpus(pretrained):
    card = (pretrained / "README.md").read_text()
    for text in ("load_pretrain_model", "2 layers × 32", "| accuracy | 0.25 |", "hours.mdw_Latn"):
        assert text in card


def change_config(directory: Path, change) -> None:
    path = directory / "config.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(extra=1), "unknown: extra"),
        (lambda d: d["model"].update(extra=1), "model must have exactly .*unknown: extra"),
        (lambda d: d["model"]["encoder"].pop("ffn_dim"), "model.encoder .*missing: ffn_dim"),
        (lambda d: d["model"]["encoder"].update(num_layers="2"), "num_layers must be a int"),
        (lambda d: d["model"]["encoder"].update(num_layers=True), "num_layers must be a int"),
        (lambda d: d["model"]["encoder"].update(num_heads=5), "must be a multiple of"),
        (lambda d: d["model"].update(features="video"), "fbank, waveform"),
        (lambda d: d["model"]["quantizer"].update(kind="os.system"), "quantizer.kind"),
        (lambda d: d["model"].update(encoder=3), "must be an object"),
        (lambda d: d["model"]["waveform"].update(dims=[1, "2"]), r"dims\[1\]"),
        (lambda d: d.update(kind="tts"), "kind must be"),
        (lambda d: d.update(format_version=1), "format_version must be 2, but is 1"),
        (lambda d: d.pop("format"), "no speechvq model"),
    ],
)
def test_changed_config_is_refused(pretrained, change, message):
    change_config(pretrained, change)
    with pytest.raises(ModelError, match=message):
        load_model(pretrained)


def test_damaged_files_are_refused(pretrained, tmp_path):
    weights = (pretrained / "model.safetensors").read_bytes()
    for damage in (weights[:-100], weights[:4], b"", b"\x80\x04pickle"):
        (pretrained / "model.safetensors").write_bytes(damage)
        with pytest.raises(ModelError, match="copy it again"):
            load_model(pretrained)
    (pretrained / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="does not exist"):
        load_model(pretrained)
    (pretrained / "config.json").write_text('{"format": ')
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(pretrained)
    with pytest.raises(ModelError, match="is no model directory"):
        load_model(tmp_path / "nowhere")


def test_weights_of_another_model_are_refused(pretrained):
    change_config(pretrained, lambda d: d["model"]["encoder"].update(ffn_dim=128))
    with pytest.raises(ModelError, match=r"must be float32 \(128, 32\), but is float32 \(64, 32\)"):
        load_model(pretrained)
    change_config(pretrained, lambda d: d["model"]["encoder"].update(ffn_dim=64, num_layers=3))
    with pytest.raises(ModelError, match=r"missing: encoder\.transformer\.layers\.2"):
        load_model(pretrained)


def test_wrong_kind_says_what_to_do(pretrained, tmp_path):
    assert load_pretrain_model(pretrained).config == create_config()
    with pytest.raises(ModelError, match="run `finetune` first"):
        load_ctc_model(pretrained)
    save_model(tmp_path / "ctc", create_ctc())
    assert load_ctc_model(tmp_path / "ctc").vocabularies.keys() == VOCABULARIES.keys()
    with pytest.raises(ModelError, match="`pretrain` left"):
        load_pretrain_model(tmp_path / "ctc")


def test_recogniser_starts_from_the_pretrained_encoder(pretrained):
    source = load_pretrain_model(pretrained)
    overrides = {"encoder.dropout": 0.3, "dropout_final": 0.2, "feature_grad_scale": 1}
    model = init_ctc_from_pretrained(pretrained, VOCABULARIES, overrides)
    assert model.training
    assert (model.config.encoder.dropout, model.config.dropout_final) == (0.3, 0.2)
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(value, source.encoder.state_dict()[name])
    with pytest.raises(ModelError, match=r"`encoder\.drop_out`"):
        init_ctc_from_pretrained(pretrained, VOCABULARIES, {"encoder.drop_out": 0.3})
    with pytest.raises(ModelError, match="change the shape"):
        init_ctc_from_pretrained(pretrained, VOCABULARIES, {"encoder.ffn_dim": 8})
    with pytest.raises(ConfigError, match=r"encoder\.dropout"):
        init_ctc_from_pretrained(pretrained, VOCABULARIES, {"encoder.dropout": 3.0})


def test_ctc_heads_belong_to_languages():
    model = create_ctc().train()
    waveform, lengths = 0.1 * torch.randn(2, 9000), torch.tensor([9000, 5000])
    output = model(waveform, lengths, language="hin_Deva")
    assert output.logits.shape == (2, model.num_frames(9000), len(VOCABULARIES["hin_Deva"]))
    assert output.lengths.tolist() == [model.num_frames(9000), model.num_frames(5000)]
    output.logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not model.heads["mdw_Latn"].weight.grad.any()
    assert model.heads["hin_Deva"].weight.grad.any()
    with pytest.raises(ModelError, match="hin_Deva, mdw_Latn"):
        model(waveform, lengths, language="deu_Latn")


@torch.no_grad()
def test_ctc_alone_is_the_row_of_a_padded_batch():
    model = create_ctc().eval()
    waveform, lengths = 0.1 * torch.randn(2, 9000), torch.tensor([9000, 5000])
    together = model(waveform, lengths, language="mdw_Latn")
    alone = model(waveform[1:, :5000], lengths[1:], language="mdw_Latn").logits[0]
    assert torch.allclose(together.logits[1, : len(alone)], alone, atol=1e-5)


@pytest.mark.parametrize("name", PRESETS)
def test_configurations_survive_json(name):
    config = create_preset(name)
    document = json.loads(json.dumps(config_to_json(config)))
    assert config_from_json(PretrainModelConfig, document, "config") == config


def test_no_pickle_and_no_engine_on_the_way_to_a_model(pretrained):
    """Loading must work where fairseq2 and Hydra are not installed, and never unpickles."""
    code = (
        "import sys, pickle, torch\n"
        "def refuse(*_, **__): raise AssertionError('unpickled')\n"
        "pickle.load = pickle.loads = pickle.Unpickler = torch.load = refuse\n"
        "for name in ('fairseq2', 'hydra', 'omegaconf', 'transformers', 'sentencepiece'):\n"
        "    sys.modules[name] = None\n"
        "from speechvq.models.directory import load_model\n"
        "load_model(sys.argv[1])\n"
    )
    subprocess.run([sys.executable, "-c", code, str(pretrained)], check=True)


def test_configurations_and_presets_know_no_torch():
    code = (
        "import sys, speechvq.models.presets, speechvq.models.config_json\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_configurations_compose_in_omegaconf():
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.structured(create_preset("tiny"))
    config.quantizer.commitment = 0.7
    config.features = "waveform"
    config.encoder.num_layers = 2
    found = omegaconf.OmegaConf.to_object(config)
    expected = create_preset("tiny")
    expected.quantizer.commitment = 0.7  # type: ignore[attr-defined]
    expected.features = type(expected.features)("waveform")
    expected.encoder.num_layers = 2
    assert found == expected
