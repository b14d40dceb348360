"""Bottlenecks of codes in models and in their directories."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from speechvq.errors import ModelError
from speechvq.models.build import create_ctc_model, create_pretrain_model
from speechvq.models.config import CTCModelConfig
from speechvq.models.directory import load_model, save_model
from speechvq.models.exporting import export_model
from speechvq.models.transfer import add_languages, init_ctc_from_pretrained, reset_top_layers
from speechvq.models.vocabulary import build_character_vocabulary
from speechvq.nn.bottleneck_sites import (
    attach_bottleneck,
    capture_codes,
    detach_bottlenecks,
    list_bottlenecks,
)
from speechvq.nn.places import Place, Site
from tests.unit.models.test_pretrain_model import create_config

VOCABULARIES = {
    "mdw_Latn": build_character_vocabulary(["abc"]),
    "hin_Deva": build_character_vocabulary(["नमस्ते"]),
}
PLACES = [Place(0, Site.feed_forward), Place(1, Site.heads)]


def create_model(kind: str):
    torch.manual_seed(0)
    config = create_config()
    if kind == "pretrain":
        return create_pretrain_model(config).eval()
    recognizer = CTCModelConfig(features=config.features, encoder=config.encoder)
    return create_ctc_model(recognizer, VOCABULARIES).eval()


def attach(model):
    attach_bottleneck(model, PLACES[0], codebook_size=30, num_active=4, num_codebooks=2)
    attach_bottleneck(model, PLACES[1], codebook_size=9, num_active=2)
    return model


def encode(model):
    waveform = torch.randn(2, 9000, generator=torch.Generator().manual_seed(3))
    found = {}
    with torch.no_grad(), capture_codes(model, found.__setitem__):
        context = model.encoder(waveform, torch.tensor([9000, 5000])).context
    return context, found


@pytest.mark.parametrize("kind", ["pretrain", "ctc"])
def test_directory_brings_them_back(kind: str, tmp_path: Path) -> None:
    model = create_model(kind)
    save_model(tmp_path / "dense", model)
    before, _ = encode(model)
    save_model(tmp_path / "coded", attach(model))
    loaded = load_model(tmp_path / "coded")
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    context, found = encode(loaded)
    assert torch.equal(context, encode(model)[0])
    assert not torch.equal(context, before)
    assert list(found) == PLACES
    assert found[PLACES[0]].codes.shape[2:] == (2, 4)
    assert found[PLACES[1]].codes.shape[2:] == (4, 2)
    assert found[PLACES[1]].padding is not None
    assert not loaded.encoder.training
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert "Bottlenecks of codes" in (tmp_path / "coded" / "README.md").read_text()
    detach_bottlenecks(loaded)
    save_model(tmp_path / "again", loaded)
    for path in (tmp_path / "dense").iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(bottlenecks=[]), "must be a list of bottlenecks, or left out"),
        (lambda d: d.update(bottlenecks={"0": 1}), "must be a list of bottlenecks, or left out"),
        (lambda d: d["bottlenecks"][0].update(extra=1), r"bottlenecks\[0\] must have .*: extra"),
        (lambda d: d["bottlenecks"][1].pop("site"), r"bottlenecks\[1\] must have .*: site"),
        (lambda d: d["bottlenecks"][1].update(site="ears"), "must be one of heads, feed_forward"),
        (lambda d: d["bottlenecks"][1].update(layer=2), r"\[1\] cannot work: `layer` must be from"),
        (lambda d: d["bottlenecks"][1].update(num_active=10), "`num_active` must be from 1 to"),
        (lambda d: d["bottlenecks"][1].update(num_codebooks=2), "must be the number of heads"),
        (lambda d: d["bottlenecks"][0].update(num_codebooks=0), "`num_codebooks` must divide"),
        (lambda d: d["bottlenecks"][0].update(codebook_size=1 << 40), "must be at most 1048576"),
        (lambda d: d["bottlenecks"][0].update(codebook_size=-1), r"\[0\] cannot work"),
        (lambda d: d["bottlenecks"].append(d["bottlenecks"][0]), "There is a bottleneck at layer"),
        (lambda d: d["bottlenecks"].pop(), "does not fit its config.json .*unknown: "),
        (lambda d: d.pop("bottlenecks"), "does not fit its config.json .*unknown: "),
        (lambda d: d["bottlenecks"][0].update(codebook_size=31), r"must be float32 \(2, 31, 16\)"),
    ],
)
def test_changed_description_is_refused(change, message: str, tmp_path: Path) -> None:
    save_model(tmp_path / "model", attach(create_model("ctc")))
    path = tmp_path / "model" / "config.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path / "model")


def test_recognisers_keep_those_of_their_encoder(tmp_path: Path) -> None:
    model = attach(create_model("pretrain"))
    save_model(tmp_path / "pretrained", model)
    recognizer = init_ctc_from_pretrained(tmp_path / "pretrained", VOCABULARIES).eval()
    assert torch.equal(encode(recognizer)[0], encode(model)[0])
    save_model(tmp_path / "recognizer", recognizer)
    languages = {"deu_Latn": build_character_vocabulary(["äbc"])}
    more = add_languages(tmp_path / "recognizer", languages, {"adapter_dim": 4}).eval()
    assert torch.equal(encode(more)[0], encode(model)[0])
    codes = list_bottlenecks(recognizer)[PLACES[1]].codebooks.clone()
    reset_top_layers(recognizer, 1)
    assert not torch.equal(list_bottlenecks(recognizer)[PLACES[1]].codebooks, codes)


def test_other_formats_have_no_place_for_them(tmp_path: Path) -> None:
    save_model(tmp_path / "model", attach(create_model("ctc")))
    with pytest.raises(ModelError, match="has bottlenecks of codes"):
        export_model(tmp_path / "model", tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_onnx_has_no_place_for_them_either(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from speechvq.deploy.onnx_export import export_onnx

    save_model(tmp_path / "model", attach(create_model("ctc")))
    with pytest.raises(ModelError, match="has bottlenecks of codes"):
        export_onnx(tmp_path / "model", tmp_path / "exported")
    assert not (tmp_path / "exported").exists()
