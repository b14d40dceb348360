"""The verbs `train_lm` and `tune_lm` as a user starts them."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechvq.config.application import load_config
from speechvq.decoding.config import TrainLmConfig, TuneLmConfig
from speechvq.errors import ConfigError
from tests.support.runs import run_recipe

pytest.importorskip("kaldingram")


def test_train_lm_says_what_it_made(tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("a cat\na cat sat\na dog sat\n", "utf-8")
    keys = [f"text={lines}", "language=eng_Latn", f"output={tmp_path / 'lm'}", "order=2"]
    done = run_recipe("train_lm", keys)
    assert done.returncode == 0, done.stderr
    assert "3 sentences, 8 words, 4 different; word 2-grams" in done.stdout
    assert sorted(path.name for path in (tmp_path / "lm").iterdir()) == [
        "lexicon.txt", "lm.arpa", "summary.json",
    ]  # fmt: skip
    assert not done.stderr


def test_configurations_compose() -> None:
    config = load_config(
        TrainLmConfig, "train_lm", ["language=hin_Deva", "text=a.txt,b.txt", "output=o"]
    )
    assert config.text == ["a.txt", "b.txt"]
    tune = load_config(
        TuneLmConfig, "tune_lm", ["corpus=a", "model=b", "lm=c", "lm_weights=[0.5,1]"]
    )
    assert tune.lm_weights == [0.5, 1.0]
    with pytest.raises(ConfigError, match=r"(?s)`language`.*`output`.*`corpus=DIR`"):
        load_config(TrainLmConfig, "train_lm")
    with pytest.raises(ConfigError, match=r"(?s)`corpus`.*`model`.*`lm`"):
        load_config(TuneLmConfig, "tune_lm")
