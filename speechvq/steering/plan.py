"""Which codes are switched where: spans of other letters in which a concept is forced, and the
controls on the same spans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from speechvq.analysis.concept_files import ConceptRow
from speechvq.decoding.forced_alignment import LabelSpan
from speechvq.nn.activation_additions import Addition
from speechvq.nn.code_edits import Edit, EditMode
from speechvq.nn.places import Place
from speechvq.steering.dev_statistics import DevStatistics, draw_matched
from speechvq.steering.material import AlignedUtterance, get_span
from speechvq.steering.measures import Span, widen
from speechvq.steering.targets import Target

_FEWER_PLACES = (4, 1)
"""Codebooks in which codes are forced besides."""
_TRIES = 5
"""Other concepts that are drawn until one has other codes at the same places."""


class ArmKind(StrEnum):
    """What is done to a span."""

    codes = "codes"
    """The concept's codes are forced."""
    random = "random codes"
    """Others of like frequency."""
    other = "codes of another concept"
    """Those of a concept drawn at random."""
    difference = "difference of means"
    """Activation addition, as long as the change that the concept's codes would make."""


@dataclass(frozen=True, kw_only=True, order=True)
class Arm:
    """One way to edit a span.

    Attributes:
        kind: What is done.
        mode: How codes are forced; for activation addition the edit whose length it has.
        num_places: Codebooks at once.
    """

    kind: ArmKind
    mode: EditMode
    num_places: int


@dataclass(frozen=True, kw_only=True)
class CodeSetting:
    """A code of one codebook, with the direction that takes its part in activation addition."""

    place: Place
    head: int
    code: int
    direction: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class PlannedEdit:
    """One edit of one span.

    Attributes:
        target: What is measured; of `codes`, what is forced.
        labels: The target's labels in the utterance's head.
        utterance: Its id.
        span: Of the letter that is said there.
        replaced: That letter.
        arm: What is done.
        settings: With which codes.
    """

    target: str
    labels: Tensor
    utterance: str
    span: Span
    replaced: str
    arm: Arm
    settings: tuple[CodeSetting, ...]

    @property
    def first_layer(self) -> int:
        """The lowest layer that is edited."""
        return min(setting.place.layer for setting in self.settings)

    def create_edits(self, row: int, window: Span) -> list[Edit]:
        """Edits of one row of a batch."""
        return [
            Edit(
                layer=one.place.layer,
                site=one.place.site,
                head=one.head,
                span=window,
                code=one.code,
                mode=self.arm.mode,
                row=row,
            )
            for one in self.settings
        ]

    def create_additions(self, row: int, window: Span) -> list[Addition]:
        """The same as activation additions; empty but for `ArmKind.difference`."""
        return [
            Addition(edit=edit, direction=one.direction)
            for edit, one in zip(self.create_edits(row, window), self.settings, strict=True)
            if one.direction is not None
        ]


def list_arms(modes: Sequence[EditMode], num_places: int) -> list[Arm]:
    """All arms: codes at `num_places` and at fewer, and the controls at `num_places`; the last two
    controls in the strongest mode alone.
    """
    strongest = EditMode.all if EditMode.all in modes else modes[0]
    wanted = {
        ArmKind.codes: modes,
        ArmKind.random: modes,
        ArmKind.other: [strongest],
        ArmKind.difference: [strongest],
    }
    arms = [
        Arm(kind=kind, mode=mode, num_places=num_places)
        for kind, chosen in wanted.items()
        for mode in chosen
    ]
    return arms + [
        Arm(kind=ArmKind.codes, mode=mode, num_places=fewer)
        for fewer in _FEWER_PLACES
        if fewer < num_places
        for mode in modes
    ]


def find_spans_to_edit(
    aligned: AlignedUtterance, labels: Tensor, letters: frozenset[int], window: int
) -> list[LabelSpan]:
    """Spans of letters in whose window a target is neither said nor recognised.

    Args:
        aligned: An utterance.
        labels: Of the target.
        letters: Labels that write something.
        window: Frames to each side that must be free of the target, and one more.
    """
    is_target = torch.isin(aligned.path, labels) | torch.isin(aligned.best_path, labels)
    found = []
    for span in aligned.spans:
        begin, end = widen(get_span(span), window + 1, len(is_target))
        if span.label in letters and not is_target[begin:end].any():
            found.append(span)
    return found


