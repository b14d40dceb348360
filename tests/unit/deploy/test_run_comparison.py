"""Training runs side by side, from their files alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from speechvq.deploy.comparison import compare_results
from speechvq.deploy.result_table import ResultTable
from speechvq.errors import DataError
from speechvq.training.sweep_records import RECORDS, RunRecord, RunState, write_record

SIMVQ = {
    "num_codebooks": 2, "codebook_size": 8, "code_dim": 4, "commitment": 0.25, "rotates": False,
    "learns_basis": False, "shares_basis": False,
}  # fmt: skip
FSQ = {"num_codebooks": 2, "codebook_size": 8, "code_dim": 6, "levels": [2, 2, 2]}


def write_run(
    path: Path,
    lines: list[dict[str, Any]],
    *,
    steps: int = 20,
    is_finished: bool = True,
    **keys: Any,
) -> Path:
    """Leave what a run leaves."""
    path.mkdir(parents=True)
    config = {"verb": "pretrain", "output": str(path), "steps": steps, **keys}
    (path / "config.json").write_text(json.dumps(config), "utf-8")
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (path / "metrics.jsonl").write_text(text, "utf-8")
    if is_finished:
        (path / "summary.json").write_text(json.dumps({"steps": steps}), "utf-8")
    return path


def create_pretrain_lines(loss: float) -> list[dict[str, Any]]:
    train = {
        "split": "train", "contrastive_loss": loss, "loss": loss + 1, "accuracy": 0.25,
        "equal_share": 0.125, "perplexity": [4.0, 2.0], "joint_perplexity": 7.6,
        "used_codes": [8, 3], "dead_codes": [0, 5], "audio_hours": 0.5, "total_time": 75.0,
    }  # fmt: skip
    dev = {"split": "dev", "contrastive_loss": loss + 0.5, "accuracy": 0.2}
    return [
        {**train, "step": 10, "contrastive_loss": loss + 2}, {**train, "step": 20},
        {**dev, "step": 20},
    ]  # fmt: skip


def create_finetune_lines(rates: list[tuple[float, float]]) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for number, (cer, wer) in enumerate(rates, start=1):
        lines.append({"split": "train", "step": 10 * number, "loss": 2.0, "total_time": 5.0})
        lines.append({"split": "dev", "step": 10 * number, "loss": 2.1, "cer": cer, "wer": wer})
    return lines


def read_rows(table: ResultTable) -> list[dict[str, Any]]:
    """Return the rows as the terminal shows them, by column."""
    heads = table.columns
    rows = []
    for row in table.rows:
        shown = [getattr(cell, "text", None) or getattr(cell, "value", cell) for cell in row]
        rows.append(dict(zip(heads, shown, strict=True)))
    return rows


def test_pretraining_runs_tell_what_differs_and_their_last_figures(tmp_path: Path) -> None:
    keys = {"seed": 1, "optimizer": {"lr": 0.001, "eps": 1e-6}}
    one = write_run(tmp_path / "one", create_pretrain_lines(3.0), **keys)
    keys["optimizer"] = {"lr": 0.002, "eps": 1e-6}
    two = write_run(tmp_path / "two", create_pretrain_lines(2.0), **keys)
    rows = read_rows(table := compare_results([one, two]))
    assert [row["run"] for row in rows] == ["one", "two"]
    assert [row["lr"] for row in rows] == [0.001, 0.002]
    assert {"seed", "eps", "output", "steps"}.isdisjoint(table.columns)
    assert rows[1] == {
        "run": "two", "state": "finished", "lr": 0.002, "step": 20, "audio h": 0.5, "time": "1:15",
        "loss": 2.0, "dev loss": 2.5, "accuracy": 0.25, "dev accuracy": 0.2, "equal share": 0.125,
        "perplexity": "4 / 2", "joint perplexity": "8", "used codes": "8 / 3",
        "dead codes": "0 / 5",
    }  # fmt: skip
    assert "lr" in table.to_text()


def test_quantisers_are_named_by_kind_and_perplexity_is_a_share(tmp_path: Path) -> None:
    lines = create_pretrain_lines(3.0)
    runs = [
        write_run(tmp_path / name, lines, architecture={"quantizer": quantizer, "objective": task})
        for name, quantizer, task in [("a", SIMVQ, "contrastive"), ("b", FSQ, "prediction")]
    ]
    table = compare_results(runs)
    rows = read_rows(table)
    assert [row["quantizer"] for row in rows] == ["simvq", "fsq"]
    assert [row["code_dim"] for row in rows] == [4, 6]
    assert rows[0]["of codebook"] == pytest.approx((4 / 8 + 2 / 8) / 2)
    assert "5 keys that not all configurations have are left out." in table.notes
    assert any("`architecture.objective` cannot be compared" in note for note in table.notes)


def test_page_has_a_curve_of_each_run(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", create_pretrain_lines(3.0), seed=1)
    two = write_run(tmp_path / "two", create_pretrain_lines(2.0), seed=2)
    table = compare_results([one, two])
    captions = {caption: series for caption, _, series in table.curves}  # type: ignore[attr-defined]
    assert [list(s.y) for s in captions["Loss of the task, training"]] == [[5.0, 3.0], [4.0, 2.0]]
    assert [s.name for s in captions["Accuracy on dev"]] == ["one", "two"]
    assert "Character error rate on dev" not in captions
    assert table.to_page().render().count("<svg") == len(captions)


def test_finetuning_runs_show_the_best_error_rate_and_where_it_was(tmp_path: Path) -> None:
    one = write_run(
        tmp_path / "one", create_finetune_lines([(0.4, 0.9), (0.5, 0.8)]), verb="finetune"
    )
    two = write_run(tmp_path / "two", create_finetune_lines([(0.3, 0.7)]), verb="finetune")
    rows = read_rows(table := compare_results([one, two]))
    assert rows[0]["best dev CER"] == "40.0 % at 10"
    assert rows[0]["its WER"] == "90.0 % at 10"
    assert rows[1]["best dev CER"] == "30.0 % at 10"
    assert {"perplexity", "accuracy", "dead codes"}.isdisjoint(table.columns)


def test_states_of_runs_that_are_not_over(tmp_path: Path) -> None:
    lines = create_pretrain_lines(3.0)
    done = write_run(tmp_path / "done", lines)
    stopped = write_run(tmp_path / "stopped", lines[:1], is_finished=False)
    with (stopped / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 20, "split": "tr')  # killed while writing
    failed = write_run(tmp_path / "failed", [], is_finished=False)
    extended = write_run(tmp_path / "extended", lines, is_finished=False, steps=30)
    (extended / "summary.json").write_text('{"steps": 20}', "utf-8")
    early, late = (tmp_path / RECORDS / start for start in ("2026-01-01_1", "2026-01-02_1"))
    for directory, state, code in [(early, RunState.finished, 0), (late, RunState.failed, 3)]:
        record = RunRecord(name="x", output=str(failed), state=state.value, exit_code=code)
        write_record(directory, 0, record)
    rows = read_rows(compare_results([done, stopped, failed, extended]))
    assert [row["state"] for row in rows] == [
        "finished", "unfinished, 10 of 20", "failed at 0 of 20, exit code 3",
        "unfinished, 20 of 30",
    ]  # fmt: skip
    assert [row["loss"] for row in rows] == [3.0, 5.0, None, 3.0]


def test_many_differences_go_to_the_page(tmp_path: Path) -> None:
    first, second = ({f"key_{i}": i + shift for i in range(13)} for shift in (0, 100))
    runs = [
        write_run(tmp_path / "one", create_pretrain_lines(3.0), **first),
        write_run(tmp_path / "two", create_pretrain_lines(3.0), **second),
    ]
    table = compare_results(runs)
    assert "key_0" not in table.columns
    assert any(note.startswith("13 keys") for note in table.notes)
    page = table.to_page().render()
    assert "key_12" in page
    assert ">112<" in page


def test_same_ends_of_keys_are_told_apart(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / str(dim), [], a={"dim": dim}, b={"dim": dim, "rate": dim})
        for dim in (1, 2)
    ]
    assert {"a.dim", "b.dim", "rate"} <= set(compare_results(runs).columns)


def test_other_kinds_are_refused_and_files_passed_over(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", [])
    two = write_run(tmp_path / "two", [], verb="finetune")
    with pytest.raises(DataError, match=r"one kind.*one \(pretrain\).*two \(finetune\)"):
        compare_results([one, two])
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(DataError, match=r"is a training run and .*other not"):
        compare_results([one, other])
    (tmp_path / "one.log").write_text("", "utf-8")
    with pytest.raises(DataError, match="but there are 1"):
        compare_results([one, tmp_path / "one.log"])
