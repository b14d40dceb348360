"""Puts analyses of several models side by side: numbers, differences with intervals, warnings.

PNMI, what is above chance and phone purity are compared on the same utterances of the code tables,
also at equal perplexity (`speechvq.analysis.paired_codes`). Other differences have intervals as if
the two analyses were independent: on the same speakers that is too wide rather than too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from speechvq.analysis.intervals import Estimate
from speechvq.analysis.paired_codes import CodeDifference, compare_codes
from speechvq.deploy.analysis_results import (
    BEST,
    CODES,
    Analysis,
    Measurement,
    get_adjusted,
    measure_analysis,
    read_analysis,
)
from speechvq.deploy.run_comparison import shorten_paths
from speechvq.errors import DataError

_DATA_KEYS = (
    *("corpus", "split", "language", "where", "limit", "alignments", "tier", "alignment_shift"),
    *("gaps_are_silence", "phone_map", "recognizer", "min_confidence"),
)
"""Keys that change which frames have which phones."""
_METHOD_KEYS = (
    *("seed", "min_frames", "controls", "control_size", "layers", "num_sampled_frames"),
    "num_attention_utterances",
)
"""Keys that change how something is measured."""
_PAIRED = {"PNMI": "pnmi", "above chance": "above_chance", "phone purity": "phone_purity"}
_SECTIONS = ("phones", "sharing", "layers", "attention")


@dataclass(frozen=True, kw_only=True)
class AnalysisComparison:
    """Analyses side by side.

    Attributes:
        analyses: At least two.
        reference: Place of the one that the others are compared with.
        measurements: Of each analysis.
        paired: By place, the codes of an analysis against those of the reference, which come first;
            None where the tables cannot be compared.
        warnings: What keeps numbers from being compared.
        notes: What is missing, and why.
    """

    analyses: list[Analysis]
    reference: int
    measurements: list[list[Measurement]]
    paired: dict[int, CodeDifference]
    warnings: list[str]
    notes: list[str]

    @property
    def names(self) -> list[str]:
        """What the analyses are called."""
        return [one.name for one in self.analyses]

    @property
    def others(self) -> list[int]:
        """Places of all but the reference."""
        return [place for place in range(len(self.analyses)) if place != self.reference]

    def list_keys(self, section: str) -> list[tuple[str, str, str]]:
        """Section, item and measure of all rows of a section, in order."""
        keys = [one.key for found in self.measurements for one in found if one.section == section]
        items = list(dict.fromkeys(key[1] for key in keys))
        unique = list(dict.fromkeys(keys))
        return [key for item in items for key in unique if key[1] == item]

    def find(self, place: int, key: tuple[str, str, str]) -> Measurement | None:
        """The measurement of an analysis; None where it has none."""
        return next((one for one in self.measurements[place] if one.key == key), None)

    def subtract(self, place: int, key: tuple[str, str, str]) -> Estimate | None:
        """Difference of an analysis to the reference; None where none is taken."""
        first, second = self.find(self.reference, key), self.find(place, key)
        if first is None or second is None or not second.is_compared:
            return None
        if key[:2] == (CODES, BEST):
            paired = self.paired.get(place)
            return None if paired is None else paired.own[_PAIRED[key[2]]].difference
        return _subtract(first.estimate, second.estimate)


def compare_analyses(paths: Sequence[Path], *, against: str = "first") -> AnalysisComparison:
    """Compares analyses.

    Args:
        paths: Their directories, two at least.
        against: `first`, or `best`: the one whose codes tell most about phones above chance.

    Raises:
        DataError: A file is damaged.
    """
    analyses = [
        read_analysis(path, name) for path, name in zip(paths, shorten_paths(paths), strict=True)
    ]
    reference = 0
    if against == "best":
        scores = [
            -math.inf if best is None else get_adjusted(best)
            for best in (one.find_best() for one in analyses)
        ]
        reference = scores.index(max(scores))
    warnings = find_mismatches(analyses, reference)
    notes = [
        f"{one.name} has no section on {key}: {reason}"
        for one in analyses
        for key in _SECTIONS
        if (reason := one.describe_missing(key)) is not None
    ]
    paired: dict[int, CodeDifference] = {}
    for place, other in enumerate(analyses):
        if place == reference:
            continue
        try:
            found = _pair(analyses[reference], other)
        except DataError as error:
            notes.append(f"{other.name}: no differences of codes: {error}")
            continue
        if found is None:
            warnings.append(
                f"The codes of {other.name} and {analyses[reference].name} cannot be compared: "
                "there are no utterances with phones that both have."
            )
            continue
        paired[place] = found
        warnings += _warn_pair(analyses[reference].name, other.name, found)
        if found.reason:
            notes.append(f"{other.name}: nothing at equal perplexity: {found.reason}.")
    return AnalysisComparison(
        analyses=analyses,
        reference=reference,
        measurements=[measure_analysis(one) for one in analyses],
        paired=paired,
        warnings=list(dict.fromkeys(warnings)),
        notes=notes,
    )


def find_mismatches(analyses: Sequence[Analysis], reference: int) -> list[str]:
    """Says what keeps numbers of analyses from being compared, naming the keys.

    Args:
        analyses: Two at least.
        reference: Place of the one that the others are compared with.
    """
    first = analyses[reference]
    sentences = []
    for other in (one for one in analyses if one is not first):
        for keys, meaning in (
            (_DATA_KEYS, "are not of the same speech and phones; do not compare them"),
            (_METHOD_KEYS, "were not measured in the same way"),
        ):
            different = [
                f"`{key}` ({first.config.get(key)!r}, {other.config.get(key)!r})"
                for key in keys
                if first.config.get(key) != other.config.get(key)
            ]
            if different:
                sentences.append(
                    f"Numbers of {first.name} and {other.name} {meaning}: they differ in "
                    f"{', '.join(different)}."
                )
        data = [one.get_section("data") for one in (first, other)]
        frames = [one.get("frame_milliseconds") for one in data]
        if frames[0] != frames[1]:
            sentences.append(
                f"Frames of {first.name} are {frames[0]} ms apart and those of {other.name} "
                f"{frames[1]} ms: codes and attention by frames are not on one scale."
            )
        sentences += _compare_controls(first, other)
    return sentences


def _compare_controls(first: Analysis, other: Analysis) -> list[str]:
    """On one corpus, with one seed and codebooks of one size, controls must be equal."""
    keys = (*_DATA_KEYS, "seed", "controls")
    places = [
        [
            one.get_section("data").get(key)
            for key in ("frame_milliseconds", "first_centre_milliseconds")
        ]
        for one in (first, other)
    ]
    if places[0] != places[1] or any(first.config.get(k) != other.config.get(k) for k in keys):
        return []
    sizes = [one.read_quantizer() for one in (first, other)]
    if sizes[0] is None or sizes[1] is None or sizes[0][1:] != sizes[1][1:]:
        return []
    scores = [[score.get("pnmi") for score in one.list_scores("kmeans")] for one in (first, other)]
    if scores[0] == scores[1]:
        return []
    return [
        f"The k-means controls of {first.name} and {other.name} should be equal, as corpus, seed "
        f"and size of the codebooks are, but their PNMI is {scores[0]} and {scores[1]}: corpus or "
        "alignments changed in between, or the versions did."
    ]


def _pair(first: Analysis, second: Analysis) -> CodeDifference | None:
    tables, columns = [], []
    for one in (first, second):
        column = one.find_column()
        if column is None:
            raise DataError(f"{one.name} has no codes of its own with phones.")
        table = one.open_table()
        if column not in table.list_columns():
            raise DataError(f"{table.path} has no column {column}.")
        tables.append(table)
        columns.append(column)
    seed = first.config.get("seed")
    return compare_codes(
        (tables[0], tables[1]),
        (columns[0], columns[1]),
        seed=seed if isinstance(seed, int) else 1,
    )


def _warn_pair(first: str, second: str, found: CodeDifference) -> list[str]:
    sentences = []
    if found.num_left_out:
        sentences.append(
            f"{found.num_left_out} utterances with phones stand in only one of {first} and "
            f"{second}; differences of codes are of the {found.num_utterances} that both have."
        )
    if not found.same_phones:
        sentences.append(
            f"The frames of {first} and {second} do not have the same phones ("
            f"{found.num_frames[0]:,} and {found.num_frames[1]:,} frames)."
        )
    return sentences


def _subtract(first: Estimate, second: Estimate) -> Estimate | None:
    value = second.value - first.value
    if not math.isfinite(value):
        return None
    below = math.hypot(second.value - second.low, first.high - first.value)
    above = math.hypot(second.high - second.value, first.value - first.low)
    return Estimate(value=value, low=value - below, high=value + above)
