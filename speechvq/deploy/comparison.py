"""Puts result directories of one kind side by side.

Evaluations are ranked, test set by test set (`speechvq.deploy.leaderboard`); training runs are
compared by their configurations, figures and curves (`speechvq.deploy.run_comparison`), analyses
by what their codes, layers and heads do (`speechvq.deploy.analysis_comparison`); other results by
their numbers alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechvq.deploy.analysis_comparison import compare_analyses
from speechvq.deploy.analysis_results import is_analysis
from speechvq.deploy.analysis_tables import create_analysis_table
from speechvq.deploy.evaluation_files import METRICS_FILE, read_metrics
from speechvq.deploy.evaluation_result import KIND
from speechvq.deploy.leaderboard import UNITS, create_leaderboards
from speechvq.deploy.leaderboard_tables import create_leaderboard_table
from speechvq.deploy.result_table import ResultTable
from speechvq.deploy.run_comparison import compare_runs, is_run
from speechvq.errors import DataError
from speechvq.reporting.cells import Cell, Value, is_number

REFERENCES = ("best", "first")
"""What the other evaluations or analyses of a table may be compared with."""
SUMMARY_FILE = "summary.json"


def compare_results(
    directories: Sequence[str | Path], *, against: str | None = None, rank_by: str = "wer"
) -> ResultTable:
    """Compares result directories of one kind.

    Args:
        directories: At least two. Files, which a shell's `*` brings along, are passed over.
        against: Of evaluations and analyses, what the others are compared with: `best` or `first`;
            None: of evaluations the first of two, the best of more; of analyses the first.
        rank_by: Of evaluations, the rate that ranks: `wer`, `cer` or `cer_no_spaces`.

    Raises:
        DataError: If a directory has no results, the kinds differ, or an option is no such thing.
    """
    for name, value, known in (
        ("against", against, (None, *REFERENCES)),
        ("rank_by", rank_by, tuple(UNITS)),
    ):
        if value not in known:
            listed = ", ".join(str(one) for one in known if one)
            raise DataError(f"`{name}` must be one of {listed}, but is {value!r}.")
    directories = [directory for directory in directories if not Path(directory).is_file()]
    if len(directories) < 2:
        raise DataError(
            f"At least two result directories are needed to compare, but there are "
            f"{len(directories)}."
        )
    paths = [Path(directory) for directory in directories]
    for is_kind, kind in ((is_run, "a training run"), (is_analysis, "an analysis")):
        alike = [path for path in paths if is_kind(path)]
        others = [str(path) for path in paths if path not in alike]
        if alike and others:
            raise DataError(
                f"Results must be of one kind to be compared, but {alike[0]} is {kind} and "
                f"{', '.join(others)} not."
            )
        if alike and is_kind is is_run:
            return compare_runs(paths)
        if alike:
            return create_analysis_table(compare_analyses(paths, against=against or "first"))
    found = [_read_numbers(path) for path in paths]
    kinds = [str(numbers.get("kind", "results")) for numbers in found]
    if len(set(kinds)) > 1:
        listed = ", ".join(f"{path} ({kind})" for path, kind in zip(paths, kinds, strict=True))
        raise DataError(f"Results must be of one kind to be compared, but are {listed}.")
    if kinds[0] == KIND:
        reference = against or ("first" if len(paths) == 2 else "best")
        boards = create_leaderboards(paths, against=reference, rank_by=rank_by)
        return create_leaderboard_table(boards, rank_by)
    return _compare_numbers(paths, found)


def _read_numbers(path: Path) -> dict[str, Any]:
    if not (path / METRICS_FILE).exists() and (path / SUMMARY_FILE).exists():
        try:
            summary = json.loads((path / SUMMARY_FILE).read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise DataError(f"{path / SUMMARY_FILE} cannot be read: {error}.") from None
        if not isinstance(summary, dict):
            raise DataError(f"{path / SUMMARY_FILE} must hold a JSON object.")
        return summary
    return read_metrics(path)


def _compare_numbers(paths: list[Path], found: list[dict[str, Any]]) -> ResultTable:
    flat = [dict(_flatten(numbers)) for numbers in found]
    keys = [key for key in flat[0] if all(key in numbers for numbers in flat)]
    if not keys:
        raise DataError(
            f"{', '.join(map(str, paths))} have no number in common: are they of one kind?"
        )
    rows: list[list[Cell | Value]] = [[key, *(numbers[key] for numbers in flat)] for key in keys]
    left_out = sum(len(numbers) for numbers in flat) - len(keys) * len(flat)
    notes = [f"{left_out} numbers that not all of them have are left out."] if left_out else []
    return ResultTable(
        title="Results compared",
        columns=["number", *map(str, paths)],
        rows=rows,
        notes=notes,
    )


def _flatten(numbers: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    pairs: list[tuple[str, float]] = []
    for key, value in numbers.items():
        if isinstance(value, dict):
            pairs += _flatten(value, f"{prefix}{key}.")
        elif is_number(value):
            pairs.append((f"{prefix}{key}", value))
    return pairs
