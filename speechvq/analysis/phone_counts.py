"""How often each phone meets each code, counted over a code table a row group at a time.

What stays in memory is one number for each utterance, phone and code that met.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from speechvq.analysis.code_table import SILENCE, CodeTable
from speechvq.analysis.phones import compute_pnmi

MIN_SPEAKERS = 5
"""With fewer speakers an interval is drawn over utterances."""


@dataclass(frozen=True, kw_only=True)
class PhoneCounts:
    """Counts of phones and codes, and who they come from.

    Attributes:
        phones: P names, the most frequent first.
        codes: (V, G) the codes, or combinations of codes, that occur with a phone, in order.
        counts: (P, V) frames.
        units: (N,) which speaker or utterance an entry of `pairs` comes from.
        pairs: (N,) phone · V + code.
        frames: (N,) frames of that pair from that unit.
        unit: "speaker" or "utterance": what is drawn for intervals.
        num_units: How many there are.
    """

    phones: tuple[str, ...]
    codes: NDArray[np.int64]
    counts: NDArray[np.int64]
    units: NDArray[np.int64]
    pairs: NDArray[np.int64]
    frames: NDArray[np.int64]
    unit: str
    num_units: int

    @property
    def num_frames(self) -> int:
        """Frames that have a phone."""
        return int(self.counts.sum())

    def without_silence(self) -> PhoneCounts:
        """Returns the same without the phone `sil`."""
        keep = np.array([phone != SILENCE for phone in self.phones], dtype=bool)
        return self.keep_phones(keep)

    def keep_phones(self, keep: NDArray[np.bool_]) -> PhoneCounts:
        """Returns the same with some phones only.

        Args:
            keep: (P,).
        """
        num_codes = len(self.codes)
        renumber = np.cumsum(keep) - 1
        phone, code = np.divmod(self.pairs, max(1, num_codes))
        rows = keep[phone]
        return PhoneCounts(
            phones=tuple(p for p, kept in zip(self.phones, keep, strict=True) if kept),
            codes=self.codes,
            counts=self.counts[keep],
            units=self.units[rows],
            pairs=renumber[phone[rows]] * num_codes + code[rows],
            frames=self.frames[rows],
            unit=self.unit,
            num_units=self.num_units,
        )


def count_phones(
    table: CodeTable, columns: Sequence[str], *, languages: Sequence[str] | None = None
) -> PhoneCounts | None:
    """Counts phones and codes.

    Args:
        table: The code table.
        columns: Columns of codes; of several, their combination is counted.
        languages: Only these; None for all.

    Returns:
        The counts, or None where no frame has a phone.
    """
    phones: dict[str, int] = {}
    codes: dict[tuple[int, ...], int] = {}
    speakers: dict[str | None, int] = {}
    speaker_of: list[int] = []
    keys: list[NDArray[np.int64]] = []
    names = ["utterance", "language", "speaker", "phone", *columns]
    for part in table.read(names):
        part = _select(part, languages)
        if not len(part):
            continue
        texts, phone = _number(part["phone"])
        phone = np.array([phones.setdefault(t, len(phones)) for t in texts], np.int64)[phone]
        rows = np.stack([part[name].to_numpy() for name in columns], axis=1)
        used, code = np.unique(rows, axis=0, return_inverse=True)
        numbers = [codes.setdefault(tuple(row), len(codes)) for row in used.tolist()]
        code = np.array(numbers, np.int64)[code.reshape(-1)]
        utterances, unit = _number(part["utterance"])
        first = np.unique(unit, return_index=True)[1]
        unit = unit + len(speaker_of)
        for place in first.tolist():
            name = part["speaker"][place].as_py()
            speaker_of.append(speakers.setdefault(name, len(speakers)))
        assert len(utterances) == len(first)
        triples, frames = np.unique(
            np.stack([unit, phone, code], axis=1), axis=0, return_counts=True
        )
        keys.append(np.column_stack([triples, frames]))
    if not keys:
        return None
    return _assemble(np.concatenate(keys), phones, codes, speakers, np.array(speaker_of, np.int64))


def has_more_combinations(table: CodeTable, columns: Sequence[str], limit: int) -> bool:
    """Whether more different combinations of codes occur than are to be counted.

    Args:
        table: The code table.
        columns: Columns of codes.
        limit: How many may be.
    """
    found: set[tuple[int, ...]] = set()
    for part in table.read(columns):
        rows = np.stack([part[name].to_numpy() for name in columns], axis=1)
        found.update(map(tuple, np.unique(rows, axis=0).tolist()))
        if len(found) > limit:
            return True
    return False


def _assemble(
    keys: NDArray[np.int64],
    phones: dict[str, int],
    codes: dict[tuple[int, ...], int],
    speakers: dict[str | None, int],
    speaker_of: NDArray[np.int64],
) -> PhoneCounts:
    """Sorts phones by frequency and codes by number; chooses what is drawn for intervals."""
    unit, phone, code, frames = keys.T
    totals = np.bincount(phone, weights=frames, minlength=len(phones))
    names = list(phones)
    by_frequency = sorted(range(len(names)), key=lambda place: (-totals[place], names[place]))
    all_codes = np.array(list(codes), dtype=np.int64)  # (V, G)
    by_number = np.lexsort(all_codes.T[::-1])
    phone = np.argsort(np.array(by_frequency))[phone]
    code = np.argsort(by_number)[code]
    by_speaker = len(speakers) >= MIN_SPEAKERS and None not in speakers
    if by_speaker:
        unit = speaker_of[unit]
    pairs = phone * len(all_codes) + code
    num_pairs = len(names) * len(all_codes)
    unique, inverse = np.unique(unit * num_pairs + pairs, return_inverse=True)
    summed = np.bincount(inverse, weights=frames).astype(np.int64)
    counts = np.bincount(pairs, weights=frames, minlength=num_pairs)
    return PhoneCounts(
        phones=tuple(names[place] for place in by_frequency),
        codes=all_codes[by_number],
        counts=counts.reshape(len(names), len(all_codes)).astype(np.int64),
        units=unique // num_pairs,
        pairs=unique % num_pairs,
        frames=summed,
        unit="speaker" if by_speaker else "utterance",
        num_units=len(speakers) if by_speaker else len(speaker_of),
    )


def _select(part: pa.Table, languages: Sequence[str] | None) -> pa.Table:
    import pyarrow.compute as pc

    keep = pc.is_valid(part["phone"])
    if languages is not None:
        keep = pc.and_(keep, pc.is_in(part["language"], pa.array(list(languages))))
    return part.filter(keep)


def _number(column: pa.ChunkedArray) -> tuple[list[str], NDArray[np.int64]]:
    """The different texts of a column in order of appearance, and each row's place among them."""
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


