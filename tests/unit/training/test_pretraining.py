"""The pretraining job: what it tells the engine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fairseq2")

from fairseq2.device import CPU
from fairseq2.gang import FakeGang

from speechvq.errors import TrainingDivergedError
from speechvq.models.build import create_pretrain_model
from speechvq.models.config import Features, GumbelConfig
from speechvq.models.directory import save_model
from speechvq.models.presets import create_gumbel, create_preset
from speechvq.training.guards import FiniteGuard
from speechvq.training.pretrain_config import (
    HealthAction,
    HealthConfig,
    PretrainConfig,
    QuantizerInit,
)
from speechvq.training.pretraining import PretrainJob
from speechvq.training.run_directory import RunDirectory


def create_job(output: Path, **changes: Any) -> PretrainJob:
    config = PretrainConfig(output=str(output), corpus=["c"])
    config.health = changes.pop("health", config.health)
    config.architecture.features = changes.pop("features", Features.fbank)
    config.architecture.encoder.layer_drop_prob = changes.pop("layer_drop_prob", 0.0)
    config.architecture.feature_grad_scale = changes.pop("feature_grad_scale", 1.0)
    return PretrainJob(config, None, RunDirectory(config, "pretrain"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "is_static"),
    [
        ({}, True),
        ({"layer_drop_prob": 0.5}, True),  # dropped layers get gradients of zero
        ({"features": Features.waveform}, True),
        ({"feature_grad_scale": 0.0}, True),  # filter banks have no parameters
        ({"features": Features.waveform, "feature_grad_scale": 0.0}, False),
    ],
)
def test_unused_parameters_are_searched_only_where_there_are_any(
    tmp_path: Path, changes: dict[str, Any], is_static: bool
) -> None:
    assert create_job(tmp_path / "run", **changes).has_static_graph is is_static


def test_skipped_updates_are_told_where_there_are_any(tmp_path: Path) -> None:
    job = create_job(tmp_path)
    job.guard = FiniteGuard(FakeGang(CPU), 3, lambda: "")
    values: dict[str, object] = {"perplexity": [200.0, 200.0]}
    before = dict(values)
    job._on_values(values)
    assert values == before
    job.guard.num_skipped = 2
    job._on_values(values)
    assert values == {**before, "skipped_updates": 2}


def test_job_knows_what_a_kill_left_undone(tmp_path: Path) -> None:
    job = create_job(tmp_path)
    assert not job.is_validated(20)
    assert not job.is_saved(20)
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 10, "split": "dev"}\n{"step": 20, "split": "train"}\n'
    )
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"training": {"step": 20}}')
    assert job.is_validated(10)
    assert not job.is_validated(20)
    assert job.is_saved(20)
    assert not job.is_saved(30)
    job._eval_splits.add("old")
    assert not job.is_validated(10)


@pytest.mark.parametrize(("last_step", "is_pending"), [(30, True), (40, False)])
def test_resumed_job_recalls_the_health_of_its_codebooks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last_step: int, is_pending: bool
) -> None:
    """Healthy at 10, in alarm at 30: killed right after, the run has not acted on it yet."""
    shares = {10: 0.0, 20: 0.9, 30: 0.9, 40: 0.9, 50: 0.0}
    (tmp_path / "metrics.jsonl").write_text(
        "".join(
            json.dumps({"step": step, "split": "train", "targets": 900, "equal_share": share,
                        "perplexity": [200.0, 200.0]}) + "\n"
            for step, share in shares.items()
        )
    )  # fmt: skip
    monkeypatch.setattr(RunDirectory, "find_last_checkpoint", lambda directory: last_step)
    job = create_job(tmp_path, health=HealthConfig(patience=2, action=HealthAction.stop))
    job.connect(FakeGang(CPU), None)  # type: ignore[arg-type]
    assert job._last_healthy_step == 10
    monkeypatch.undo()
    if is_pending:
        with pytest.raises(TrainingDivergedError, match="No state that was saved was healthy"):
            job.finish(last_step)
    else:
        job.finish(last_step)
        values: dict[str, object] = {"targets": 900, "equal_share": 0.9, "perplexity": [9.0, 9.0]}
        job._on_values(values)
        assert values["alarm"] == 1  # the second unhealthy interval in a row after the alarm


@pytest.mark.parametrize("fresh", [[], ["quantizer", "task"]])
def test_temperature_falls_unless_the_quantiser_has_learned_already(
    tmp_path: Path, fresh: list[str]
) -> None:
    architecture = replace(create_preset("tiny"), quantizer=create_gumbel("tiny"))
    source = create_pretrain_model(architecture)
    save_model(tmp_path / "model", source, training={"fresh": fresh})
    config = PretrainConfig(
        output=str(tmp_path / "run"),
        corpus=["c"],
        init=str(tmp_path / "model"),
        architecture=architecture,
        quantizer_init=QuantizerInit.random,  # k-means would need speech
    )
    job = PretrainJob(config, None, RunDirectory(config, "pretrain"), source)  # type: ignore[arg-type]
    job.create_model()
    quantizer = architecture.quantizer
    assert isinstance(quantizer, GumbelConfig)
    first = quantizer.temperature_start * quantizer.temperature_decay
    expected = first if fresh else quantizer.temperature_end
    values: dict[str, object] = {"perplexity": [200.0, 200.0]}
    job._on_step(1)
    job._on_values(values)
    assert values["temperature"] == pytest.approx(expected)
