"""Codebook features trained as users start them: both tasks, the schedule of k, resuming."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fairseq2")

from speechvq.models.directory import load_model
from speechvq.nn.bottleneck_sites import list_bottlenecks
from speechvq.nn.places import Place, Site
from speechvq.training.metrics import read_metrics
from tests.support.corpora import TINY_MODEL
from tests.support.forks import ForkServer
from tests.support.runs import hash_weights

pytestmark = pytest.mark.slow

SCHEDULE = (
    "log_every=5", "validate_every=10", "checkpoint_every=10", "batch.batch_seconds=20",
    "batch.max_seconds=10", "tensorboard=false", "precision=fp32",
)  # fmt: skip
CODES = (
    "codebook_size=24", "num_active=2", "num_active_start=8", "num_active_steps=15",
    "kmeans_frames=200", "restart_every=10", "optimizer.lr=0.003",
)  # fmt: skip


def run(forks: ForkServer, verb: str, output: Path, arguments: Sequence[str]) -> str:
    done = forks.run(verb, [f"output={output}", *SCHEDULE, *arguments])
    assert done.codes == [0], done.output
    return done.output


def read_lines(output: Path, split: str = "train") -> list[dict[str, Any]]:
    return [line for line in read_metrics(output / "metrics.jsonl") if line["split"] == split]


@pytest.fixture(scope="module")
def pretrained(forks: ForkServer, tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("codes") / "pretrain"
    run(forks, "pretrain", output, [f"corpus={tones}", "steps=10", *TINY_MODEL])
    return output / "model"


@pytest.fixture(scope="module")
def recognizer(
    forks: ForkServer, tones: Path, pretrained: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("codes") / "finetune"
    arguments = [f"corpus={tones}", f"model={pretrained}", "language=hin_Deva", "steps=10"]
    run(forks, "finetune", output, [*arguments, "freeze_steps=0"])
    return output / "model"


def test_contrastive_model_gets_codes_that_learn(
    forks: ForkServer, tones: Path, pretrained: Path, tmp_path: Path
) -> None:
    arguments = [f"corpus={tones}", f"model={pretrained}", "steps=40", "layers=[1]", *CODES]
    arguments += ["codebook_size=96", "kmeans_frames=96"]  # more codes than frames can use
    told = run(forks, "bottleneck", tmp_path / "run", arguments)
    assert "unused codes were put on frames after step 10" in told
    found = list_bottlenecks(load_model(tmp_path / "run" / "model"))
    assert list(found) == [Place(1, Site.heads), Place(1, Site.feed_forward)]
    assert {one.num_active for one in found.values()} == {2}
    lines = read_lines(tmp_path / "run")
    assert lines[0]["num_active"] > lines[1]["num_active"] > lines[2]["num_active"] == 2
    assert lines[-1]["code_error"] < lines[2]["code_error"]
    own = lines[-1]["bottlenecks"]["layer 1 heads"]
    assert len(own["perplexity"]) == len(own["used_codes"]) == 2
    assert all(1 < value <= 96 for value in own["perplexity"])
    assert read_lines(tmp_path / "run", "dev")[-1]["bottlenecks"].keys() == found_names(found)


def found_names(found: dict[Place, Any]) -> set[str]:
    return {str(place) for place in found}


def test_recogniser_keeps_its_labels_resumes_to_the_bit_and_is_evaluated(
    forks: ForkServer, tones: Path, recognizer: Path, tmp_path: Path
) -> None:
    arguments = [f"corpus={tones}", f"model={recognizer}", "steps=30", *CODES]
    arguments += ["num_active_steps=25"]  # so that the model is that of the last validation
    run(forks, "bottleneck", tmp_path / "whole", arguments)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for path in ("model", "engine/checkpoints/step_30"):
        shutil.rmtree(tmp_path / "cut" / path)
    (tmp_path / "cut" / "best.json").unlink()
    run(forks, "bottleneck", tmp_path / "cut", arguments)
    assert hash_weights(tmp_path / "cut") == hash_weights(tmp_path / "whole")
    for ours, whole in zip(
        read_lines(tmp_path / "cut"), read_lines(tmp_path / "whole"), strict=True
    ):
        assert ours["bottlenecks"] == whole["bottlenecks"]
    model, before = load_model(tmp_path / "whole" / "model"), load_model(recognizer)
    assert len(list_bottlenecks(model)) == 4
    assert model.vocabularies["hin_Deva"].labels == before.vocabularies["hin_Deva"].labels
    done = forks.run(
        "evaluate",
        [f"corpus={tones}", f"model={tmp_path / 'whole' / 'model'}", f"output={tmp_path / 'e'}"],
    )
    assert done.codes == [0], done.output
