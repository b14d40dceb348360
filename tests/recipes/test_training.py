"""Pretraining and finetuning as users start them, chained, on tones."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

pytest.importorskip("fairseq2")

from speechvq.models.directory import load_ctc_model, load_pretrain_model
from speechvq.training.metrics import read_metrics
from tests.support.corpora import TINY_MODEL, write_tone_corpus
from tests.support.runs import hash_weights, run_recipe, start_recipe

SCHEDULE = (
    "log_every=5", "validate_every=10", "checkpoint_every=10", "batch.batch_seconds=20",
    "batch.max_seconds=10", "tensorboard=false",
)  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tone_corpus(tmp_path_factory.mktemp("corpus") / "tones")


@pytest.fixture(scope="module")
def pretrained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs") / "pretrain"
    arguments = [f"corpus={corpus}", f"output={output}", "steps=20", *SCHEDULE, *TINY_MODEL]
    result = run_recipe("pretrain", arguments)
    assert result.returncode == 0, result.stderr
    assert "step 20/20" in result.stderr
    return output


def test_pretraining_leaves_model_metrics_and_report(pretrained: Path) -> None:
    model = load_pretrain_model(pretrained / "model")
    assert model.config.quantizer.codebook_size == 16
    lines = read_metrics(pretrained / "metrics.jsonl")
    assert [(line["step"], line["split"]) for line in lines] == [
        (5, "train"), (10, "train"), (10, "dev"), (15, "train"), (20, "train"), (20, "dev"),
    ]  # fmt: skip
    for line in lines:
        assert 0 <= line["accuracy"] <= 1
        assert 0 <= line["equal_share"] <= 1
        assert all(1 <= value <= 16 for value in line["perplexity"])
        assert set(line["languages"]) <= {"hin_Deva", "tam_Taml"}
    assert lines[-2]["audio_hours"] > lines[0]["audio_hours"] > 0
    summary = json.loads((pretrained / "summary.json").read_text())
    assert summary["steps"] == 20
    page = (pretrained / "report.html").read_text()
    assert "<svg" in page
    assert "hin_Deva" in page


def test_logs_do_not_hold_the_environment(pretrained: Path) -> None:
    logs = "".join(path.read_text() for path in (pretrained / "engine" / "logs").glob("*.log"))
    assert "OMP_NUM_THREADS" not in logs


def test_finished_run_is_not_trained_again(pretrained: Path, corpus: Path) -> None:
    before = hash_weights(pretrained)
    arguments = [f"corpus={corpus}", f"output={pretrained}", "steps=20", *SCHEDULE, *TINY_MODEL]
    result = run_recipe("pretrain", arguments)
    assert result.returncode == 0, result.stderr
    assert "step 5/20" not in result.stderr
    assert hash_weights(pretrained) == before


def test_run_makes_up_for_what_a_kill_after_its_last_checkpoint_took(
    pretrained: Path, corpus: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(pretrained, run)
    whole = read_metrics(run / "metrics.jsonl")
    assert whole[-1]["split"] == "dev"
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:-1]))
    shutil.rmtree(run / "model")
    arguments = [f"corpus={corpus}", f"output={run}", "steps=20", *SCHEDULE, *TINY_MODEL]
    result = run_recipe("pretrain", arguments)
    assert result.returncode == 0, result.stderr
    assert hash_weights(run) == hash_weights(pretrained)
    again = read_metrics(run / "metrics.jsonl")
    assert [(line["step"], line["split"], line["loss"]) for line in again] == [
        (line["step"], line["split"], line["loss"]) for line in whole
    ]
    metrics = json.loads((run / "model" / "metrics.json").read_text())
    assert (metrics["train"]["step"], metrics["dev"]["step"]) == (20, 20)


def test_extended_run_goes_on_learning(pretrained: Path, corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(pretrained, run)
    arguments = [f"corpus={corpus}", f"output={run}", "steps=30", *SCHEDULE, *TINY_MODEL]
    result = run_recipe("pretrain", [*arguments, "resume=extend"])
    assert result.returncode == 0, result.stderr
    lines = [line for line in read_metrics(run / "metrics.jsonl") if line["split"] == "train"]
    assert [line["step"] for line in lines] == [5, 10, 15, 20, 25, 30]
    # The learning rate goes on along the longer schedule; the shorter one had brought it to 0.
    assert lines[4]["lr"] > 2 * lines[3]["lr"]
    assert hash_weights(run) != hash_weights(pretrained)


def test_other_configuration_in_the_same_directory_is_refused(
    pretrained: Path, corpus: Path
) -> None:
    arguments = [f"corpus={corpus}", f"output={pretrained}", "steps=20", *SCHEDULE, *TINY_MODEL]
    result = run_recipe("pretrain", [*arguments, "seed=2"])
    assert result.returncode == 2
    assert "`seed` is 2, but the run in" in result.stderr


@pytest.fixture(scope="module")
def finetuned(pretrained: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs") / "finetune"
    arguments = [
        f"corpus={corpus}", f"model={pretrained / 'model'}", f"output={output}",
        "language=hin_Deva", "steps=20", "freeze_steps=5", *SCHEDULE,
    ]  # fmt: skip
    result = run_recipe("finetune", arguments)
    assert result.returncode == 0, result.stderr
    return output


def test_finetuning_leaves_the_best_recogniser(finetuned: Path) -> None:
    model = load_ctc_model(finetuned / "model")
    assert list(model.heads) == ["hin_Deva"]
    best = json.loads((finetuned / "best.json").read_text())
    dev = [line for line in read_metrics(finetuned / "metrics.jsonl") if line["split"] == "dev"]
    assert best["cer"] == pytest.approx(min(line["cer"] for line in dev), abs=1e-4)


def test_joint_recogniser_learns_tones_from_scratch_and_ends_when_it_knows_them(
    corpus: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    arguments = [
        f"corpus={corpus}", "model=null", f"output={run}", "language=[hin_Deva,tam_Taml]",
        "steps=2000", "log_every=50", "validate_every=50", "checkpoint_every=500",
        "optimizer.lr=6e-3", "optimizer.warmup_share=0.02", "mask_prob=0", "channel_mask_prob=0",
        "speeds=1.0", "dropout=0", "early_stop_patience=1", "batch.batch_seconds=20",
        "batch.max_seconds=10", "precision=fp32", "tensorboard=false", *TINY_MODEL,
    ]  # fmt: skip
    result = run_recipe("finetune", arguments)
    assert result.returncode == 0, result.stderr
    dev = [line for line in read_metrics(run / "metrics.jsonl") if line["split"] == "dev"]
    steps = json.loads((run / "summary.json").read_text())["steps"]
    assert steps == dev[-1]["step"] < 2000
    best = json.loads((run / "best.json").read_text())
    assert best["cer"] < 0.2
    for line in dev:
        rates = [values["cer"] for values in line["languages"].values()]
        assert len(rates) == 2
        assert line["cer"] == pytest.approx(sum(rates) / 2, rel=1e-4)
    assert list(load_ctc_model(run / "model").heads) == ["hin_Deva", "tam_Taml"]
    weights = hash_weights(run)
    again = run_recipe("finetune", arguments)
    assert again.returncode == 0, again.stderr
    assert "step " not in again.stderr
    assert hash_weights(run) == weights


def test_adapters_leave_the_encoder_and_other_languages_as_they_were(
    finetuned: Path, corpus: Path, tmp_path: Path
) -> None:
    arguments = [
        f"corpus={corpus}", f"model={finetuned / 'model'}", f"output={tmp_path / 'run'}",
        "language=tam_Taml", "adapter_dim=4", "keep_languages=true", "steps=10", *SCHEDULE,
    ]  # fmt: skip
    result = run_recipe("finetune", arguments)
    assert result.returncode == 0, result.stderr
    before, after = load_ctc_model(finetuned / "model"), load_ctc_model(tmp_path / "run" / "model")
    assert list(after.heads) == ["hin_Deva", "tam_Taml"]
    for name, parameter in after.named_parameters():
        if name.startswith(("encoder.", "heads.hin_Deva.")):
            assert torch.equal(parameter, before.state_dict()[name]), name
    assert not any(adapter.up.weight.any() for adapter in after.adapters["hin_Deva"])
    assert all(adapter.up.weight.any() for adapter in after.adapters["tam_Taml"])


def test_language_without_text_is_refused_with_what_there_is(corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    result = run_recipe(
        "finetune", [f"corpus={corpus}", f"output={output}", "language=ben_Beng", *TINY_MODEL]
    )
    assert result.returncode == 2
    assert "ben_Beng" in result.stderr
    assert "hin_Deva (train)" in result.stderr
    assert not output.exists()


def test_plan_writes_nothing(corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    result = run_recipe(
        "pretrain", [f"corpus={corpus}", f"output={output}", "plan=true", "steps=40", *TINY_MODEL]
    )
    assert result.returncode == 0, result.stderr
    assert "48 utterances" in result.stdout
    assert "median of 20" in result.stdout
    assert "loading, forward, backward, AdamW" in result.stdout
    assert "timing updates: 20/22" in result.stderr
    assert not output.exists()


def test_sigterm_saves_and_leaves_with_143_and_the_run_goes_on(
    corpus: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    arguments = [f"corpus={corpus}", f"output={output}", "steps=100000", *SCHEDULE, *TINY_MODEL]
    process = start_recipe("pretrain", arguments)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step "):
            break
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    rest = process.stdout.read()
    assert process.wait(timeout=60) == 143, rest
    assert time.monotonic() - start < 60
    assert "The same command goes on from there" in rest
    load_pretrain_model(output / "model")
