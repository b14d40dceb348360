"""Puts result directories of one kind side by side.

Evaluations of the same test set are compared with the first by the paired bootstrap of
`speechvq.decoding.scoring`; training runs by their configurations, figures and curves
(`speechvq.deploy.run_comparison`); other results by their numbers alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from speechvq.decoding.alignment import EditCounts, IntArray
from speechvq.decoding.scoring import ErrorRate, compare_systems, compute_error_rate
from speechvq.deploy.evaluation_files import METRICS_FILE, read_metrics, read_results
from speechvq.deploy.evaluation_result import KIND, Result
from speechvq.deploy.result_table import ResultTable
from speechvq.deploy.run_comparison import compare_runs, is_run
from speechvq.errors import DataError
from speechvq.reporting.cells import Cell, Value, is_number

_RATES = (("WER", "words"), ("CER", "characters"), ("CER without spaces", "letters"))
SUMMARY_FILE = "summary.json"


def compare_results(directories: Sequence[str | Path]) -> ResultTable:
    """Compares result directories of one kind.

    Args:
        directories: At least two; the first is what the others are compared with. Files, which a
            shell's `*` brings along, are passed over.

    Raises:
        DataError: If a directory has no results, the kinds differ, or evaluations are of different
            test sets.
    """
    directories = [directory for directory in directories if not Path(directory).is_file()]
    if len(directories) < 2:
        raise DataError(
            f"At least two result directories are needed to compare, but there are "
            f"{len(directories)}."
        )
    paths = [Path(directory) for directory in directories]
    runs = [path for path in paths if is_run(path)]
    if runs:
        others = [str(path) for path in paths if path not in runs]
        if others:
            raise DataError(
                f"Results must be of one kind to be compared, but {runs[0]} is a training run and "
                f"{', '.join(others)} not."
            )
        return compare_runs(paths)
    found = [_read_numbers(path) for path in paths]
    kinds = [str(numbers.get("kind", "results")) for numbers in found]
    if len(set(kinds)) > 1:
        listed = ", ".join(f"{path} ({kind})" for path, kind in zip(paths, kinds, strict=True))
        raise DataError(f"Results must be of one kind to be compared, but are {listed}.")
    if kinds[0] == KIND:
        return _compare_evaluations(paths, found)
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


def _compare_evaluations(paths: list[Path], found: list[dict[str, Any]]) -> ResultTable:
    first_results, _ = read_results(paths[0])
    counts: list[dict[str, EditCounts]] = []
    for path, metrics in zip(paths, found, strict=True):
        results, edits = read_results(path)
        order = _match(paths[0], first_results, path, results)
        _check_normalizer(paths[0], found[0], path, metrics)
        counts.append({unit: edits[unit].select(order) for _, unit in _RATES})
    columns = ["evaluation", "rate", "value", "95 %", "difference", "95 % of it", "p"]
    rows: list[list[Cell | Value]] = []
    for name, unit in _RATES:
        for number, (path, edits) in enumerate(zip(paths, counts, strict=True)):
            rate = compute_error_rate(edits[unit])
            row: list[Cell | Value] = [str(path), name]
            row += [Cell(value=rate.rate, text=_percent(rate.rate)), _interval(rate)]
            row += _difference(counts[0][unit], edits[unit]) if number else [None, None, None]
            rows.append(row)
    notes = [
        f"Differences are to {paths[0]}, in points; below zero is better. Paired bootstrap over "
        f"{len(first_results):,} utterances; p is two-sided.",
        f"Text normaliser: {found[0].get('normalizer')}.",
    ]
    return ResultTable(title="Evaluations compared", columns=columns, rows=rows, notes=notes)


def _match(first: Path, first_results: list[Result], path: Path, results: list[Result]) -> IntArray:
    """Returns the positions in `results` of the first's utterances; refuses other test sets."""
    positions = {result.id: number for number, result in enumerate(results)}
    missing = [result.id for result in first_results if result.id not in positions]
    extra = set(positions) - {result.id for result in first_results}
    if missing or extra:
        example = missing[0] if missing else min(extra)
        raise DataError(
            f"{first} and {path} were scored on different test sets: {len(missing)} utterances are "
            f"only in the first and {len(extra)} only in the second, such as {example!r}. Evaluate "
            "both with the same `corpus`, `split`, `language`, `where` and `limit`."
        )
    order = [positions[result.id] for result in first_results]
    for one, number in zip(first_results, order, strict=True):
        if one.reference != results[number].reference:
            raise DataError(
                f"{first} and {path} were scored on different references: for {one.id!r} they are "
                f"{one.reference!r} and {results[number].reference!r}."
            )
    return np.array(order, dtype=np.int64)


def _check_normalizer(
    first: Path, before: dict[str, Any], path: Path, metrics: dict[str, Any]
) -> None:
    if before.get("normalizer") != metrics.get("normalizer"):
        raise DataError(
            f"Scores must use one text normaliser to be compared, but {first} uses "
            f"{before.get('normalizer')!r} and {path} {metrics.get('normalizer')!r}."
        )


def _difference(before: EditCounts, after: EditCounts) -> list[Cell | Value]:
    test = compare_systems(before, after)
    if test.difference is None or test.low is None or test.high is None or test.p_value is None:
        return [None, None, None]
    tone = "" if test.low <= 0 <= test.high else ("good" if test.high < 0 else "bad")
    return [
        Cell(value=test.difference, text=f"{100 * test.difference:+.1f}", tone=tone),
        f"{100 * test.low:+.1f}\u00a0…\u00a0{100 * test.high:+.1f}",
        Cell(value=test.p_value, text=f"{test.p_value:.4f}"),
    ]


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


def _percent(rate: float | None) -> str:
    return "–" if rate is None else f"{100 * rate:.1f} %"


def _interval(rate: ErrorRate) -> str:
    if rate.low is None or rate.high is None:
        return "–"
    return f"{100 * rate.low:.1f}\u00a0–\u00a0{100 * rate.high:.1f}"
