"""The verbs `evaluate` and `compare` as a user starts them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from recipes import compare
from speechvq.config.application import load_config
from speechvq.data.audio import encode_flac
from speechvq.data.corpus import CorpusWriter
from speechvq.data.records import Utterance
from speechvq.decoding.config import EvaluateConfig
from speechvq.errors import ConfigError
from speechvq.models.build import create_ctc_model
from speechvq.models.config import CTCModelConfig, EncoderConfig, FbankConfig, Features
from speechvq.models.directory import save_model
from speechvq.models.vocabulary import build_character_vocabulary


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("evaluate")
    rng = np.random.default_rng(1)
    with CorpusWriter(root / "corpus", normalizer="basic-1") as writer:
        for number, text in enumerate(["moro", "baa lá", "obe"]):
            audio = encode_flac(rng.normal(0, 0.1, 16_000).astype(np.float32))
            writer.add(
                Utterance(
                    id=f"u{number}",
                    language="mdw_Latn",
                    split="test",
                    audio=audio,
                    num_samples=16_000,
                    text=text,
                    source="x",
                )
            )
    torch.manual_seed(1)
    encoder = EncoderConfig(
        num_layers=1, model_dim=16, num_heads=2, ffn_dim=16, position_kernel=8, position_groups=2
    )
    config = CTCModelConfig(
        features=Features.fbank, fbank=FbankConfig(num_mels=20), encoder=encoder
    )
    vocabulary = build_character_vocabulary(["moro baa lá obe"])
    save_model(root / "model", create_ctc_model(config, {"mdw_Latn": vocabulary}))
    return {"corpus": str(root / "corpus"), "model": str(root / "model")}


def start(verb: str, arguments: list[str], checkout: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"recipes.{verb}", *arguments],
        capture_output=True,
        text=True,
        cwd=checkout,
        check=False,
    )


def test_evaluate_then_compare(inputs, tmp_path, checkout, capsys, monkeypatch):
    output = tmp_path / "evaluation"
    keys = [f"{key}={value}" for key, value in inputs.items()]
    done = start("evaluate", [*keys, "language=mdw_Latn", f"output={output}"], checkout)
    assert done.returncode == 0, done.stderr
    assert "mdw_Latn: WER" in done.stdout
    assert str(output / "report.html") in done.stdout
    assert sorted(path.name for path in output.iterdir()) == [
        "hypotheses.tsv",
        "metrics.json",
        "report.html",
    ]
    page = tmp_path / "page.html"
    monkeypatch.setattr(sys, "argv", ["compare", str(output), str(output), "--output", str(page)])
    compare.main()
    assert "WER" in capsys.readouterr().out
    assert page.read_text("utf-8").startswith("<!DOCTYPE html>")


def test_bad_keys_end_with_2_and_write_nothing(inputs, tmp_path, checkout):
    output = tmp_path / "evaluation"
    keys = [f"{key}={value}" for key, value in inputs.items()]
    keys += [f"output={output}", "batch_secnds=3", "limit=-1"]
    done = start("evaluate", keys, checkout)
    assert done.returncode == 2
    assert "batch_seconds" in done.stderr
    assert "`limit` must be 0" in done.stderr
    assert not output.exists()


def test_configuration_composes():
    overrides = ["corpus=a", "model=b", "output=c", "language=hin_Deva,mdw_Latn"]
    config = load_config(EvaluateConfig, "evaluate", overrides)
    assert config.language == ["hin_Deva", "mdw_Latn"]
    assert config.split == "test"
    with pytest.raises(ConfigError, match=r"(?s)`corpus`.*`model`.*`output`"):
        load_config(EvaluateConfig, "evaluate")


def test_compare_refuses_what_is_no_result(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["compare", str(tmp_path), str(tmp_path)])
    with pytest.raises(SystemExit) as left:
        compare.main()
    assert left.value.code == 2
    assert "metrics.json" in capsys.readouterr().err
