"""Phones from files: TextGrid, CTM and tables, matched with the utterances of a corpus.

A label belongs to the utterance whose id, path or file name (with or without its suffix) is the
label's recording; times count from the begin of that file. Everything that does not fit is counted
and named.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from speechvq.analysis.phone_intervals import PhoneInterval, name_phone
from speechvq.data.audio import Waveform
from speechvq.data.labels import read_labels
from speechvq.data.records import SAMPLE_RATE, Utterance
from speechvq.data.timed_label import Label
from speechvq.errors import DataError

_TOLERANCE_SECONDS = 0.05
"""Alignments may end so much after the audio: a frame and the rounding of times."""
_NUM_NAMED = 5
_PHONE_TIERS = ("phones", "phone", "segments")


@dataclass
class AlignmentCounts:
    """How files and corpus fit together.

    Attributes:
        num_labels: Intervals in the files.
        num_utterances: Utterances that were asked for and found.
        num_unaligned: Utterances that no file names.
        num_outside: Intervals of found utterances that begin or end outside of the audio.
        outside: Some of them, as sentences.
    """

    num_labels: int = 0
    num_utterances: int = 0
    num_unaligned: int = 0
    num_outside: int = 0
    outside: list[str] = field(default_factory=list)

    def to_json(self, num_unmatched: int) -> dict[str, Any]:
        """Returns the counts as JSON values."""
        return {
            "labels": self.num_labels,
            "utterances": self.num_utterances,
            "utterances_without_phones": self.num_unaligned,
            "recordings_without_utterance": num_unmatched,
            "labels_outside_audio": self.num_outside,
            "examples_outside_audio": self.outside,
        }


class AlignmentFiles:
    """Phones of all utterances that some files name.

    Args:
        labels: Of one tier; recordings in any order.
        phone_map: (phone, language or "") → IPA, see `read_phone_map`.
        shift_seconds: Added to all times.
    """

    def __init__(
        self,
        labels: Iterable[Label],
        phone_map: dict[tuple[str, str], str] | None = None,
        *,
        shift_seconds: float = 0.0,
    ) -> None:
        self._map = phone_map or {}
        self._recordings: dict[str, list[tuple[float, float, str]]] = {}
        self._users: dict[str, str] = {}
        self.counts = AlignmentCounts()
        for label in labels:
            self.counts.num_labels += 1
            begin, end = label.begin_seconds + shift_seconds, label.end_seconds + shift_seconds
            interval = (begin, end, label.text)
            self._recordings.setdefault(label.recording, []).append(interval)
        for intervals in self._recordings.values():
            intervals.sort(key=lambda one: one[0])

    @property
    def num_unmatched(self) -> int:
        """Recordings in the files that no utterance has asked for so far."""
        return len(self._recordings) - len(self._users)

    def find(self, utterance: Utterance, waveform: Waveform) -> list[PhoneInterval] | None:
        """See `PhoneSource.find`.

        Raises:
            DataError: Two files of the corpus have the one name that the labels have.
        """
        key = next((name for name in _list_names(utterance) if name in self._recordings), None)
        if key is None:
            self.counts.num_unaligned += 1
            return None
        file = f"{utterance.source}/{utterance.path}"
        if self._users.setdefault(key, file) != file:
            raise DataError(
                f"The alignments of {key!r} fit two files of the corpus, {self._users[key]} and "
                f"{file}: name the recordings of the alignments by their paths in a .tsv."
            )
        self.counts.num_utterances += 1
        num_seconds = len(waveform) / SAMPLE_RATE
        is_whole = utterance.start_seconds == 0 and "#" not in utterance.id
        found = []
        for begin, end, text in self._recordings[key]:
            begin, end = begin - utterance.start_seconds, end - utterance.start_seconds
            if is_whole and end > num_seconds + _TOLERANCE_SECONDS:
                self._note_outside(utterance, text, begin, end, num_seconds)
            if end > 0 and begin < num_seconds:
                found.append(PhoneInterval(self._name(text, utterance.language), begin, end))
        return found

    def _name(self, text: str, language: str) -> str | None:
        label = text.strip()
        mapped = self._map.get((label, language), self._map.get((label, "")))
        return name_phone(label if mapped is None else mapped)

    def _note_outside(
        self, utterance: Utterance, text: str, begin: float, end: float, num_seconds: float
    ) -> None:
        self.counts.num_outside += 1
        if len(self.counts.outside) < _NUM_NAMED:
            self.counts.outside.append(
                f"{utterance.id}: {text!r} from {begin:.3f} to {end:.3f} s, but the audio ends at "
                f"{num_seconds:.3f} s"
            )


def _list_names(utterance: Utterance) -> list[str]:
    path = PurePosixPath(utterance.path or utterance.id.split("#")[0])
    names = [utterance.id, str(path), f"{utterance.source}/{path}", str(path.with_suffix(""))]
    return [*names, path.name, path.stem, *([utterance.recording] * bool(utterance.recording))]


def load_alignments(
    paths: Sequence[str],
    *,
    tier: str | None = None,
    phone_map: str | None = None,
    shift_seconds: float = 0.0,
) -> AlignmentFiles:
    """Reads files of phones.

    Args:
        paths: Files, or directories whose TextGrids, tables and CTMs are all read.
        tier: Name of the tier; None: the only one of a file, or the one named phones.
        phone_map: Table that renames phones.
        shift_seconds: Added to all times.

    Raises:
        DataError: A file cannot be read, or has no such tier.
    """
    files = [file for path in paths for file in _list_files(Path(path))]
    if not files:
        raise DataError(f"`alignments` names no .tsv, .TextGrid or .ctm file: {', '.join(paths)}.")
    names = {} if phone_map is None else read_phone_map(Path(phone_map))
    labels = (label for file in files for label in _choose_tier(read_labels(file), file, tier))
    return AlignmentFiles(labels, names, shift_seconds=shift_seconds)


def _list_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    suffixes = (".textgrid", ".ctm", ".tsv")
    return sorted(one for one in path.rglob("*") if one.suffix.lower() in suffixes)


def _choose_tier(labels: list[Label], file: Path, tier: str | None) -> list[Label]:
    tiers = list(dict.fromkeys(label.tier for label in labels))
    if tier is not None:
        chosen = tier if tier in tiers or not tiers else None
    elif len(tiers) <= 1:
        chosen = tiers[0] if tiers else ""
    else:
        chosen = next((name for name in tiers if name.casefold() in _PHONE_TIERS), None)
    if chosen is None:
        raise DataError(
            f"{file} has the tiers {', '.join(map(repr, tiers))}; "
            f"{f'`tier` is {tier!r}' if tier else 'say with `tier=` which one has the phones'}."
        )
    return [label for label in labels if label.tier == chosen]


def read_phone_map(path: Path) -> dict[tuple[str, str], str]:
    """Reads a table of names of phones.

    Args:
        path: Tabs between the columns `phone`, `ipa` and maybe `language` (empty: all languages).

    Returns:
        IPA by (phone, language), the language "" for all.

    Raises:
        DataError: It cannot be read, or lacks a column; names the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from None
    rows = csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    if not {"phone", "ipa"} <= set(rows.fieldnames or []):
        raise DataError(
            f"{path} must have the columns `phone` and `ipa`, but has "
            f"{', '.join(map(repr, rows.fieldnames or [])) or 'none'}."
        )
    names: dict[tuple[str, str], str] = {}
    for row in rows:
        phone, ipa = (row["phone"] or "").strip(), (row["ipa"] or "").strip()
        key = (phone, (row.get("language") or "").strip())
        if not phone or names.setdefault(key, ipa) != ipa:
            raise DataError(
                f"{path}, line {rows.line_num}: "
                f"{f'{phone!r} has two names' if phone else 'the phone is empty'}."
            )
    return names
