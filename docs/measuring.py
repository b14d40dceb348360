"""What the scripts `measure_*.py` share: their options, recipes that can be gone on with, parts of
a script in processes of their own, and the files of `docs/results`.

Only the standard library is imported with this module: some scripts measure the memory of the very
process that imports it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speechvq.models.config import QuantizerConfig

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS / "results"
DIRECTORIES = {
    "corpus": "what `prepare` made",
    "runs": "where the runs shall lie",
    "work": "a directory on a quick disk",
}
"""Options that name directories, and what they are."""
NO_MACHINE = "--machine must be given: processor, cores, memory, GPU."
FSQ_LEVELS = {
    80: [5, 4, 4],
    320: [8, 8, 5],
    1024: [8, 8, 8, 2],
    8192: [8, 8, 8, 4, 4],
    65536: [8, 8, 8, 8, 4, 4],
}
"""Entries of a codebook: the levels of a finite scalar quantiser with as many."""
_REFERENCE_STEPS = (25, 50, 100, 200, 400, 800, 1600, 2400)
PRETRAINING_COLUMNS = (
    "contrastive loss", "accuracy %", "distractors equal to target %",
    "perplexity of the codebooks (of 320)",
)  # fmt: skip
"""What `describe_pretraining` returns."""


def create_parser(
    description: str | None, *directories: str, needs_machine: bool = True
) -> argparse.ArgumentParser:
    """Create the parser of a script's options.

    Args:
        description: The script's docstring.
        directories: Which of `DIRECTORIES` must be given.
        needs_machine: Whether `--machine` must be given, too; not where a script calls itself for
            a part, which must then refuse the rest with `NO_MACHINE`.
    """
    parser = argparse.ArgumentParser(description=description)
    for name in directories:
        parser.add_argument(f"--{name}", type=parse_path, required=True, help=DIRECTORIES[name])
    parser.add_argument(
        "--machine", default="", required=needs_machine, help="processor, cores, memory, GPU"
    )
    return parser


def parse_path(text: str) -> Path:
    """An absolute path: recipes run in the root of the project, wherever the script was started."""
    return Path(text).absolute()


def run_recipe(recipe: str, corpus: Path | None, output: Path, keys: Iterable[str]) -> Path:
    """Run a recipe with one thread, or go on with it; it writes to a log beside its output.

    Args:
        recipe: Its name, such as `pretrain`.
        corpus: What `prepare` made; None for `prepare` itself.
        output: The run's directory; absolute.
        keys: What else it is told, such as `steps=100`.

    Returns:
        `output`.

    Raises:
        CalledProcessError: It failed.
    """
    package = "data_prep" if recipe == "prepare" else "recipes"
    command = [sys.executable, "-m", f"{package}.{recipe}"]
    command += [*([f"corpus={corpus}"] if corpus else []), *keys, f"output={output}"]
    print("+", " ".join(["speechvq", recipe, *command[3:]]), flush=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.with_name(f"{output.name}.log").open("a") as log:
        subprocess.run(
            command,
            check=True,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            cwd=DOCS.parent,
        )
    return output


def run_part(*arguments: str, environment: Mapping[str, str] | None = None) -> Any:
    """Run a part of a script in a Python process of its own.

    Args:
        arguments: What follows `python`.
        environment: Variables that the process gets besides this one's.

    Returns:
        What the last line that it prints says, which is JSON.

    Raises:
        CalledProcessError: It failed.
    """
    process = subprocess.run(
        [sys.executable, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    return json.loads(process.stdout.splitlines()[-1])


def read_memory(name: str) -> int:
    """A line of this process's /proc/self/status, in KiB: `VmRSS` now, `VmHWM` at its highest.

    `getrusage` would begin with the memory of whoever started the process.
    """
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise SystemExit(f"/proc/self/status has no line {name}: memory is measured on Linux only.")


def read_summary(directory: Path) -> Any:
    """`summary.json` of a run."""
    return json.loads((directory / "summary.json").read_text(encoding="utf-8"))


def format_rate(metrics: Mapping[str, Any], name: str) -> str:
    """A rate with its interval, in percent."""
    low, high = metrics[f"{name}_interval"]
    return f"{100 * metrics[name]:.1f} ({100 * low:.1f} – {100 * high:.1f})"


def describe_difference(before: Path, after: Path) -> str:
    """CER of the evaluation `after` less that of `before`, by paired bootstrap."""
    from speechvq.decoding.scoring import compare_systems
    from speechvq.deploy.evaluation_files import read_results

    edits = [read_results(path)[1]["characters"] for path in (before, after)]
    test = compare_systems(*edits)
    assert test.difference is not None
    assert test.low is not None
    assert test.high is not None
    return (
        f"{100 * test.difference:+.1f} points ({100 * test.low:+.1f} … {100 * test.high:+.1f}), "
        f"p = {test.p_value:.4f}"
    )


def create_quantizer_config(
    kind: str, size: int, num_codebooks: int, code_dim: int
) -> QuantizerConfig:
    """Create the configuration of a quantiser by the name that it has in tables.

    Args:
        kind: Such as `simvq` or `vq, rotated`.
        size: Entries of a codebook; for fsq a key of `FSQ_LEVELS`.
        num_codebooks: Codebooks.
        code_dim: Channels of all codebooks together; fsq has one a level instead.

    Raises:
        ValueError: There is no such kind.
    """
    from speechvq.models import config

    sizes: dict[str, Any] = {
        "num_codebooks": num_codebooks,
        "codebook_size": size,
        "code_dim": code_dim,
    }
    match kind:
        case "gumbel":
            return config.GumbelConfig(**sizes)
        case "simvq":
            return config.SimVQConfig(**sizes)
        case "simvq, basis learns":
            return config.SimVQConfig(**sizes, learns_basis=True)
        case "vq":
            return config.VQConfig(**sizes)
        case "vq, rotated":
            return config.VQConfig(**sizes, rotates=True)
        case "ema":
            return config.EMAConfig(**sizes)
        case "ema, no restart":
            return config.EMAConfig(**sizes, restart_share=0.0)
        case "fsq":
            sizes["code_dim"] = num_codebooks * len(FSQ_LEVELS[size])
            return config.FSQConfig(**sizes, levels=FSQ_LEVELS[size])
        case "random":
            return config.RandomProjectionConfig(**sizes)
    raise ValueError(f"There is no kind {kind!r}.")


def write_result(
    name: str,
    *,
    title: str,
    machine: str,
    command: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    notes: Sequence[str],
    headline: Sequence[Mapping[str, str]] | None = None,
) -> None:
    """Write one measurement of today for `docs/make_results.py`, which says what its keys mean.

    Args:
        name: Of the file in `docs/results`.
        title: What was measured.
        machine: What it ran on.
        command: The line that was typed.
        columns: Heads of the table.
        rows: Its rows, each with as many cells.
        notes: Sentences below it.
        headline: Lines for the README, if any.
    """
    entry: dict[str, Any] = {
        "title": title,
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "machine": machine,
        "commands": [command],
        "columns": columns,
        "rows": rows,
        "notes": notes,
    }
    if headline is not None:
        entry["headline"] = headline
    text = json.dumps(entry, indent=2, ensure_ascii=False) + "\n"
    (RESULTS / name).write_text(text, encoding="utf-8")


def describe_pretraining(line: Mapping[str, Any]) -> list[str]:
    """The cells of `PRETRAINING_COLUMNS` for a line of `metrics.jsonl`, or a language's part."""
    return [
        f"{line['contrastive_loss']:.2f}", f"{100 * line['accuracy']:.1f}",
        f"{100 * line['equal_share']:.2f}", " / ".join(f"{p:.0f}" for p in line["perplexity"]),
    ]  # fmt: skip


def write_reference_curve(name: str, *, title: str, run: Path, machine: str, command: str) -> None:
    """Write how a healthy pretraining went, for others to hold theirs against.

    Args:
        name: Of the file in `docs/results`.
        title: What was pretrained.
        run: Its directory.
        machine: What it ran on.
        command: The line that was typed.
    """
    text = (run / "metrics.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    write_result(
        name,
        title=title,
        machine=machine,
        command=command,
        columns=["update", *PRETRAINING_COLUMNS],
        rows=[[line["step"], *describe_pretraining(line)] for line in lines
              if line["split"] == "train" and line["step"] in _REFERENCE_STEPS],
        notes=["In training: means over the interval that ends at the update."],
    )  # fmt: skip
