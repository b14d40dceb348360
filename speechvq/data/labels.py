"""Labels with times, of phones, words or speakers: TextGrid, CTM, RTTM and tables of phones.

`read_labels` and `write_labels` choose by the suffix. What is written is read back to the same
labels, to the microsecond. Bad input is refused by file and line. Formats after the Praat manual
("TextGrid file formats"), NIST's sclite manual (CTM) and NIST's RT-09 plan (RTTM).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from speechvq.data.textgrid import format_textgrid, parse_textgrid
from speechvq.data.timed_label import Label, LabelError
from speechvq.errors import DataError

LABEL_SUFFIXES = (".textgrid", ".ctm", ".rttm", ".tsv")
_TABLE_COLUMNS = (("path", "recording", "utterance"), ("phone", "word", "label", "speaker"))
_TIMES = (("start_seconds", "start", "begin_seconds"), ("end_seconds", "end"))
_RTTM_SKIPPED = frozenset(
    {"SPKR-INFO", "NOSCORE", "NO_RT_METADATA", "SEGMENT", "NON-LEX", "NON-SPEECH", "FILLER"}
    | {"EDIT", "IP", "CB", "SU", "A/P"}
)
_NOT_AVAILABLE = "<NA>"


def read_labels(path: Path | str) -> list[Label]:
    """Reads a file of labels.

    Args:
        path: A `.TextGrid` (one recording, named for the file), `.ctm`, `.rttm`, or `.tsv` with
            the columns path, phone (or word, speaker), start_seconds, end_seconds.

    Returns:
        Labels in the file's order.

    Raises:
        LabelError: If a line is bad; the message names file and line.
        DataError: If the file cannot be read, or has another suffix.
    """
    path = Path(path)
    suffix = _get_suffix(path)
    text = _read_text(path)
    if suffix == ".textgrid":
        return parse_textgrid(text, path)
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    match suffix:
        case ".ctm":
            return list(_parse_ctm(lines, path))
        case ".rttm":
            return list(_parse_rttm(lines, path))
        case _:
            return list(_parse_table(lines, path))


def write_labels(
    labels: Sequence[Label], path: Path | str, *, num_seconds: float | None = None
) -> None:
    """Writes a file of labels.

    Args:
        labels: What to write; a TextGrid holds one recording, a table one tier.
        path: Where to; the suffix chooses the format.
        num_seconds: Length of the recording, for a TextGrid; by default the end of the last label.

    Raises:
        DataError: If the format cannot express the labels.
    """
    path = Path(path)
    match _get_suffix(path):
        case ".textgrid":
            text = format_textgrid(labels, num_seconds)
        case ".ctm":
            text = "".join(f"{_format_ctm(label)}\n" for label in labels)
        case ".rttm":
            text = "".join(f"{_format_rttm(label)}\n" for label in labels)
        case _:
            text = _format_table(labels)
    path.write_text(text, encoding="utf-8", newline="\n")


def _get_suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in LABEL_SUFFIXES:
        raise DataError(
            f"{path}: labels are read from and written to .TextGrid, .ctm, .rttm and .tsv."
        )
    return suffix


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding).replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise LabelError(path, line, f"the text is no {encoding.removesuffix('-sig')}") from None


def _parse_ctm(lines: Iterable[tuple[int, str]], path: Path) -> Iterator[Label]:
    for number, line in lines:
        cells = line.split()
        if cells[0].startswith((";;", "#")):
            continue
        if len(cells) not in (5, 6):
            raise LabelError(
                path, number, "must be file, channel, begin, duration, word and maybe a confidence"
            )
        begin = _parse_time(cells[2], path, number)
        length = _parse_time(cells[3], path, number)
        yield Label(
            recording=cells[0],
            tier="words",
            text=cells[4],
            begin_seconds=begin,
            end_seconds=round(begin + length, 6),
            channel=cells[1],
            confidence=_parse_confidence(cells[5], path, number) if len(cells) == 6 else None,
        )


def _parse_rttm(lines: Iterable[tuple[int, str]], path: Path) -> Iterator[Label]:
    for number, line in lines:
        cells = line.split()
        if cells[0].startswith(";;") or cells[0] in _RTTM_SKIPPED:
            continue
        if cells[0] not in ("SPEAKER", "LEXEME") or len(cells) not in (9, 10):
            raise LabelError(
                path,
                number,
                "must be a type, file, channel, begin, duration, word, subtype, speaker,"
                " confidence, and maybe a look-ahead time",
            )
        begin = _parse_time(cells[3], path, number)
        length = _parse_time(cells[4], path, number)
        is_speaker = cells[0] == "SPEAKER"
        yield Label(
            recording=cells[1],
            tier="speakers" if is_speaker else "words",
            text=cells[7] if is_speaker else cells[5],
            begin_seconds=begin,
            end_seconds=round(begin + length, 6),
            channel=cells[2],
            confidence=None
            if cells[8] == _NOT_AVAILABLE
            else _parse_confidence(cells[8], path, number),
        )


def _parse_table(lines: Sequence[tuple[int, str]], path: Path) -> Iterator[Label]:
    header = [cell.strip() for cell in lines[0][1].split("\t")] if lines else []
    places = []
    for names in (*_TABLE_COLUMNS, *_TIMES):
        found = [name for name in names if name in header]
        if not found:
            raise LabelError(path, 1, f"the table must have a column {' or '.join(names)}")
        places.append(header.index(found[0]))
    tier = f"{header[places[1]]}s"
    for number, line in lines[1:]:
        cells = line.split("\t")
        if len(cells) != len(header):
            raise LabelError(path, number, f"must have {len(header)} cells, but has {len(cells)}")
        recording, text, begin, end = (cells[place].strip() for place in places)
        first = _parse_time(begin, path, number)
        last = _parse_time(end, path, number)
        if last < first:
            raise LabelError(path, number, f"the end ({end} s) lies before the begin ({begin} s)")
        yield Label(
            recording=recording, tier=tier, text=text, begin_seconds=first, end_seconds=last
        )


def _parse_time(cell: str, path: Path, number: int) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1e7:
        raise LabelError(path, number, f"a time must be seconds from 0 on, but is {cell!r}")
    return value


def _parse_confidence(cell: str, path: Path, number: int) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise LabelError(path, number, f"a confidence must be a number, but is {cell!r}")
    return value


def _format_ctm(label: Label) -> str:
    cells = (
        *(label.recording, label.channel, _format_time(label.begin_seconds)),
        *(_format_time(label.end_seconds - label.begin_seconds), label.text),
        *(() if label.confidence is None else (f"{label.confidence:g}",)),
    )
    return _join_words(cells, label)


def _format_rttm(label: Label) -> str:
    is_word = label.tier == "words"
    confidence = _NOT_AVAILABLE if label.confidence is None else f"{label.confidence:g}"
    cells = (
        *("LEXEME" if is_word else "SPEAKER", label.recording, label.channel),
        *(_format_time(label.begin_seconds), _format_time(label.end_seconds - label.begin_seconds)),
        *(label.text if is_word else _NOT_AVAILABLE, "lex" if is_word else _NOT_AVAILABLE),
        *(_NOT_AVAILABLE if is_word else label.text, confidence, _NOT_AVAILABLE),
    )
    return _join_words(cells, label)


def _format_table(labels: Sequence[Label]) -> str:
    tiers = {label.tier for label in labels} or {"phones"}
    if len(tiers) > 1:
        raise DataError(f"A table holds labels of one tier, but these are {', '.join(tiers)}.")
    column = tiers.pop().removesuffix("s")
    if column not in _TABLE_COLUMNS[1]:
        column = "label"
    rows = [f"path\t{column}\tstart_seconds\tend_seconds"]
    for label in labels:
        if re.search(r"[\t\r\n]", label.recording + label.text):
            raise DataError(f"A table cannot hold tabs or line ends: {label}.")
        times = (_format_time(label.begin_seconds), _format_time(label.end_seconds))
        rows.append("\t".join((label.recording, label.text, *times)))
    return "\n".join(rows) + "\n"


def _join_words(cells: Sequence[str], label: Label) -> str:
    if any(not cell or cell.split() != [cell] for cell in cells):
        raise DataError(f"CTM and RTTM cannot hold empty words or white space in them: {label}.")
    return " ".join(cells)


def _format_time(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".")
