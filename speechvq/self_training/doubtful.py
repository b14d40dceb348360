"""Doubtful segments for people: a page with players and fields, and the same as a table.

First come segments of which a second of listening mends the most letters: those expected to be
wrong, over the length. What people save is read back with `corrections=FILE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from speechvq.data.index import CorpusIndex
from speechvq.data.label_tables import write_label_table
from speechvq.data.rows import RowReader
from speechvq.languages import parse_language
from speechvq.reporting.page import EditorEntry, Page
from speechvq.self_training.config import SelfTrainConfig
from speechvq.self_training.selection import Decision

TABLE = "doubtful.tsv"
PAGE = "doubtful.html"
_COLUMNS = (
    "id", "text", "checked", "seconds", "reason", "confidence", "agreement", "second_text",
)  # fmt: skip


def sort_doubtful(decisions: Sequence[Decision]) -> list[Decision]:
    """Return the segments whose labels are not kept, the most useful to correct first."""
    doubtful = [one for one in decisions if not one.is_kept]
    return sorted(doubtful, key=lambda one: (-_expect_errors(one), one.recognition.id))


def _expect_errors(one: Decision) -> float:
    """Return letters that are probably wrong, a second of audio."""
    return (1 - one.recognition.confidence) * one.letters_per_second


def write_doubtful(
    directory: Path,
    decisions: Sequence[Decision],
    index: CorpusIndex,
    config: SelfTrainConfig,
    number: int,
) -> None:
    """Write the page and the table.

    Args:
        directory: Where to.
        decisions: Of all segments.
        index: The segments.
        config: How many, and how much audio.
        number: The round.
    """
    doubtful = sort_doubtful(decisions)
    write_label_table(directory / TABLE, _COLUMNS, [_to_row(one) for one in doubtful])
    entries = _create_entries(doubtful, index, config)
    parsed = parse_language(config.code)
    page = Page(
        f"Doubtful segments of {parsed.name}",
        f"{len(entries):,} of {len(doubtful):,} that round {number} of self-training left out, "
        "those first of which listening mends the most",
    )
    page.add_paragraph(
        "Listen, put the text right, and press Enter; a text that is right already needs Enter "
        "only. Leave a field empty, and checked, where nobody could understand the segment. Only "
        "what is checked is saved. What you type is kept in this browser until you save it."
    )
    page.add_paragraph(
        "Then start self-training again, with another output: speechvq self_train … "
        "corrections=corrections.tsv"
    )
    page.add_editor(
        entries,
        file_name="corrections.tsv",
        stamp=f"{Path(config.output).name} {config.code} round {number}",
        language=parsed.alias,
    )
    page.write(directory / PAGE)


def _create_entries(
    doubtful: Sequence[Decision], index: CorpusIndex, config: SelfTrainConfig
) -> list[EditorEntry]:
    positions = {name: row for row, name in enumerate(index.ids)}
    rows = RowReader(index, capacity=4)
    left = config.doubtful_megabytes * 1e6
    entries: list[EditorEntry] = []
    for one in doubtful:
        if len(entries) == config.num_doubtful:
            break
        found = one.recognition
        audio = rows.read_flac(positions[found.id])
        left -= len(audio)
        if left < 0:
            break
        note = (
            f"{one.seconds:.1f} s · {one.reason} · confidence {100 * found.confidence:.0f} %, "
            f"agreement {100 * one.agreement:.0f} %"
        )
        second = found.second_text or ""
        entries.append(
            EditorEntry(
                id=found.id,
                text=found.text,
                audio=audio,
                note=note,
                second_text="" if second == found.text else second,
            )
        )
    return entries


def _to_row(one: Decision) -> list[object]:
    found = one.recognition
    return [
        found.id, found.text, "", f"{one.seconds:.2f}", str(one.reason), f"{found.confidence:.3f}",
        f"{one.agreement:.3f}", found.second_text or "",
    ]  # fmt: skip
