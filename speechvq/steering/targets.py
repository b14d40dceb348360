"""What can be forced: concepts, their codes place by place, and the labels that show the effect."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from speechvq.analysis.concept_files import ConceptFile, ConceptKind, ConceptRow
from speechvq.errors import DataError
from speechvq.models.ctc_model import CTCModel
from speechvq.models.vocabulary import BLANK, UNKNOWN, WORD_SEPARATOR
from speechvq.nn.bottleneck_sites import list_bottlenecks

_MIN_LETTER_SHARE = 0.25
"""A letter stands for a phone if so much of the phone's time is this letter's."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A concept that can be forced.

    Attributes:
        kind: Of the concept.
        name: Of the concept.
        rows: Its codes, one row a codebook, the best first (`order_rows`).
        labels: By head, the labels by which it is written.
    """

    kind: ConceptKind
    name: str
    rows: tuple[ConceptRow, ...]
    labels: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """As `concept=` names it."""
        return f"{self.kind.value}:{self.name}"


def group_rows(file: ConceptFile) -> dict[tuple[ConceptKind, str], list[ConceptRow]]:
    """Rows by concept."""
    groups: dict[tuple[ConceptKind, str], list[ConceptRow]] = {}
    for row in file.concepts:
        groups.setdefault((row.kind, row.concept), []).append(row)
    return groups


def order_rows(rows: Iterable[ConceptRow], min_recall: float) -> tuple[ConceptRow, ...]:
    """Rows of one concept, the highest precision on dev first; those of too little recall last.

    Args:
        rows: One a codebook.
        min_recall: On dev.
    """
    return tuple(
        sorted(
            rows,
            key=lambda row: (
                row.dev_recall < min_recall,
                -row.dev_precision,
                -row.dev_recall,
                *(row.layer, row.site, row.head),
            ),
        )
    )


def check_rows(model: CTCModel, rows: Iterable[ConceptRow]) -> None:
    """Checks that the model has the codes of all rows.

    Raises:
        DataError: It has not.
    """
    bottlenecks = list_bottlenecks(model)
    for row in rows:
        one = bottlenecks.get(row.place)
        if one is None or row.head >= one.num_codebooks:
            raise DataError(
                f"`concepts` names codebook {row.head} at {row.place}, which the model does not "
                "have: run `speechvq concepts` on this model."
            )
        if max(row.code, *row.codes) >= one.codebook_size:
            raise DataError(
                f"`concepts` names a code beyond the {one.codebook_size} at {row.place}: run "
                "`speechvq concepts` on this model."
            )


def check_split(concepts: Path, corpus: Path, split: str) -> None:
    """Checks that codes were not chosen on what is measured, where `metrics.json` beside the
    concepts says so.

    Raises:
        DataError: They were.
    """
    file = (concepts if concepts.is_dir() else concepts.parent) / "metrics.json"
    try:
        metrics = json.loads(file.read_text(encoding="utf-8"))
        own = Path(metrics["config"]["corpus"])
        chosen_on = metrics.get("chosen_on", [metrics["config"]["dev_split"]])
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return
    if own.resolve() == corpus.resolve() and split in chosen_on:
        raise DataError(
            f"`split` must be one on which no codes were chosen, but those of {concepts} were "
            f"chosen on {', '.join(chosen_on)}: give another `split`, or run `speechvq concepts` "
            "with another `dev_split`."
        )


def find_letter_labels(model: CTCModel, heads: Iterable[str], letter: str) -> dict[str, Tensor]:
    """By head, the label that is a letter; heads without it are left out."""
    found = {}
    for head in heads:
        labels = model.vocabularies[head].labels
        if letter in labels and letter not in (BLANK, UNKNOWN, WORD_SEPARATOR):
            found[head] = torch.tensor([labels.index(letter)], dtype=torch.long)
    return found


def find_phone_labels(counts: Mapping[tuple[str, str], Tensor], phone: str) -> dict[str, Tensor]:
    """By head, the labels by which a phone is written.

    Args:
        counts: By head and phone, (N,) frames of each label during the phone.
        phone: Which one.

    Returns:
        Labels that have at least a quarter of the phone's frames with a letter, and are in no other
        phone more often.
    """
    found = {}
    for head in {head for head, _ in counts}:
        names = [name for other, name in counts if other == head]
        if phone not in names:
            continue
        table = torch.stack([counts[head, name] for name in names])  # (phones, N)
        own = counts[head, phone]
        is_most = own >= table.amax(0)
        labels = (is_most & (own > 0) & (own >= _MIN_LETTER_SHARE * own.sum())).nonzero().flatten()
        if len(labels):
            found[head] = labels
    return found


def choose_concepts(
    file: ConceptFile, kinds: Sequence[str], wanted: Sequence[str]
) -> dict[tuple[ConceptKind, str], list[ConceptRow]]:
    """Rows of the concepts that are to be forced.

    Args:
        file: What `speechvq concepts` found.
        kinds: Kinds to take.
        wanted: Names such as `letter:a`; empty for all of the kinds.

    Raises:
        DataError: A name is none of the file.
    """
    groups = group_rows(file)
    names = {f"{kind.value}:{name}": (kind, name) for kind, name in groups}
    for name in wanted:
        if name not in names:
            kind = name.partition(":")[0]
            known = [one for one in names if one.startswith(f"{kind}:")]
            raise DataError(
                f"`concept` must be one of `concepts` ({', '.join(known) or 'no ' + kind}), but is "
                f"{name!r}."
            )
    chosen = [names[name] for name in wanted] if wanted else list(groups)
    return {key: groups[key] for key in chosen if key[0].value in kinds}
