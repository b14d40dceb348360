"""Puts training runs of one kind side by side: what differs in their configurations, and curves.

Reads what `speechvq.training` leaves (`config.json`, `metrics.jsonl`, `summary.json`), finished or
not, without torch.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechvq.deploy.progress import format_clock
from speechvq.deploy.result_table import ResultTable
from speechvq.errors import DataError
from speechvq.json_lines import read_json_lines
from speechvq.models.config_json import QUANTIZER_KINDS
from speechvq.reporting.cells import Cell, Value
from speechvq.reporting.charts import Series, draw_lines
from speechvq.reporting.page import Page
from speechvq.training.run_directory import flatten
from speechvq.training.sweep_records import RunState, find_last_record

Line = dict[str, Any]

VERBS = ("pretrain", "finetune")
"""What `verb` in the `config.json` of a training run may be."""

QUANTIZER = "architecture.quantizer"
OBJECTIVE = "architecture.objective"

_TASK_LOSSES = ("contrastive_loss", "prediction_loss", "loss")
"""What the loss is called that runs of one task share, the first that there is."""

_UNTOLD_KEYS = frozenset(
    {"output", "resume", "plan", "plan_gpus", "plan_gpu_hours_per_hour", "plan_efficiency",
     "tensorboard", "wandb_project", "keep_checkpoints"}
)  # fmt: skip
"""Keys whose differences say nothing of a run."""

_MAX_LISTED_KEYS = 12
"""More keys that differ are told in the page only."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training run as its directory tells it.

    Attributes:
        path: The directory.
        config: `config.json`, flattened to dotted keys; the quantiser is one key, its kind.
        lines: `metrics.jsonl`.
        summary: `summary.json`, empty if there is none.
    """

    path: Path
    config: dict[str, Any]
    lines: list[Line]
    summary: dict[str, Any]

    def select(self, split: str) -> list[Line]:
        """Return the lines of a split."""
        return [line for line in self.lines if line.get("split") == split]


@dataclass(frozen=True, kw_only=True)
class RunTable(ResultTable):
    """Training runs side by side.

    Attributes:
        curves: Caption and unit of each picture, and its curves, one a run.
        differences: Head and rows of the table of all keys that differ; None where the first table
            has them all.
    """

    curves: list[tuple[str, str, list[Series]]]
    differences: tuple[list[str], list[list[Cell | Value]]] | None = None

    def to_page(self) -> Page:
        """Returns table and curves as a page."""
        page = super().to_page()
        if self.differences is not None:
            page.add_heading("What differs")
            page.add_table(*self.differences)
        page.add_heading("Curves")
        with page.grid():
            for caption, unit, series in self.curves:
                with page.card():
                    page.add_figure(
                        draw_lines(series, x_label="update", y_label=unit), caption=caption
                    )
        return page


def is_run(path: Path) -> bool:
    """Tell whether a directory is that of a training run."""
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("verb") in VERBS


def compare_runs(paths: Sequence[Path]) -> RunTable:
    """Compare training runs.

    Args:
        paths: Their directories.

    Returns:
        One row a run, and their curves.

    Raises:
        DataError: Some are pretrained and others finetuned, or a file is damaged.
    """
    runs = [read_run(path) for path in paths]
    verbs = [run.config["verb"] for run in runs]
    if len(set(verbs)) > 1:
        listed = ", ".join(f"{path} ({verb})" for path, verb in zip(paths, verbs, strict=True))
        raise DataError(f"Training runs must be of one kind to be compared, but are {listed}.")
    names = shorten_paths(paths)
    keys, num_partial = find_differences([run.config for run in runs])
    told = keys if len(keys) <= _MAX_LISTED_KEYS else []
    short = _shorten_keys(keys)
    columns: dict[str, list[Cell | Value]] = {
        "run": list(names),
        "state": [_describe_state(run) for run in runs],
        **{short[key]: [_to_value(run.config.get(key)) for run in runs] for key in told},
    }
    for head, measure in _MEASURES:
        cells = [measure(run) for run in runs]
        if any(cell is not None for cell in cells):
            columns[head] = cells
    notes = ["Loss, accuracy, equal share, perplexity and codes are those of the last interval."]
    if num_partial:
        notes.append(f"{num_partial} keys that not all configurations have are left out.")
    if len({run.config.get(OBJECTIVE, "contrastive") for run in runs}) > 1:
        notes.append(f"Losses and accuracies of different `{OBJECTIVE}` cannot be compared.")
    rows = [[column[number] for column in columns.values()] for number in range(len(runs))]
    differences = None
    if keys and not told:
        notes.append(f"{len(keys)} keys of the configurations differ; the page lists them.")
        table: list[list[Cell | Value]] = [
            [key, *(_to_value(run.config.get(key)) for run in runs)] for key in keys
        ]
        differences = (["key", *names], table)
    return RunTable(
        title=f"Training runs compared ({verbs[0]})",
        columns=list(columns),
        rows=rows,
        notes=notes,
        curves=list(_draw_curves(dict(zip(names, runs, strict=True)))),
        differences=differences,
    )


def read_run(path: Path) -> Run:
    """Read a training run.

    Raises:
        DataError: A file is damaged.
    """
    config = flatten(_fold_quantizer(_read_json(path / "config.json")))
    summary = _read_json(path / "summary.json") if (path / "summary.json").exists() else {}
    lines = read_json_lines(path / "metrics.jsonl")
    return Run(path=path, config=config, lines=lines, summary=summary)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} must hold a JSON object.")
    return content


def _fold_quantizer(config: dict[str, Any]) -> dict[str, Any]:
    """Name the kind of quantiser, which `config.json` tells by its keys alone."""
    quantizer = config.get("architecture", {}).get("quantizer")
    if isinstance(quantizer, dict):
        kinds = {
            frozenset(field.name for field in dataclasses.fields(cls)): kind
            for kind, cls in QUANTIZER_KINDS.items()
        }
        kind = kinds.get(frozenset(quantizer))
        if kind is not None:
            quantizer = {"": kind, **quantizer}
        config = {**config, "architecture": {**config["architecture"], "quantizer": quantizer}}
    return config


def find_differences(configs: Sequence[dict[str, Any]]) -> tuple[list[str], int]:
    """Find the keys whose values differ.

    Args:
        configs: Flat configurations.

    Returns:
        The keys that all have, in the first one's order, and how many others only some have.
    """
    everywhere = [key for key in configs[0] if all(key in config for config in configs)]
    somewhere = {key for config in configs for key in config}
    keys = [
        key
        for key in everywhere
        if key not in _UNTOLD_KEYS and any(config[key] != configs[0][key] for config in configs[1:])
    ]
    return keys, len(somewhere) - len(everywhere)


def _shorten_keys(keys: Sequence[str]) -> dict[str, str]:
    """Return the shortest ends of dotted keys that tell them apart."""
    short = {}
    for key in keys:
        parts = key.rstrip(".").split(".")
        for count in range(1, len(parts) + 1):
            end = ".".join(parts[-count:])
            if sum(f".{other.rstrip('.')}".endswith(f".{end}") for other in keys) == 1:
                break
        short[key] = end
    return short


def shorten_paths(paths: Sequence[Path]) -> list[str]:
    """Return the paths below the directory that all of them lie in.

    Args:
        paths: Directories.
    """
    absolute = [str(path.absolute()) for path in paths]
    root = os.path.commonpath([str(Path(path).parent) for path in absolute])
    return [os.path.relpath(path, root) for path in absolute]


def _describe_state(run: Run) -> Cell:
    steps = int(run.config.get("steps", 0))
    done = max((int(line.get("step", 0)) for line in run.lines), default=0)
    if run.summary.get("steps", 0) >= steps:
        return Cell(value="finished", tone="good")
    record = find_last_record(run.path)
    if record is not None and record.state == RunState.failed.value:
        text = f"failed at {done} of {steps}, exit code {record.exit_code}"
        return Cell(value=text, tone="bad")
    return Cell(value=f"unfinished, {done} of {steps}", tone="warning")


def _to_value(value: Any) -> Value:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, int | float | str) else json.dumps(value)


def _get_last(run: Run, split: str, name: str) -> Any:
    lines = run.select(split)
    return lines[-1].get(name) if lines else None


def _get_task_loss(line: Line) -> float | None:
    """Loss of the task; None where it was not a number."""
    value = next((line[name] for name in _TASK_LOSSES if name in line), None)
    return None if value is None else float(value)


def _measure_loss(split: str) -> Callable[[Run], Value]:
    return lambda run: _get_task_loss(lines[-1]) if (lines := run.select(split)) else None


def _measure_last(split: str, name: str) -> Callable[[Run], Value]:
    return lambda run: _get_last(run, split, name)


def _measure_list(name: str) -> Callable[[Run], Value]:
    """Return what shows one number a codebook."""

    def measure(run: Run) -> Value:
        value = _get_last(run, "train", name)
        numbers = value if isinstance(value, list) else [value]
        return None if value is None else " / ".join(f"{number:.0f}" for number in numbers)

    return measure


def _measure_time(run: Run) -> Cell | None:
    seconds = _get_last(run, "train", "total_time")
    return None if seconds is None else Cell(value=seconds, text=format_clock(seconds))


def _measure_best(name: str) -> Callable[[Run], Cell | None]:
    """Return what shows a dev error rate at the step with the lowest CER."""

    def measure(run: Run) -> Cell | None:
        lines = [line for line in run.select("dev") if line.get("cer") is not None]
        if not lines:
            return None
        best = min(lines, key=lambda line: line["cer"])
        return Cell(value=best[name], text=f"{100 * best[name]:.1f} % at {best['step']}")

    return measure


def compute_perplexity_share(run: Run, line: Line) -> float | None:
    """Return the perplexity of an interval as a share of the codebook's size, mean over G."""
    size = run.config.get(f"{QUANTIZER}.codebook_size")
    perplexity = line.get("perplexity")
    if not size or not perplexity:
        return None
    return float(sum(perplexity) / len(perplexity) / size)