def compute_shift_curve(
    table: CodeTable, columns: Sequence[str], shifts: Sequence[int]
) -> list[float]:
    """PNMI when phones are moved against codes, within utterances.

    Where frames and alignments fit together, it is largest at 0.

    Args:
        table: The code table.
        columns: Columns of codes; the mean over them is taken.
        shifts: Frames; at +1 each code meets the phone of the frame after it.

    Returns:
        PNMI at each shift, NaN where no frame has a phone.
    """
    counts: list[list[dict[tuple[str, int], int]]] = [[{} for _ in columns] for _ in shifts]
    for part in table.read(["utterance", "phone", *columns]):
        _, unit = _number(part["utterance"])
        texts, phone = _number(part["phone"].fill_null(""))
        known = np.array([text != "" for text in texts], dtype=bool)[phone]
        for by_column, shift in zip(counts, shifts, strict=True):
            later = np.arange(len(unit)) + shift
            inside = (later >= 0) & (later < len(unit))
            place = np.clip(later, 0, len(unit) - 1)
            valid = inside & (unit[place] == unit) & known[place]
            for found, column in zip(by_column, columns, strict=True):
                code = part[column].to_numpy()[valid].astype(np.int64)
                both = np.stack([phone[place][valid], code], axis=1)
                for (one, other), number in zip(
                    *_count_rows(both),
                    strict=True,
                ):
                    key = (texts[one], other)
                    found[key] = found.get(key, 0) + number
    return [
        float(np.mean([_pnmi_of(found) for found in by_column])) if columns else float("nan")
        for by_column in counts
    ]


def find_peak(places: Sequence[int], values: Sequence[float]) -> float:
    """Returns where a curve has its top: that of the parabola through its highest three points.

    Args:
        places: Evenly spaced.
        values: One each, some of them finite.
    """
    top = int(np.nanargmax(values))
    if not 0 < top < len(values) - 1:
        return float(places[top])
    left, middle, right = values[top - 1 : top + 2]
    bend = left - 2 * middle + right
    shift = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return places[top] + shift * (places[1] - places[0])


def _count_rows(rows: NDArray[np.int64]) -> tuple[list[tuple[int, int]], list[int]]:
    unique, numbers = np.unique(rows, axis=0, return_counts=True)
    return [(int(a), int(b)) for a, b in unique], numbers.tolist()


def _pnmi_of(counts: dict[tuple[str, int], int]) -> float:
    if not counts:
        return float("nan")
    phones = {name: place for place, name in enumerate(sorted({p for p, _ in counts}))}
    codes = {code: place for place, code in enumerate(sorted({c for _, c in counts}))}
    table = np.zeros((len(phones), len(codes)), dtype=np.int64)
    for (phone, code), number in counts.items():
        table[phones[phone], codes[code]] = number
    return compute_pnmi(table)