class EditPlanner:
    """Draws spans and codes.

    Args:
        targets: All that are forced.
        statistics: Of dev.
        arms: What is done to each span.
        generator: Of all draws, on the CPU.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        statistics: DevStatistics,
        arms: Sequence[Arm],
        generator: torch.Generator,
    ) -> None:
        self._targets, self._statistics, self._arms = targets, statistics, arms
        self._generator = generator
        self._rows: Mapping[str, Mapping[tuple[Place, int], ConceptRow]] = {
            target.key: {(row.place, row.head): row for row in target.rows} for target in targets
        }

    def plan(
        self, target: Target, utterances: Sequence[AlignedUtterance], num_spans: int, window: int
    ) -> list[list[PlannedEdit]]:
        """Draws spans of a target, and of each the edits of all arms.

        Args:
            target: What is forced.
            utterances: Where it may be.
            num_spans: At most so many.
            window: Frames to each side of a span.
        """
        candidates = [
            (one, span)
            for one in utterances
            if one.head in target.labels
            for span in find_spans_to_edit(one, target.labels[one.head], one.letters, window)
        ]
        order = torch.randperm(
            len(candidates), generator=self._generator, dtype=torch.long, device="cpu"
        )
        planned = []
        for number in order[:num_spans].tolist():
            utterance, span = candidates[number]
            planned.append(self._plan_span(target, utterance, span))
        return planned

    def _plan_span(
        self, target: Target, utterance: AlignedUtterance, span: LabelSpan
    ) -> list[PlannedEdit]:
        edits, random = [], self._draw_random(target)
        other = self._draw_other(target)
        for arm in self._arms:
            rows = target.rows[: arm.num_places]
            match arm.kind:
                case ArmKind.codes:
                    settings = [_set(row, row.code) for row in rows]
                case ArmKind.random:
                    settings = _set_drawn(rows, random)
                case ArmKind.other:
                    settings = _set_drawn(rows, other)
                case ArmKind.difference:
                    settings = self._set_directions(target, rows)
            if settings:
                edits.append(
                    PlannedEdit(
                        target=target.key,
                        labels=target.labels[utterance.head],
                        utterance=utterance.utterance.id,
                        span=get_span(span),
                        replaced=utterance.label_texts[span.label],
                        arm=arm,
                        settings=tuple(settings),
                    )
                )
        return edits

    def _set_directions(self, target: Target, rows: Sequence[ConceptRow]) -> list[CodeSetting]:
        settings = []
        for row in rows:
            direction = self._statistics.find_direction(
                row.place, row.head, (target.kind, target.name)
            )
            if direction is not None:
                settings.append(
                    CodeSetting(place=row.place, head=row.head, code=row.code, direction=direction)
                )
        return settings

    def _draw_random(self, target: Target) -> dict[tuple[Place, int], int]:
        """Codes as frequent as the target's; none where all codes are the target's."""
        drawn = {}
        for row in target.rows[: max(arm.num_places for arm in self._arms)]:
            counts = self._statistics.code_counts[row.place][row.head]
            code = draw_matched(counts, row.code, row.codes, self._generator)
            if code is not None:
                drawn[row.place, row.head] = code
        return drawn

    def _draw_other(self, target: Target) -> dict[tuple[Place, int], int]:
        """Codes of another concept of the kind, where they differ from the target's."""
        others = [
            one
            for one in self._targets
            if one.kind is target.kind and one.key != target.key and not _overlap(one, target)
        ]
        rows = target.rows[: max(arm.num_places for arm in self._arms)]
        for _ in range(_TRIES if others else 0):
            number = torch.randint(
                len(others), (), generator=self._generator, dtype=torch.long, device="cpu"
            )
            found = self._rows[others[int(number)].key]
            codes = {
                (row.place, row.head): found[row.place, row.head].code
                for row in rows
                if (row.place, row.head) in found
                and found[row.place, row.head].code not in (row.code, *row.codes)
            }
            if codes:
                return codes
        return {}


def _set(row: ConceptRow, code: int) -> CodeSetting:
    return CodeSetting(place=row.place, head=row.head, code=code)


def _set_drawn(
    rows: Sequence[ConceptRow], drawn: Mapping[tuple[Place, int], int]
) -> list[CodeSetting]:
    """Codes of a control, where some could be drawn."""
    return [_set(row, drawn[row.place, row.head]) for row in rows if (row.place, row.head) in drawn]


def _overlap(first: Target, second: Target) -> bool:
    """Whether two concepts are written by a common label."""
    return any(
        bool(torch.isin(labels, second.labels[head]).any())
        for head, labels in first.labels.items()
        if head in second.labels
    )
