"""The files of an evaluation: `metrics.json` and `hypotheses.tsv`, written and read back.

`speechvq.deploy.evaluation` makes an `Evaluation`; `speechvq.deploy.comparison` reads the files.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from speechvq.decoding.alignment import EditCounts
from speechvq.decoding.config import EvaluateConfig
from speechvq.deploy.evaluation_result import KIND, Evaluation, Result
from speechvq.deploy.n_best import N_BEST_FILE, format_n_best
from speechvq.earlier_results import check_earlier_results
from speechvq.errors import DataError
from speechvq.reporting.page import Page

METRICS_FILE = "metrics.json"
HYPOTHESES_FILE = "hypotheses.tsv"
REPORT_FILE = "report.html"
_COUNTS = ("substitutions", "deletions", "insertions", "reference_lengths")
_UNITS = ("words", "characters", "letters")
_COLUMN_UNITS = ("word", "character", "letter")
_OLD_COLUMNS = (
    *("id", "language", "speaker", "seconds", "reference", "hypothesis"),
    *(f"{unit}_{count.removeprefix('reference_')}" for unit in _COLUMN_UNITS for count in _COUNTS),
)
_COLUMNS = (*_OLD_COLUMNS, "source", "snr_db", "confidences")
# What makes two evaluations the same; the rest changes speed or the look of the page only.
_IDENTITY = (
    *("corpus", "model", "language", "split", "where", "limit", "normalizer"),
    *("decoder", "lm", "lm_weight", "word_score", "beam_size", "num_best"),
)


def check_output(config: EvaluateConfig) -> None:
    """Refuses an output directory that holds something else.

    Raises:
        ConfigError: If it holds an evaluation with another configuration, or other results.
    """
    now = asdict(config)
    check_earlier_results(
        Path(config.output) / METRICS_FILE,
        KIND,
        "evaluation",
        lambda key, value, before: _resolve(key, value) == _resolve(key, before),
        {key: now[key] for key in _IDENTITY},
    )


def write_evaluation(evaluation: Evaluation, page: Page) -> None:
    """Writes the files of an evaluation; `metrics.json` last, as the sign of completeness."""
    output = Path(evaluation.config.output)
    output.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(_COLUMNS)]
    arrays = [
        getattr(getattr(evaluation.scores, unit), count) for unit in _UNITS for count in _COUNTS
    ]
    for row, result in enumerate(evaluation.results):
        texts = (result.id, result.language, result.speaker, f"{result.seconds:.3f}")
        cells = [*texts, result.reference, result.hypothesis]
        cells += [str(array[row]) for array in arrays]
        cells += [result.source, "" if result.snr_db is None else f"{result.snr_db:.2f}"]
        cells.append(" ".join(f"{value:.6g}" for value in result.confidences or ()))
        lines.append("\t".join(_clean(cell) for cell in cells))
    _write_atomically(output / HYPOTHESES_FILE, "\n".join(lines) + "\n")
    if evaluation.n_best:
        names = [result.id for result in evaluation.results if result.id in evaluation.n_best]
        _write_atomically(output / N_BEST_FILE, format_n_best(names, evaluation.n_best))
    page.write(output / REPORT_FILE)
    metrics = json.dumps(evaluation.to_metrics(), ensure_ascii=False, indent=2)
    _write_atomically(output / METRICS_FILE, metrics + "\n")


def read_metrics(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads `metrics.json` of a result directory.

    Raises:
        DataError: If there is none, or it is not a JSON object.
    """
    file = Path(directory) / METRICS_FILE
    try:
        metrics = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{directory} holds no results: it has no {METRICS_FILE}.") from None
    except (ValueError, OSError) as error:
        raise DataError(f"{file} cannot be read: {error}.") from None
    if not isinstance(metrics, dict):
        raise DataError(f"{file} must hold a JSON object, but holds a {type(metrics).__name__}.")
    return metrics


def read_results(
    directory: str | os.PathLike[str],
) -> tuple[list[Result], dict[str, EditCounts]]:
    """Reads `hypotheses.tsv`.

    Returns:
        The utterances in their order, and their counts in "words", "characters" and "letters".
        Files of older versions lack `source`, `snr_db` and `confidences`.

    Raises:
        DataError: If the file is missing or damaged; names the row.
    """
    file = Path(directory) / HYPOTHESES_FILE
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}.") from None
    columns = tuple(lines[0].split("\t"))
    if columns not in (_COLUMNS, _OLD_COLUMNS):
        raise DataError(f"{file}: its head must be {' '.join(_COLUMNS)}. Evaluate again.")
    results: list[Result] = []
    numbers: list[list[int]] = []
    for number, line in enumerate(lines[1:-1], start=2):
        try:
            cells = line.split("\t")
            if len(cells) != len(columns):
                raise ValueError(f"it has {len(cells)} cells")
            results.append(_read_result(dict(zip(columns, cells, strict=True))))
            numbers.append([int(count) for count in cells[6 : len(_OLD_COLUMNS)]])
        except ValueError as error:
            raise DataError(
                f"{file}, row {number}: must have {len(columns)} cells, the counts whole numbers, "
                f"but {error}. Evaluate again."
            ) from None
    table = np.array(numbers, dtype=np.int64).reshape(len(results), len(_UNITS), len(_COUNTS))
    edits = {
        unit: EditCounts(**{name: table[:, i, j] for j, name in enumerate(_COUNTS)})
        for i, unit in enumerate(_UNITS)
    }
    return results, edits


def _read_result(cells: dict[str, str]) -> Result:
    confidences = tuple(float(value) for value in cells.get("confidences", "").split())
    words = cells["hypothesis"].split()
    return Result(
        id=cells["id"],
        language=cells["language"],
        speaker=cells["speaker"],
        seconds=float(cells["seconds"]),
        reference=cells["reference"],
        hypothesis=cells["hypothesis"],
        source=cells.get("source", ""),
        snr_db=float(cells["snr_db"]) if cells.get("snr_db") else None,
        confidences=confidences if len(confidences) == len(words) else None,
    )


def _resolve(key: str, value: object) -> object:
    if key in ("corpus", "model") and isinstance(value, str):
        return str(Path(value).resolve())
    return value


def _clean(text: str) -> str:
    return " ".join(text.replace("\t", " ").splitlines()) if text else text


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
