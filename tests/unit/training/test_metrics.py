"""Sums, perplexity, and the file of metrics."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

pytest.importorskip("fairseq2")

from speechvq.training.metrics import (
    MetricsFile,
    TensorSum,
    compute_perplexity,
    nest_languages,
    read_metrics,
)


def test_perplexity_of_known_distributions() -> None:
    counts = torch.tensor([[5.0, 5, 5, 5], [9, 0, 0, 0], [0, 0, 0, 0], [1, 3, 0, 0]])
    expected = [4.0, 1.0, 0.0, math.exp(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))]
    torch.testing.assert_close(compute_perplexity(counts), torch.tensor(expected))


def test_sum_merges_ranks() -> None:
    first, second = TensorSum((2,)), TensorSum((2,))
    first.update(torch.tensor([1, 2]))
    second.update(torch.tensor([10, 20])).update(torch.tensor([100, 200]))
    first.merge_state([second])
    assert first.compute().tolist() == [111, 222]
    first.reset()
    assert first.compute().tolist() == [0, 0]


def test_languages_are_nested_and_nan_becomes_null() -> None:
    values = {"language/hin_Deva/accuracy": 0.5, "loss": float("nan"), "lr": torch.tensor(2.0)}
    assert nest_languages(values) == {
        "languages": {"hin_Deva": {"accuracy": 0.5}},
        "loss": None,
        "lr": 2.0,
    }


def test_file_drops_what_a_resumed_run_writes_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path, first_step=1)
    for step in (5, 10, 15):
        file.write(step, "train", {"loss": 1.0 / step})
    with path.open("a") as stream:
        stream.write('{"step": 20, "spl')  # a kill cut this line off
    MetricsFile(path, first_step=11).write(15, "train", {"loss": 0.5})
    lines = read_metrics(path)
    assert [line["step"] for line in lines] == [5, 10, 15]
    assert lines[-1]["loss"] == 0.5
    assert all(json.loads(line) for line in path.read_text().splitlines())


@pytest.mark.parametrize("damage", [b'{"step": 10, \x00\x00', b"\xff\xfe", b"7"])
def test_damaged_line_costs_itself_only(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 5}\n' + damage + b'\n{"step": 15}\n')
    assert read_metrics(path) == [{"step": 5}, {"step": 15}]
