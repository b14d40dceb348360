"""Leaderboards for the terminal, as a page, as JSON, and as CSV or TSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from speechvq.decoding.scoring import Comparison, ErrorRate
from speechvq.deploy.evaluation_tables import create_bars, format_rate, rate_cell
from speechvq.deploy.leaderboard import SIGNIFICANCE, Entry, Leaderboard
from speechvq.deploy.result_table import ExportedTable, ResultTable
from speechvq.reporting.cells import Cell, Value
from speechvq.reporting.charts import draw_bars
from speechvq.reporting.page import Page

_NAMES = {"wer": "WER", "cer": "CER", "cer_no_spaces": "CER without spaces"}
_MOST_LANGUAGES = 6
"""With more, the terminal shows the mean over languages only; page and files show all."""
_MOST_BARS = 24


@dataclass(frozen=True, kw_only=True)
class LeaderboardTable(ExportedTable):
    """Leaderboards side by side; the table itself is the first of them.

    Attributes:
        boards: One a test set and normaliser.
        rank_by: The rate that ranks.
    """

    boards: list[Leaderboard]
    rank_by: str

    def to_text(self) -> str:
        """Returns the tables for a terminal."""
        parts = []
        for number, board in enumerate(self.boards):
            table = _create_table(board, self.rank_by, is_brief=True)
            parts.append(table.to_text())
            if number == 0 and len(self.boards) > 1:
                parts[0] = f"{describe_groups(self.boards)}\n\n{parts[0]}"
        return "\n\n".join(parts)

    def to_page(self) -> Page:
        """Returns the tables with bars and intervals as a page."""
        page = Page(self.title)
        if len(self.boards) > 1:
            page.add_paragraph(describe_groups(self.boards), tone="warning")
        for board in self.boards:
            table = _create_table(board, self.rank_by, is_brief=False)
            if len(self.boards) > 1:
                page.add_heading(f"{board.name}; {board.normalizer}")
            page.add_table(table.columns, table.rows)
            if len(board.entries) <= _MOST_BARS:
                names = [str(entry.rank) for entry in board.entries]
                series = [
                    create_bars(_NAMES[name], [entry.rates[name] for entry in board.entries])
                    for name in ("wer", "cer")
                ]
                chart = draw_bars(names, series, y_label="error rate in %", x_label="rank")
                page.add_figure(chart, caption="With 95 % intervals.")
            for note in table.notes:
                page.add_paragraph(note, tone="note")
        return page

    def to_json(self) -> str:
        """Returns all numbers as JSON."""
        document = {
            "kind": "leaderboard",
            "format_version": 1,
            "rank_by": self.rank_by,
            "boards": [
                {
                    "name": board.name,
                    "test_set_digest": board.test_set,
                    "normalizer": board.normalizer,
                    "num_utterances": board.num_utterances,
                    "bootstrap_over": board.unit,
                    "reference": str(board.reference),
                    "entries": [_to_json(entry) for entry in board.entries],
                }
                for board in self.boards
            ],
        }
        return json.dumps(document, ensure_ascii=False, indent=2) + "\n"

    def to_delimited(self, delimiter: str) -> str:
        """Returns one row an evaluation, rates as shares and not in percent.

        Args:
            delimiter: A comma or a tab.
        """
        languages = sorted({name for board in self.boards for name in board.languages})
        text = io.StringIO()
        writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
        head = ["board", "test_set", "normalizer", "rank", "evaluation", "model", "decoder"]
        head += ["training_hours", f"{self.rank_by}_mean_over_languages"]
        for name in _NAMES:
            head += [name, f"{name}_low", f"{name}_high"]
        head += ["bootstrap_over", "reference"]
        head += [f"{self.rank_by}_difference{end}" for end in ("", "_low", "_high")] + ["p"]
        writer.writerow(head + [f"wer_{language}" for language in languages])
        for number, board in enumerate(self.boards, start=1):
            for entry in board.entries:
                writer.writerow(_to_cells(number, board, entry, languages, self.rank_by))
        return text.getvalue()


def create_leaderboard_table(boards: list[Leaderboard], rank_by: str) -> LeaderboardTable:
    """Returns leaderboards as something to show and to write."""
    first = _create_table(boards[0], rank_by, is_brief=False)
    return LeaderboardTable(
        title="Evaluations compared",
        columns=first.columns,
        rows=first.rows,
        notes=first.notes,
        boards=boards,
        rank_by=rank_by,
    )


def describe_groups(boards: Sequence[Leaderboard]) -> str:
    """Returns a sentence that says why there is more than one table."""
    normalizers = len({board.normalizer for board in boards})
    test_sets = len({board.test_set for board in boards})
    return (
        f"These evaluations cannot be ranked together: they have {test_sets} different test sets "
        f"(utterances or references) and {normalizers} text normaliser"
        f"{'s' if normalizers > 1 else ''}. There is a table for each; ranks hold within a table "
        "only."
    )


def _create_table(board: Leaderboard, rank_by: str, *, is_brief: bool) -> ResultTable:
    languages = board.languages
    with_mean = len(languages) > 1
    shown = languages if with_mean and (len(languages) <= _MOST_LANGUAGES or not is_brief) else []
    columns = ["evaluation", "rank", "WER", "95 %"]
    columns += ["mean over languages"] * with_mean + shown
    columns += ["CER", "95 %", "difference", "95 % of it", "p", "decoder", "trained on"]
    rows: list[list[Cell | Value]] = []
    for entry in board.entries:
        row: list[Cell | Value] = [str(entry.path), entry.rank]
        row += [rate_cell(entry.rates["wer"]), _interval(entry.rates["wer"])]
        if with_mean:
            row.append(Cell(value=entry.score, text=format_rate(entry.score)))
        row += [rate_cell(entry.languages[name]) for name in shown]
        row += [rate_cell(entry.rates["cer"]), _interval(entry.rates["cer"])]
        row += _difference(entry.tests[rank_by] if entry.tests else None)
        hours = entry.training_hours
        row += [entry.decoder, Cell(value=hours, text="–" if hours is None else f"{hours:.2f} h")]
        rows.append(row)
    told_apart = sum(entry.differs_by(rank_by) for entry in board.entries)
    ranked = f"mean {_NAMES[rank_by]} over languages" if with_mean else _NAMES[rank_by]
    notes = [
        f"Test set: {board.name}. Text normaliser: {board.normalizer}. Ranked by {ranked}.",
        f"Differences are to {board.reference}, {_NAMES[rank_by]} over all utterances in points; "
        "below zero is better. Intervals and "
        f"the paired test are a bootstrap over {board.unit}; p is two-sided and not corrected for "
        f"the number of comparisons ({len(board.entries) - 1}).",
        f"Beyond chance (p < {SIGNIFICANCE:g}) {told_apart} of {len(board.entries) - 1} differ "
        "from it"
        + (
            "; the order of the others is not shown by these utterances."
            if told_apart < len(board.entries) - 1
            else "."
        ),
    ]
    return ResultTable(title="Evaluations compared", columns=columns, rows=rows, notes=notes)


def _difference(test: Comparison | None) -> list[Cell | Value]:
    if test is None or test.difference is None or test.low is None or test.high is None:
        return [None, None, None]
    tone = "" if test.low <= 0 <= test.high else ("good" if test.high < 0 else "bad")
    return [
        Cell(value=test.difference, text=f"{100 * test.difference:+.1f}", tone=tone),
        f"{100 * test.low:+.1f}\u00a0…\u00a0{100 * test.high:+.1f}",
        None if test.p_value is None else Cell(value=test.p_value, text=f"{test.p_value:.4f}"),
    ]


def _interval(rate: ErrorRate) -> str:
    if rate.low is None or rate.high is None:
        return "–"
    return f"{100 * rate.low:.1f}\u00a0–\u00a0{100 * rate.high:.1f}"


def _to_json(entry: Entry) -> dict[str, Any]:
    config = entry.metrics.get("config") or {}
    return {
        "rank": entry.rank,
        "score": entry.score,
        "evaluation": str(entry.path),
        "model": config.get("model"),
        "model_digest": entry.metrics.get("model_digest"),
        "decoder": entry.decoder,
        "training_hours": entry.training_hours,
        **{name: asdict(rate) for name, rate in entry.rates.items()},
        "languages": {name: asdict(rate) for name, rate in entry.languages.items()},
        "tests": None
        if entry.tests is None
        else {name: asdict(test) for name, test in entry.tests.items()},
    }


def _to_cells(
    number: int, board: Leaderboard, entry: Entry, languages: Sequence[str], rank_by: str
) -> list[object]:
    config = entry.metrics.get("config") or {}
    cells: list[object] = [number, board.name, board.normalizer, entry.rank, entry.path]
    cells += [config.get("model"), entry.decoder, entry.training_hours, entry.score]
    for rate in entry.rates.values():
        cells += [rate.rate, rate.low, rate.high]
    cells += [board.unit, board.reference]
    test = entry.tests[rank_by] if entry.tests else None
    cells += [test.difference, test.low, test.high, test.p_value] if test else [None] * 4
    return cells + [
        entry.languages[name].rate if name in entry.languages else None for name in languages
    ]
