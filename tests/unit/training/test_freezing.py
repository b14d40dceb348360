"""Which parts of a recogniser learn at a step, and how fast."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("fairseq2")

from fairseq2.recipe.config import AdamWConfig
from fairseq2.recipe.optim import prepare_parameter_groups

from speechvq.models.build import create_ctc_model
from speechvq.models.config import CTCModelConfig, EncoderConfig, WaveformConfig
from speechvq.models.ctc_model import CTCModel
from speechvq.models.vocabulary import build_character_vocabulary
from speechvq.training.config import OptimizerConfig
from speechvq.training.finetune_config import FinetuneConfig
from speechvq.training.freezing import FreezingSchedule, create_rate_groups
from speechvq.training.sections import create_engine_config

NUM_LAYERS = 3
ENCODER = EncoderConfig(
    num_layers=NUM_LAYERS, model_dim=16, num_heads=2, ffn_dim=32, position_kernel=8,
    position_groups=2,
)  # fmt: skip
VOCABULARIES = {code: build_character_vocabulary(["ab"]) for code in ("hin_Deva", "tam_Taml")}


def create_model(adapter_dim: int = 0, *, norm_first: bool = False) -> CTCModel:
    encoder = EncoderConfig(**{**vars(ENCODER), "norm_first": norm_first})
    waveform = WaveformConfig(dims=[8, 8], kernels=[10, 8], strides=[5, 4])
    config = CTCModelConfig(encoder=encoder, waveform=waveform, adapter_dim=adapter_dim)
    return create_ctc_model(config, VOCABULARIES)


def find_learning(model: CTCModel) -> set[str]:
    """Parts that learn: `front_end`, `layer 2`, `norm`, `bottom`, `heads.hin_Deva`, …"""
    found: dict[str, set[bool]] = {}
    for name, parameter in model.named_parameters():
        part = ".".join(name.split(".")[:2])
        if match := re.match(r"encoder\.transformer\.layers\.(\d)", name):
            part = f"layer {match[1]}"
        elif name.startswith("encoder.transformer.norm"):
            part = "norm"
        elif name.startswith("encoder.front_end"):
            part = "front_end"
        elif name.startswith("encoder."):
            part = "bottom"
        found.setdefault(part, set()).add(parameter.requires_grad)
    assert all(len(values) == 1 for values in found.values())
    return {part for part, values in found.items() if values == {True}}


HEADS = {"heads.hin_Deva", "heads.tam_Taml"}
LAYERS = {"layer 0", "layer 1", "layer 2"}


def test_from_scratch_all_learns_from_the_first_step() -> None:
    model = create_model()
    FreezingSchedule(is_pretrained=False, num_head_steps=10).apply(model, 1, VOCABULARIES)
    assert find_learning(model) == HEADS | LAYERS | {"norm", "bottom", "front_end"}


def test_heads_learn_first_and_a_pretrained_front_end_never() -> None:
    model = create_model()
    schedule = FreezingSchedule(is_pretrained=True, num_head_steps=10)
    schedule.apply(model, 10, VOCABULARIES)
    assert find_learning(model) == HEADS
    schedule.apply(model, 11, VOCABULARIES)
    assert find_learning(model) == HEADS | LAYERS | {"norm", "bottom"}
    assert schedule.find_full_step(NUM_LAYERS) == 11


@pytest.mark.parametrize("norm_first", [False, True])
def test_layers_thaw_from_the_top_and_the_bottom_comes_last(norm_first: bool) -> None:
    model = create_model(norm_first=norm_first)
    schedule = FreezingSchedule(is_pretrained=True, num_head_steps=4, thaw_every=5)
    norm = {"norm"} if norm_first else set()  # after the last layer, or before the first
    expected = {
        4: HEADS,
        5: HEADS | {"layer 2"} | norm,
        9: HEADS | {"layer 2"} | norm,
        10: HEADS | {"layer 2", "layer 1"} | norm,
        15: HEADS | LAYERS | {"norm", "bottom"},
    }
    for step, parts in expected.items():
        schedule.apply(model, step, VOCABULARIES)
        assert find_learning(model) == parts, step
    assert schedule.find_full_step(NUM_LAYERS) == 15


def test_fixed_layers_and_what_is_below_never_learn() -> None:
    model = create_model()
    schedule = FreezingSchedule(is_pretrained=True, num_fixed_layers=2)
    schedule.apply(model, 1000, VOCABULARIES)
    assert find_learning(model) == HEADS | {"layer 2"}


def test_adapters_learn_on_a_frozen_encoder_and_only_of_the_languages_asked_for() -> None:
    model = create_model(adapter_dim=4)
    schedule = FreezingSchedule.of(FinetuneConfig(model="m", adapter_dim=4, freeze_steps=5))
    for step in (1, 1000):
        schedule.apply(model, step, ["tam_Taml"])
        assert find_learning(model) == {"heads.tam_Taml", "adapters.tam_Taml"}
    assert schedule.find_full_step(NUM_LAYERS) == 1


@pytest.mark.parametrize("norm_first", [False, True])
def test_each_layer_learns_at_a_share_of_the_rate_above(norm_first: bool) -> None:
    model = create_model(norm_first=norm_first)
    groups = create_rate_groups(model.config.encoder, 0.5)
    config = create_engine_config(
        FinetuneConfig(optimizer=OptimizerConfig(lr=1.0, weight_decay=0.1)), groups
    )
    assert isinstance(config.optimizer.config, AdamWConfig)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates, decays = {}, {}
    for group in prepare_parameter_groups(model, config.optimizer.config.groups):
        assert isinstance(group, dict)
        for parameter in group["params"]:
            rates[names[id(parameter)]] = group.get("lr", 1.0)
            decays[names[id(parameter)]] = group.get("weight_decay", 0.1)
    assert set(rates) == set(names.values())
    assert rates["heads.hin_Deva.weight"] == 1.0
    assert rates["encoder.transformer.layers.2.attention.qkv.weight"] == 0.5
    assert rates["encoder.transformer.layers.0.attention.qkv.bias"] == 0.125
    assert rates["encoder.projection.weight"] == 0.0625
    assert rates["encoder.transformer.norm.weight"] == (1.0 if norm_first else 0.0625)
    assert decays["encoder.transformer.layers.0.attention.qkv.bias"] == 0.0
    assert decays["encoder.transformer.layers.0.attention.qkv.weight"] == 0.1


def test_one_rate_needs_no_groups() -> None:
    assert create_rate_groups(ENCODER, 1.0) == []
