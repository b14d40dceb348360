"""Praat's TextGrid as text, long or short.

Praat reads numbers, quoted strings and flags that stand free, in order, and takes everything else
for comment; so both forms are one sequence of values. Standing: `speechvq.data.labels` opens the
files.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from speechvq.data.timed_label import Label, LabelError
from speechvq.errors import DataError

_VALUE = re.compile(
    r'"(?P<text>(?:[^"]|"")*)"|(?P<open>")|(?<!\S)(?P<number>-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(?!\S)'
    r"|(?P<flag><exists>|<absent>)|(?<!\S)!.*"
)
_MAX_TIERS = 10_000


class _Values:
    """The values of a file, in order, with their lines."""

    def __init__(self, text: str, path: Path) -> None:
        self._text, self._path = text, path
        self._matches = _VALUE.finditer(text)
        self._position = 0

    def fail(self, problem: str) -> LabelError:
        line = self._text.count("\n", 0, self._position) + 1
        return LabelError(self._path, line, problem)

    def _next(self, kind: str, wanted: str) -> str:
        for match in self._matches:
            self._position = match.start()
            if match.lastgroup == "open":
                raise self.fail("a quotation mark is not closed")
            if match.lastgroup == kind:
                return str(match[kind])
            if match.lastgroup is not None:
                raise self.fail(f"{wanted} must stand here, but {match[0][:40]!r} does")
        self._position = len(self._text)
        raise self.fail(f"the file ends where {wanted} must stand")

    def text(self, wanted: str) -> str:
        return self._next("text", wanted).replace('""', '"')

    def number(self, wanted: str) -> float:
        return float(self._next("number", wanted))

    def flag(self) -> str:
        return self._next("flag", "`<exists>`")

    def count(self, wanted: str) -> int:
        value = self.number(wanted)
        if value != int(value) or value < 0:
            raise self.fail(f"{wanted} must be a whole number, but is {value:g}")
        return int(value)


def parse_textgrid(text: str, path: Path) -> list[Label]:
    """Parses a TextGrid.

    Args:
        text: The file's text.
        path: The file, for messages; its stem is the recording.

    Returns:
        Labels tier by tier; intervals without text are left out, points begin and end at once.

    Raises:
        LabelError: If the file is no TextGrid, or its times do not fit together.
    """
    values = _Values(text, path)
    if values.text("the kind of file") not in ("ooTextFile", "ooTextFile short"):
        raise values.fail("the file must begin with `ooTextFile`")
    if values.text("the kind of object") != "TextGrid":
        raise values.fail("the object must be a TextGrid")
    first, last = values.number("the begin"), values.number("the end")
    if last < first:
        raise values.fail(f"the end ({last:g} s) lies before the begin ({first:g} s)")
    if values.flag() == "<absent>":
        return []
    labels: list[Label] = []
    num_tiers = values.count("the number of tiers")
    if num_tiers > _MAX_TIERS:
        raise values.fail(f"at most {_MAX_TIERS} tiers are read, but there are {num_tiers}")
    for _ in range(num_tiers):
        kind, name = values.text("the kind of a tier"), values.text("a tier's name")
        values.number("a tier's begin")
        values.number("a tier's end")
        num_labels = values.count("the number of labels")
        if kind not in ("IntervalTier", "TextTier"):
            raise values.fail(f"a tier must be an IntervalTier or a TextTier, but is {kind!r}")
        before = 0.0
        for _ in range(num_labels):
            begin = values.number("a time")
            end = values.number("a time") if kind == "IntervalTier" else begin
            if begin < before - 1e-6 or end < begin:
                raise values.fail(f"{begin:g} to {end:g} s does not follow {before:g} s")
            before = end
            label = values.text("a label")
            if label.strip():
                labels.append(
                    Label(
                        recording=path.stem,
                        tier=name,
                        text=label,
                        begin_seconds=begin,
                        end_seconds=end,
                    )
                )
    return labels


def format_textgrid(labels: Sequence[Label], num_seconds: float | None) -> str:
    """Formats labels of one recording as a TextGrid of the long form.

    Args:
        labels: What to write; each tier in order of time, gaps become empty intervals.
        num_seconds: Length of the recording; None for the end of the last label.

    Raises:
        DataError: If labels of a tier overlap, or stand in several recordings.
    """
    if len({label.recording for label in labels}) > 1:
        raise DataError("A TextGrid holds labels of one recording; write one file for each.")
    end = max((label.end_seconds for label in labels), default=0.0)
    if num_seconds is not None and num_seconds < end - 1e-6:
        raise DataError(f"The last label ends at {end:g} s, after the recording ({num_seconds:g}).")
    end = max(end, num_seconds or 0.0)
    tiers: dict[str, list[Label]] = defaultdict(list)
    for label in labels:
        tiers[label.tier].append(label)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += [f"xmin = {0:.6f}", f"xmax = {end:.6f}", "tiers? <exists>", f"size = {len(tiers)}"]
    lines.append("item []:")
    for index, (name, members) in enumerate(tiers.items(), 1):
        lines += [f"    item [{index}]:", *_format_tier(name, members, end)]
    return "\n".join(lines) + "\n"


def _format_tier(name: str, labels: Sequence[Label], end: float) -> list[str]:
    ordered = sorted(labels, key=lambda label: label.begin_seconds)
    if all(label.begin_seconds == label.end_seconds for label in ordered):
        kind, word = "TextTier", "points"
        entries = [
            [f"number = {label.begin_seconds:.6f}", f"mark = {_quote(label.text)}"]
            for label in ordered
        ]
    else:
        kind, word = "IntervalTier", "intervals"
        entries = _format_intervals(ordered, end)
    lines = [f'        class = "{kind}"', f"        name = {_quote(name)}"]
    lines += [f"        xmin = {0:.6f}", f"        xmax = {end:.6f}"]
    lines.append(f"        {word}: size = {len(entries)}")
    for index, entry in enumerate(entries, 1):
        lines.append(f"        {word} [{index}]:")
        lines += [f"            {line}" for line in entry]
    return lines


def _format_intervals(labels: Sequence[Label], end: float) -> list[list[str]]:
    entries = []
    before = 0.0
    for label in labels:
        if label.begin_seconds < before - 1e-6:
            raise DataError(
                f"Labels of a tier must not overlap, but {label.text!r} begins at"
                f" {label.begin_seconds:g} s, before {before:g} s."
            )
        if label.begin_seconds > before + 1e-6:
            entries.append(_format_interval(before, label.begin_seconds, ""))
        entries.append(_format_interval(label.begin_seconds, label.end_seconds, label.text))
        before = label.end_seconds
    if end > before + 1e-6:
        entries.append(_format_interval(before, end, ""))
    return entries


def _format_interval(begin: float, end: float, text: str) -> list[str]:
    return [f"xmin = {begin:.6f}", f"xmax = {end:.6f}", f"text = {_quote(text)}"]


def _quote(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
