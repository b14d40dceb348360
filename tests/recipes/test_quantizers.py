"""Every quantiser and both tasks, pretrained as users start them; alarms about collapse."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("fairseq2")

from speechvq.models.config_json import QUANTIZER_KINDS
from speechvq.models.directory import load_pretrain_model
from speechvq.training.metrics import read_metrics
from tests.support.corpora import TINY_MODEL
from tests.support.forks import ForkServer

SCHEDULE = (
    "log_every=2", "validate_every=8", "checkpoint_every=4", "batch.batch_seconds=20",
    "batch.max_seconds=10", "tensorboard=false", "steps=8",
)  # fmt: skip
FSQ = (
    "architecture.quantizer.codebook_size=16",
    "architecture.quantizer.levels=[4,4]",
    "architecture.quantizer.code_dim=4",
)
ALWAYS_ALARMED = (
    "health.min_perplexity_share=1.0",
    "health.patience=2",
    "architecture.quantizer.codebook_size=16",
)
"""No codebook is used so evenly."""


@pytest.mark.parametrize(
    ("kind", "objective"),
    [(kind, "contrastive") for kind in QUANTIZER_KINDS]
    + [("random", "prediction"), ("gumbel", "prediction"), ("ema", "prediction")],
)
def test_quantizer_is_pretrained(
    forks: ForkServer, tones: Path, tmp_path: Path, kind: str, objective: str
) -> None:
    model = FSQ if kind == "fsq" else ()
    run = forks.run(
        "pretrain",
        [
            *(f"corpus={tones}", f"output={tmp_path / 'run'}", f"quantizer={kind}"),
            *(*SCHEDULE, *TINY_MODEL, *model, f"architecture.objective={objective}"),
        ],
    )
    assert run.codes == [0], run.output
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in lines if line["split"] == "train"] == [2, 4, 6, 8]
    assert all(line[f"{objective}_loss"] > 0 for line in lines)
    assert ("vq_loss" in lines[0]) == (kind in ("simvq", "vq", "ema"))
    config = load_pretrain_model(tmp_path / "run" / "model").config
    assert type(config.quantizer) is QUANTIZER_KINDS[kind]


def start(forks: ForkServer, corpus: Path, output: Path, action: str) -> tuple[int, str]:
    run = forks.run(
        "pretrain",
        [
            *(f"corpus={corpus}", f"output={output}", f"health.action={action}"),
            *(*SCHEDULE, *TINY_MODEL, *ALWAYS_ALARMED),
        ],
    )
    return run.codes[0], run.output


def test_collapse_stops_the_run_if_it_is_told_to(
    forks: ForkServer, tones: Path, tmp_path: Path
) -> None:
    code, text = start(forks, tones, tmp_path / "run", "stop")
    assert code == 3
    assert "The codebook has collapsed at step 4" in text
    assert "architecture.diversity_weight" in text
    assert "Traceback" not in text
    # It was never healthy: nothing that was saved is kept.
    assert not list((tmp_path / "run" / "engine" / "checkpoints").glob("step_*"))


def test_collapse_slows_the_run_down_if_it_is_told_to(
    forks: ForkServer, tones: Path, tmp_path: Path
) -> None:
    code, text = start(forks, tones, tmp_path / "run", "slow")
    assert code == 0
    assert text.count("alarm: the codebook is collapsing") == 2
    code, _ = start(forks, tones, tmp_path / "calm", "warn")
    assert code == 0
    slowed, calm = (
        [line["lr"] for line in read_metrics(tmp_path / name / "metrics.jsonl") if "lr" in line]
        for name in ("run", "calm")
    )
    assert slowed[:2] == calm[:2]
    # The file has six significant figures.
    assert slowed[2] == pytest.approx(calm[2] / 2, rel=5e-6)


def test_unused_entries_are_restarted_if_it_is_told_to(
    forks: ForkServer, tones: Path, tmp_path: Path
) -> None:
    code, text = start(forks, tones, tmp_path / "run", "restart")
    assert code == 0, text
    assert "alarm: the codebook is collapsing" in text
