"""The updates that a plan times are those that the engine would make."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("fairseq2")

from speechvq.config.application import load_config
from speechvq.training.pretrain_config import PretrainConfig
from speechvq.training.pretrain_data import load_pretrain_data
from speechvq.training.pretraining import PretrainJob
from speechvq.training.probe import NUM_STEPS, NUM_WARM_UP, run_probe
from speechvq.training.run_directory import RunDirectory
from tests.support.corpora import TINY_MODEL, write_tone_corpus


@pytest.mark.parametrize("is_checkpointed", [False, True])
def test_layers_are_computed_twice_in_a_probe_if_they_are_in_the_run(
    tmp_path: Path, is_checkpointed: bool
) -> None:
    corpus = write_tone_corpus(tmp_path / "tones")
    overrides = [
        f"corpus={corpus}", f"output={tmp_path / 'run'}", "precision=fp32",
        "batch.batch_seconds=20", "batch.max_seconds=10", "quantizer_init=random", *TINY_MODEL,
    ]  # fmt: skip
    config = load_config(PretrainConfig, "pretrain", overrides)
    config = replace(config, activation_checkpointing=is_checkpointed, num_threads=1)
    job = PretrainJob(config, load_pretrain_data(config), RunDirectory(config, "pretrain"))
    model = job.create_model()
    calls = []
    attention = model.get_submodule("encoder.transformer.layers.0.attention")
    attention.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    probe = run_probe(job, model, config)
    assert len(probe.seconds) == NUM_STEPS
    assert len(calls) == (NUM_STEPS + NUM_WARM_UP) * (2 if is_checkpointed else 1)
    assert not (tmp_path / "run").exists()
