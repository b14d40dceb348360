"""The card tells what was measured, of this model and no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from recipes import card
from speechvq.deploy.decoding_weights import save_tuned_settings
from speechvq.deploy.model_card import write_model_card
from speechvq.errors import DataError, ModelError
from speechvq.models.build import create_ctc_model
from speechvq.models.config import CTCModelConfig, EncoderConfig, FbankConfig, Features
from speechvq.models.digest import compute_model_digest
from speechvq.models.directory import load_model, save_model
from speechvq.models.vocabulary import build_character_vocabulary

SOURCES = [
    {"language": "hin_Deva", "source": "radio", "licence": "cc|0", "hours": 1.25, "utterances": 9},
    {"language": "mdw_Latn", "source": "field", "licence": None, "hours": 0.5, "utterances": 4},
]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    config = CTCModelConfig(
        features=Features.fbank,
        fbank=FbankConfig(num_mels=8),
        encoder=EncoderConfig(
            num_layers=1, model_dim=8, num_heads=2, ffn_dim=8, position_kernel=4, position_groups=2
        ),
    )
    vocabularies = {name: build_character_vocabulary(["ab"]) for name in ("hin_Deva", "mdw_Latn")}
    save_model(
        tmp_path / "model",
        create_ctc_model(config, vocabularies),
        training={
            "verb": "finetune",
            "output": "/home/someone/run",
            "seed": 1,
            "labels": ["/home/someone/labels.tsv"],
        },
        corpus={"hours": 1.75, "normalizer": "basic-1", "sources": SOURCES},
    )
    return tmp_path / "model"


def write_results(folder: Path, model: Path, **changes: object) -> Path:
    part = {"wer": 0.5, "wer_interval": [0.4, 0.6], "cer": 0.25, "cer_interval": [0.2, 0.3],
            "num_utterances": 40, "hours": 0.1}  # fmt: skip
    metrics = {
        "kind": "evaluation",
        "model_digest": compute_model_digest(model),
        "test_set_digest": "0123456789abcdef",
        "decoder": "greedy",
        "normalizer": "basic-1",
        "shared_speakers": None,
        "warnings": ["Only one room was heard."],
        "languages": {"hin_Deva": part},
        "config": {"split": "test"},
        **changes,
    }
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    return folder


def read_head(text: str) -> dict:
    _, head, _ = text.split("---\n", 2)
    return yaml.safe_load(head)


def test_training_alone_gives_hours_licences_and_what_is_unknown(model: Path) -> None:
    text = (model / "README.md").read_text(encoding="utf-8")
    assert "| hin_Deva | radio | cc\\|0 | 1.25 | 9 |" in text
    assert "| mdw_Latn | field | – | 0.5 | 4 |" in text
    assert "`basic-1`" in text
    assert "No evaluation is reported for hin_Deva, mdw_Latn." in text
    assert "weights: not stated" in text
    assert "/home/someone" not in text
    head = read_head(text)
    assert head["language"] == ["hin", "mdw"]
    assert head["pipeline_tag"] == "automatic-speech-recognition"
    assert "license" not in head
    assert "model-index" not in head


def test_results_weights_and_licence_enter_on_demand(model: Path, tmp_path: Path) -> None:
    results = write_results(tmp_path / "results", model)
    save_tuned_settings(model, "hin_Deva", "sha256:123", {"lm_weight": 1.5, "word_score": -0.5})
    words = [str(model), "--results", str(results), "--license", "cc-by-4.0"]
    card.run(card.parse_arguments(words))
    text = (model / "README.md").read_text(encoding="utf-8")
    assert "| hin_Deva | test | 40 | 0.10 | 50.0 (40.0 – 60.0) | 25.0 (20.0 – 30.0) |" in text
    assert "| hin_Deva | `sha256:123…` | 1.5 | -0.5 |" in text
    assert "No evaluation is reported for mdw_Latn." in text
    assert "- Only one room was heard." in text
    assert "Whether speakers of the test set were heard in training is unknown." in text
    head = read_head(text)
    assert head["license"] == "cc-by-4.0"
    (result,) = head["model-index"][0]["results"]
    assert result["dataset"]["split"] == "test"
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values == {"wer": 50.0, "cer": 25.0}
    load_model(model)


def test_results_of_another_model_are_refused(model: Path, tmp_path: Path) -> None:
    before = (model / "README.md").read_bytes()
    other = write_results(tmp_path / "other", model, model_digest="sha256:0")
    with pytest.raises(DataError, match="of another model"):
        write_model_card(model, results=[other])
    strange = write_results(tmp_path / "strange", model, kind="tuning")
    with pytest.raises(DataError, match="must hold what `evaluate` wrote"):
        write_model_card(model, results=[strange])
    with pytest.raises(ModelError, match="`--license` must be a name"):
        write_model_card(model, license_name="CC BY: 4.0")
    assert (model / "README.md").read_bytes() == before


def test_damaged_directory_is_refused(model: Path) -> None:
    (model / "metrics.json").write_text("{")
    with pytest.raises(ModelError, match=r"metrics\.json cannot be read"):
        write_model_card(model)
    document = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps(document | {"corpus": ["radio"]}))
    with pytest.raises(ModelError, match="corpus must be an object or null"):
        write_model_card(model)
