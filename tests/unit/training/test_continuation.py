"""What a run keeps of the model that it goes on from."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("fairseq2")

from speechvq.config.application import load_config
from speechvq.errors import ConfigError, ModelError
from speechvq.models.build import create_pretrain_model
from speechvq.models.config import (
    EncoderConfig,
    FSQConfig,
    GumbelConfig,
    Objective,
    PretrainModelConfig,
    SimVQConfig,
)
from speechvq.models.directory import save_model
from speechvq.models.presets import create_preset
from speechvq.training.continuation import (
    Kept,
    check_init,
    find_kept,
    load_kept,
    read_fresh,
    summarize_forgetting,
)
from speechvq.training.pretrain_config import PretrainConfig


def create_architecture() -> PretrainModelConfig:
    return replace(
        create_preset("tiny"),
        encoder=EncoderConfig(
            num_layers=1, model_dim=16, num_heads=1, ffn_dim=16, position_kernel=4,
            position_groups=1, conv_kernel=3,
        ),
        quantizer=GumbelConfig(codebook_size=8, code_dim=8),
        final_dim=8,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"mask_prob": 0.5, "diversity_weight": 1.0}, Kept(True, True)),
        ({"quantizer": GumbelConfig(codebook_size=8, code_dim=8, temperature_start=1.0)},
         Kept(True, True)),
        ({"final_dim": 16}, Kept(True, False)),
        ({"objective": Objective.prediction}, Kept(True, False)),
        ({"quantizer": GumbelConfig(codebook_size=16, code_dim=8)}, Kept(False, False)),
        ({"quantizer": SimVQConfig(codebook_size=8, code_dim=8)}, Kept(False, False)),
    ],
)  # fmt: skip
def test_codebooks_and_task_are_kept_where_they_are_the_same(
    change: dict[str, Any], kept: Kept
) -> None:
    source = create_pretrain_model(create_architecture())
    model = create_pretrain_model(replace(create_architecture(), **change))
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    assert load_kept(source, model) == kept
    states = source.state_dict()
    for name, value in model.state_dict().items():
        part = name.partition(".")[0]
        is_kept = {"encoder": True, "quantizer": kept.quantizer, "task": kept.task}[part]
        assert torch.equal(value, states[name] if is_kept else fresh[name]), name


@pytest.mark.parametrize(
    ("fresh", "kept", "reason"),
    [
        (["quantizer", "task"], Kept(False, False, False), "the checkpoint .* has none"),
        (["task"], Kept(True, False), "the task's projections are new"),
        (["encoder.mask_embedding"], Kept(True, True), "with its codebooks"),
        ([], Kept(True, True), "with its codebooks"),
        (None, Kept(True, True), "with its codebooks"),
    ],
)
def test_parts_that_an_import_made_up_are_not_kept(
    tmp_path: Path, fresh: list[str] | None, kept: Kept, reason: str
) -> None:
    source = create_pretrain_model(create_architecture())
    training = None if fresh is None else {"imported_from": "x", "fresh": fresh}
    save_model(tmp_path / "model", source, training=training)
    model = create_pretrain_model(create_architecture())
    codebook = model.quantizer.state_dict()["codebook"].clone()
    found = load_kept(source, model, read_fresh(str(tmp_path / "model")))
    assert found == kept
    assert torch.equal(model.quantizer.state_dict()["codebook"], codebook) is not kept.quantizer
    assert re.search(reason, found.describe("model"))


def test_grids_of_the_same_size_and_other_levels_are_not_the_same() -> None:
    models = [
        create_pretrain_model(
            replace(
                create_architecture(),
                quantizer=FSQConfig(codebook_size=12, code_dim=4, levels=levels),
            )
        )
        for levels in ([3, 4], [4, 3])
    ]
    assert not find_kept(models[0], models[1]).quantizer
    assert find_kept(models[0], models[0]).quantizer


def change_encoder(architecture: PretrainModelConfig) -> None:
    architecture.encoder.num_layers = 3


def change_front_end(architecture: PretrainModelConfig) -> None:
    architecture.fbank.stack = 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (change_encoder, r"`architecture.encoder.num_layers` must be .* 1, but is 3\."),
        (change_front_end, r"`architecture.fbank.stack` must be .* 4, but is 2\."),
    ],
)
def test_another_encoder_is_refused_key_by_key(
    change: Callable[[PretrainModelConfig], None], sentence: str
) -> None:
    wanted = create_architecture()
    wanted.encoder.dropout = 0.3  # this one may change
    check_init(create_architecture(), wanted, "model")
    change(wanted)
    with pytest.raises(ConfigError, match=sentence):
        check_init(create_architecture(), wanted, "model")


def test_architecture_follows_the_model_and_the_command_line(tmp_path: Path) -> None:
    save_model(tmp_path / "model", create_pretrain_model(create_architecture()))
    needed = ["output=run", "corpus=corpus", f"init={tmp_path / 'model'}"]
    config = load_config(PretrainConfig, "pretrain", needed)
    assert config.architecture == create_architecture()
    config = load_config(
        PretrainConfig,
        "pretrain",
        [*needed, "preset=small", "quantizer=simvq", "architecture.mask_prob=0.4"],
    )
    assert config.steps == 50_000  # of the preset `small`
    assert config.architecture == replace(
        create_architecture(), quantizer=SimVQConfig(), mask_prob=0.4
    )
    # The next run in this process is not under its spell.
    config = load_config(PretrainConfig, "pretrain", ["output=run", "corpus=corpus"])
    assert config.architecture == create_preset("tiny")


def test_init_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        load_config(PretrainConfig, "pretrain", ["output=r", "corpus=c", f"init={tmp_path}"])


def test_old_corpus_needs_init() -> None:
    with pytest.raises(ConfigError, match="`old_corpus` must be empty without `init`"):
        load_config(PretrainConfig, "pretrain", ["output=r", "corpus=c", "old_corpus=d"])


def test_forgetting_is_the_loss_before_and_after() -> None:
    def line(step: int, split: str, loss: float) -> dict[str, Any]:
        return {"step": step, "split": split, "languages": {"hin_Deva": {"contrastive_loss": loss}}}

    lines = [line(0, "old", 3.0), line(5, "train", 9.0), line(5, "old", 3.5), line(9, "old", 3.25)]
    assert summarize_forgetting(lines) == {"old": {"hin_Deva": [3.0, 3.25]}}
    assert summarize_forgetting(lines[1:]) == {}  # not measured before the first update
