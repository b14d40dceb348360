"""Names, directories and records of the runs of a sweep, and its exit code."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from speechvq.config.application import load_config
from speechvq.config.sweep import (
    MAX_NAME_LENGTH,
    RunState,
    Sweep,
    check_single_init,
    finish_sweep,
    is_finished,
    list_variants,
    plan_sweep,
)
from speechvq.errors import ConfigError
from speechvq.training.pretrain_config import PretrainConfig
from speechvq.training.run_directory import to_plain
from speechvq.training.sweep_records import RunRecord, write_record


def plan(*overrides: str) -> Sweep:
    return plan_sweep(overrides, lambda _: "runs")


def test_each_value_of_each_key_is_checked_once() -> None:
    assert list_variants(["seed=1,2", "steps=5", "lr=3,4,5"]) == [
        ["seed=1", "steps=5", "lr=3"], ["seed=2", "steps=5", "lr=3"],
        ["seed=1", "steps=5", "lr=4"], ["seed=1", "steps=5", "lr=5"],
    ]  # fmt: skip


def test_runs_of_one_output_get_directories_below_it() -> None:
    sweep = plan("quantizer=gumbel,simvq", "output=runs", "seed=range(0,3)")
    assert (sweep.num_runs, sweep.is_nested) == (6, True)
    assert Path(sweep.records).parents[1] == Path("runs").absolute()
    overrides = ["quantizer=simvq", "output=runs", "seed=2"]
    assert sweep.name_run(overrides) == "quantizer=simvq+seed=2"


def test_runs_with_outputs_of_their_own_keep_them() -> None:
    sweep = plan("output=a,b")
    assert not sweep.is_nested
    assert sweep.name_run(["output=b"]) == "output=b"
    both = plan("output=a,b", "seed=1,2")
    assert both.is_nested
    assert both.name_run(["output=b", "seed=2"], is_directory=True) == "seed=2"
    composed = plan_sweep(["output=x/${seed}", "seed=1,2"], lambda run: run[1])
    assert not composed.is_nested


def test_names_are_fit_for_paths_and_told_apart() -> None:
    sweep = plan("where='a/b','a-b'", "output=runs")
    names = [sweep.name_run([f"where='{value}'"]) for value in ("a/b", "a-b")]
    assert len(set(names)) == 2
    assert not any("/" in name or "'" in name for name in names)
    long = [sweep.name_run([f"where={'x' * 300}{end}"]) for end in "ab"]
    assert len(set(long)) == 2
    assert max(map(len, long)) <= MAX_NAME_LENGTH + 7


def test_init_cannot_be_swept() -> None:
    check_single_init(["init=a", "seed=1,2"])
    with pytest.raises(ConfigError, match="`init` must be one model"):
        check_single_init(["init=a,b"])


@pytest.mark.parametrize(
    ("codes", "expected", "text"),
    [
        ([0, 0], 0, "Side by side: speechvq compare"),
        ([0, 3], 3, "exit code 3: it broke"),
        ([0], 1, "1 without a result"),
    ],
)
def test_exit_code_tells_of_failures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], codes: list[int], expected: int, text: str
) -> None:
    sweep = Sweep(keys=("seed",), num_runs=2, is_nested=True, records=str(tmp_path))
    for number, code in enumerate(codes):
        record = RunRecord(
            name=f"seed={number}",
            output=f"runs/{number}",
            state=(RunState.failed if code else RunState.finished).value,
            exit_code=code,
            message="it\nbroke" if code else "",
        )
        write_record(tmp_path, number, record)
    assert finish_sweep(sweep) == expected
    assert text in capsys.readouterr().out


def test_only_a_run_of_the_same_configuration_with_a_model_is_finished(tmp_path: Path) -> None:
    def load(*changes: str) -> PretrainConfig:
        overrides = ["corpus=/c", f"output={tmp_path}", "preset=tiny", "steps=20", *changes]
        return load_config(PretrainConfig, "pretrain", overrides)

    config = load()
    assert not is_finished(config)
    (tmp_path / "config.json").write_text(json.dumps(to_plain(asdict(config))), "utf-8")
    (tmp_path / "summary.json").write_text('{"steps": 20}', "utf-8")
    assert not is_finished(config)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}", "utf-8")
    assert is_finished(config)
    assert is_finished(load("tensorboard=false", "batch.num_workers=3"))
    assert not is_finished(load("seed=5"))
    assert not is_finished(load("steps=30"))
    assert not is_finished(load("plan=true"))