def _measure_perplexity_share(run: Run) -> Value:
    lines = run.select("train")
    return compute_perplexity_share(run, lines[-1]) if lines else None


_MEASURES: tuple[tuple[str, Callable[[Run], Cell | Value]], ...] = (
    ("step", lambda run: _get_last(run, "train", "step")),
    ("audio h", _measure_last("train", "audio_hours")),
    ("time", _measure_time),
    ("loss", _measure_loss("train")),
    ("dev loss", _measure_loss("dev")),
    ("accuracy", _measure_last("train", "accuracy")),
    ("dev accuracy", _measure_last("dev", "accuracy")),
    ("equal share", _measure_last("train", "equal_share")),
    ("perplexity", _measure_list("perplexity")),
    ("of codebook", _measure_perplexity_share),
    ("joint perplexity", _measure_list("joint_perplexity")),
    ("used codes", _measure_list("used_codes")),
    ("dead codes", _measure_list("dead_codes")),
    ("best dev CER", _measure_best("cer")),
    ("its WER", _measure_best("wer")),
)
"""Heads of the columns, and what they show of a run."""

_CURVES: tuple[tuple[str, str, str, Callable[[Run, Line], Any]], ...] = (
    ("Loss of the task, training", "train", "nats", lambda run, line: _get_task_loss(line)),
    ("Loss of the task, dev", "dev", "nats", lambda run, line: _get_task_loss(line)),
    ("Perplexity, mean over codebooks", "train", "share of codebook", compute_perplexity_share),
    (
        "Distractors equal to the target",
        "train",
        "share",
        lambda run, line: line.get("equal_share"),
    ),
    ("Accuracy on dev", "dev", "share", lambda run, line: line.get("accuracy")),
    ("Character error rate on dev", "dev", "share", lambda run, line: line.get("cer")),
    ("Word error rate on dev", "dev", "share", lambda run, line: line.get("wer")),
)
"""Caption, split, unit, and the value of a line."""


def _draw_curves(runs: dict[str, Run]) -> Sequence[tuple[str, str, list[Series]]]:
    curves = []
    for caption, split, unit, get in _CURVES:
        series = []
        for name, run in runs.items():
            points = [(line["step"], get(run, line)) for line in run.select(split)]
            points = [(step, value) for step, value in points if value is not None]
            if points:
                x, y = zip(*points, strict=True)
                series.append(Series(name=name, x=x, y=y))
        if series:
            curves.append((caption, unit, series))
    return curves
