"""Codes by utterance and phone: the sparse table that all statistics of sharing are made from.

Frames come in as columns of the code table, in pieces if they are many; what stays in memory is one
number for each utterance, phone and code that met. Utterances are then put together to *units*, the
things that are drawn, split and permuted as a whole: speakers where enough of them are named,
utterances otherwise (frames of an utterance are too alike to count as independent).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from speechvq.decoding.bootstrap import BootstrapUnit, number_speakers

UNKNOWN = ""
"""Phone of a frame without alignment, and speaker of an utterance without one."""
SILENCE = "sil"
MAX_UNITS = 200
"""Units of a language; beyond, utterances are put together at random (method of random groups)."""
IntArray = NDArray[np.int64]
StringArray = NDArray[np.str_]


@dataclass(frozen=True, kw_only=True)
class CodeCounts:
    """How often each code stood on each phone of each utterance, for one codebook or for all.

    Attributes:
        utterances: (U,) ids.
        languages: (U,) `hin_Deva`.
        speakers: (U,) "" where it is not known.
        sources: (U,) where the recording is from.
        phones: (P,) names; `UNKNOWN` and `SILENCE` are among them if they occur.
        codes: (C, G) the codes (with several codebooks: their combinations) that occur.
        cells: (E, 3) utterance, phone and code by place in the arrays above; no cell twice.
        counts: (E,) frames of each cell, at least 1.
    """

    utterances: StringArray
    languages: StringArray
    speakers: StringArray
    sources: StringArray
    phones: StringArray
    codes: IntArray
    cells: IntArray
    counts: IntArray

    def select(self, keep: NDArray[np.bool_]) -> CodeCounts:
        """Returns the table of some utterances; phones and codes keep their places.

        Args:
            keep: (U,) which.
        """
        places = np.cumsum(keep) - 1
        kept = keep[self.cells[:, 0]]
        cells = self.cells[kept].copy()
        cells[:, 0] = places[cells[:, 0]]
        return replace(
            self,
            utterances=self.utterances[keep],
            languages=self.languages[keep],
            speakers=self.speakers[keep],
            sources=self.sources[keep],
            cells=cells,
            counts=self.counts[kept],
        )

    def sum_by(self, rows: ArrayLike, num_rows: int, phones: Sequence[str]) -> NDArray[np.float32]:
        """Adds utterances up to rows.

        Args:
            rows: (U,) row of each utterance; negative leaves it out.
            num_rows: K.
            phones: P names; others are left out.

        Returns:
            (K, P, C) frames.
        """
        places = {name: place for place, name in enumerate(phones)}
        phone_rows = np.array([places.get(name, -1) for name in self.phones.tolist()] or [-1])
        row = np.asarray(rows, dtype=np.int64)[self.cells[:, 0]]
        phone = phone_rows[self.cells[:, 1]]
        kept = (row >= 0) & (phone >= 0)
        shape = (num_rows, len(phones), len(self.codes))
        flat = np.ravel_multi_index((row[kept], phone[kept], self.cells[kept, 2]), shape)
        total = int(np.prod(shape))
        sums = np.bincount(flat, weights=self.counts[kept], minlength=total)
        return sums.reshape(shape).astype(np.float32)

    def sum_codes(self) -> NDArray[np.float32]:
        """Returns (U, C) frames of each code in each utterance, over all phones."""
        shape = (len(self.utterances), len(self.codes))
        flat = np.ravel_multi_index((self.cells[:, 0], self.cells[:, 2]), shape)
        sums = np.bincount(flat, weights=self.counts, minlength=int(np.prod(shape)))
        return sums.reshape(shape).astype(np.float32)


def count_codes(
    *,
    utterance: ArrayLike,
    language: ArrayLike,
    speaker: ArrayLike,
    source: ArrayLike,
    phone: ArrayLike,
    codes: ArrayLike,
) -> CodeCounts:
    """Counts frames by utterance, phone and code.

    Args:
        utterance: (N,) strings, one a frame; an id belongs to one utterance of the whole table.
        language: (N,) strings.
        speaker: (N,) strings; None or "" where it is not known.
        source: (N,) strings.
        phone: (N,) strings; None or "" where it is not known.
        codes: (N,) integers of one codebook, or (N, G): then their combinations are counted.

    Raises:
        ValueError: Columns differ in length, or there is no frame.
    """
    names = [_to_strings(column) for column in (utterance, language, speaker, source, phone)]
    numbers = np.asarray(codes)
    numbers = numbers.reshape(len(numbers), -1).astype(np.int64)  # (N, G)
    lengths = {len(column) for column in names} | {len(numbers)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"All columns must have one value a frame and at least one frame: {sorted(lengths)}."
        )
    utterances, first_frame, rows = np.unique(names[0], return_index=True, return_inverse=True)
    phones, phone_rows = np.unique(names[4], return_inverse=True)
    used, code_rows = np.unique(numbers, axis=0, return_inverse=True)
    shape = (len(utterances), len(phones), len(used))
    flat = np.ravel_multi_index((rows, phone_rows, code_rows.reshape(-1)), shape)
    places, counts = np.unique(flat, return_counts=True)
    return CodeCounts(
        utterances=utterances,
        languages=names[1][first_frame],
        speakers=names[2][first_frame],
        sources=names[3][first_frame],
        phones=phones,
        codes=used,
        cells=np.stack(np.unravel_index(places, shape), axis=1).astype(np.int64),
        counts=counts.astype(np.int64),
    )


def count_tables(tables: Iterable[pa.Table], code_columns: Sequence[str]) -> CodeCounts:
    """Counts the frames of a code table that comes in pieces.

    Args:
        tables: With the columns utterance, language, speaker, source, phone and those of codes; cut
            anywhere.
        code_columns: Which codes: `group_0`, or several for their combinations.

    Raises:
        ValueError: There is no frame.
    """
    parts = []
    for table in tables:
        if table.num_rows:
            names = ("utterance", "language", "speaker", "source", "phone")
            columns = {name: table.column(name).to_numpy() for name in names}
            codes = np.stack([table.column(name).to_numpy() for name in code_columns], axis=1)
            parts.append(count_codes(**columns, codes=codes))
    return merge_counts(parts)


def merge_counts(parts: Sequence[CodeCounts]) -> CodeCounts:
    """Puts tables together, as when a file is read in pieces.

    Args:
        parts: At least one; an utterance may stand in several, and then belongs together.

    Raises:
        ValueError: There is none.
    """
    if not parts:
        raise ValueError("There is no frame to be counted.")
    utterances, first_place = np.unique(
        np.concatenate([part.utterances for part in parts]), return_index=True
    )
    phones = np.unique(np.concatenate([part.phones for part in parts]))
    codes = np.unique(np.concatenate([part.codes for part in parts]), axis=0)
    code_places = {tuple(code): place for place, code in enumerate(codes.tolist())}
    cells = []
    for part in parts:
        code_rows = np.array([code_places[tuple(code)] for code in part.codes.tolist()])
        utterance, phone, code = part.cells.T
        cells.append(
            np.stack(
                [
                    np.searchsorted(utterances, part.utterances)[utterance],
                    np.searchsorted(phones, part.phones)[phone],
                    code_rows[code],
                ],
                axis=1,
            )
        )
    shape = (len(utterances), len(phones), len(codes))
    flat = np.ravel_multi_index(tuple(np.concatenate(cells).T), shape)
    places, inverse = np.unique(flat, return_inverse=True)
    counts = np.concatenate([part.counts for part in parts])
    languages, speakers, sources = (
        np.concatenate(columns)[first_place]
        for columns in zip(
            *((part.languages, part.speakers, part.sources) for part in parts), strict=True
        )
    )
    return CodeCounts(
        utterances=utterances,
        languages=languages,
        speakers=speakers,
        sources=sources,
        phones=phones,
        codes=codes,
        cells=np.stack(np.unravel_index(places, shape), axis=1).astype(np.int64),
        counts=np.bincount(inverse, weights=counts).astype(np.int64),
    )


def choose_unit(counts: CodeCounts, languages: Sequence[str]) -> BootstrapUnit:
    """Returns what is drawn as a whole: speakers where each language has enough, all named
    (`speechvq.decoding.bootstrap.MIN_SPEAKERS`), else utterances.

    Args:
        counts: The table.
        languages: Those that are compared.
    """
    for language in languages:
        if number_speakers(counts.speakers[counts.languages == language].tolist()) is None:
            return BootstrapUnit.UTTERANCE
    return BootstrapUnit.SPEAKER


def form_units(
    counts: CodeCounts, language: str, unit: BootstrapUnit
) -> tuple[IntArray, StringArray]:
    """Deals the utterances of a language to units.

    Args:
        counts: The table.
        language: Whose utterances.
        unit: Speakers or utterances. Beyond `MAX_UNITS` they are put together at random, the same
            ones in every language.

    Returns:
        (U,) unit of each utterance, -1 for other languages; and (K,) names of the units, which are
        equal where the same people speak two languages.
    """
    inside = counts.languages == language
    names = counts.speakers if unit is BootstrapUnit.SPEAKER else counts.utterances
    found, numbers = np.unique(names[inside], return_inverse=True)
    if len(found) > MAX_UNITS:
        everybody = np.unique(names)
        groups = np.random.default_rng(0).permutation(len(everybody)) % MAX_UNITS
        joined = groups[np.searchsorted(everybody, found)][numbers].astype(str)
        found, numbers = np.unique(joined, return_inverse=True)
    units = np.full(len(counts.utterances), -1, dtype=np.int64)
    units[inside] = numbers
    return units, found


def match_units(first: StringArray, second: StringArray) -> tuple[IntArray, IntArray, int]:
    """Puts the units that two languages have in common first, in one order.

    Args:
        first: (K,) names of the units of one language.
        second: (K',) names of those of another.

    Returns:
        Orders (K,) and (K',), and how many units are in common.
    """
    common = np.intersect1d(first, second)
    orders = [np.argsort(~np.isin(names, common), kind="stable") for names in (first, second)]
    return orders[0], orders[1], len(common)


def _to_strings(column: ArrayLike) -> StringArray:
    values = np.asarray(column)
    if values.dtype.kind == "O":
        values = np.array([UNKNOWN if value is None else str(value) for value in values.tolist()])
    return values.astype(np.str_)
