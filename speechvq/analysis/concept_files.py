"""`concepts.json`: which code stands for which concept, place by place.

    {"format": 1, "model_digest": "sha256:…", "language": ["hin_Deva"],
     "concepts": [{"kind": "phone", "concept": "a", "layer": 3, "site": "heads", "head": 1,
                   "code": 17, "codes": [17, 201], "precision": 0.81, …}, …]}

`speechvq concepts` writes one row for each place, head and concept, none left out; `speechvq steer`
reads them. Codes are chosen on dev, numbers are those of test unless their name says dev.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, get_type_hints

from speechvq.durable import write_durably
from speechvq.errors import DataError
from speechvq.models.digest import compute_model_digest
from speechvq.models.json_files import check_regular
from speechvq.nn.places import Place, Site

CONCEPTS_FILE = "concepts.json"
FORMAT = 1
_MAX_BYTES = 1 << 30
_KEYS = {"format", "model_digest", "language", "concepts"}


class ConceptKind(StrEnum):
    """What a concept is about."""

    phone = "phone"
    """A phone of the alignments; frames."""
    letter = "letter"
    """A label of the recogniser's vocabulary; frames."""
    voicing = "voicing"
    """Whether the voice sounds; frames."""
    silence = "silence"
    """Whether anything is said; frames."""
    language = "language"
    """Utterances."""
    pitch = "pitch"
    """Low or high voices; utterances."""
    sex = "sex"
    """As the manifest has it; utterances."""


UTTERANCE_KINDS = (ConceptKind.language, ConceptKind.pitch, ConceptKind.sex)
"""Kinds that belong to whole utterances, which are counted there in place of frames."""


@dataclass(frozen=True, kw_only=True)
class ConceptRow:
    """How well the codes of one codebook stand for one concept.

    Attributes:
        kind: What the concept is about.
        concept: Its name among those of the kind: "a", "hin_Deva", "voiced".
        layer: Of the codebook, from 0.
        site: Which part of the layer.
        head: Number of the codebook there.
        code: The best single code, chosen on dev.
        codes: The greedy union, chosen on dev, the most precise there first; `code` is among them.
        precision: Share of the frames (utterances) with `code` that have the concept.
        recall: Share of the concept's frames (utterances) that have `code`.
        support: Frames (utterances) of the concept.
        lift: Precision over the concept's share of all frames (utterances).
        union_precision: Of frames that have one of `codes` at least.
        union_recall: The same for recall.
        neuron_precision: Of the best neuron at the same recall; None where none was measured.
        permuted_precision: Mean over permuted labels, best code chosen anew each time; None without
            permutations.
        p: Share of permutations that are as precise, the true labels counted in; None without.
        p_adjusted: The same after Benjamini and Hochberg over all rows.
        dev_precision: Of `code` where it was chosen.
        dev_recall: The same for recall.
        dev_support: Frames (utterances) of the concept where codes were chosen.
        is_best_place: Whether this is the place of the highest precision on dev among all places of
            the concept.
        is_rare: Whether support, here or on dev, is below the minimum of the run.
    """

    kind: ConceptKind
    concept: str
    layer: int
    site: Site
    head: int
    code: int
    codes: tuple[int, ...]
    precision: float
    recall: float
    support: int
    lift: float
    union_precision: float
    union_recall: float
    neuron_precision: float | None = None
    permuted_precision: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    dev_precision: float = 0.0
    dev_recall: float = 0.0
    dev_support: int = 0
    is_best_place: bool = False
    is_rare: bool = False

    @property
    def place(self) -> Place:
        """Layer and site."""
        return Place(self.layer, self.site)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 where both are."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


@dataclass(frozen=True, kw_only=True)
class ConceptFile:
    """What `concepts.json` holds.

    Attributes:
        model_digest: Of the model whose codes they are, `speechvq.models.digest`.
        language: Languages that were read.
        concepts: All rows.
    """

    model_digest: str
    language: tuple[str, ...]
    concepts: tuple[ConceptRow, ...]


def write_concepts(
    path: Path, rows: Sequence[ConceptRow], *, model_digest: str, language: Sequence[str]
) -> None:
    """Writes the file, whole or not at all.

    Args:
        path: Its place.
        rows: One for each codebook and concept.
        model_digest: Of the model.
        language: Languages that were read.
    """
    head = {"format": FORMAT, "model_digest": model_digest, "language": list(language)}
    lines = ",\n".join(
        json.dumps(_to_json(row), ensure_ascii=False, allow_nan=False) for row in rows
    )
    begin = json.dumps(head, ensure_ascii=False, indent=1)[:-2]
    write_durably(path, f'{begin},\n "concepts": [\n{lines}\n]}}\n'.encode())


def read_concepts(path: Path, *, model: Path | None = None) -> ConceptFile:
    """Reads the file.

    Args:
        path: The file, or the directory that `speechvq concepts` left.
        model: Directory of the model that it must belong to; None for any.

    Raises:
        DataError: It is missing, damaged, of another format, or of another model.
    """
    if path.is_dir():
        path = path / CONCEPTS_FILE
    document = _load(path)
    if not isinstance(document, dict) or "concepts" not in document or "format" not in document:
        raise DataError(f"{path} is no file of concepts; give the {CONCEPTS_FILE} that {_REMEDY}.")
    if document["format"] != FORMAT:
        raise DataError(
            f"{path}: format must be {FORMAT}, but is {document['format']!r}: another version of "
            "speechvq wrote it. Run `speechvq concepts` again."
        )
    _check(set(document) == _KEYS, f"{path} must have exactly the keys {', '.join(sorted(_KEYS))}")
    digest, language, rows = (document[key] for key in ("model_digest", "language", "concepts"))
    _check(type(digest) is str, f"{path}: model_digest must be a text")
    _check(_is_list(language, str), f"{path}: language must be a list of texts")
    _check(_is_list(rows, dict), f"{path}: concepts must be a list of objects")
    if model is not None and digest != compute_model_digest(model):
        raise DataError(
            f"{path} belongs to another model than {model}; its codes mean nothing there. Run "
            f"`speechvq concepts model={model}` for concepts of this one."
        )
    return ConceptFile(
        model_digest=digest,
        language=tuple(language),
        concepts=tuple(
            _read_row(row, f"{path}: concepts[{number}]") for number, row in enumerate(rows)
        ),
    )


_REMEDY = "`speechvq concepts` left"
_NAMES = [field.name for field in dataclasses.fields(ConceptRow)]
_TYPES = get_type_hints(ConceptRow)


def _load(path: Path) -> Any:
    remedy = "run `speechvq concepts` again"
    if not path.exists():
        raise DataError(f"{path} does not exist; {remedy}, which leaves it in `output`.")
    check_regular(path)
    if path.stat().st_size > _MAX_BYTES:
        raise DataError(f"{path} must be at most {_MAX_BYTES >> 20} MB, but is larger; {remedy}.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({error}); {remedy}.") from None


def _to_json(row: ConceptRow) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for name in _NAMES:
        value = getattr(row, name)
        if isinstance(value, float):
            value = round(value, 6)
        document[name] = list(value) if isinstance(value, tuple) else value
    return document


def _read_row(document: dict[str, Any], path: str) -> ConceptRow:
    _check(set(document) == set(_NAMES), f"{path} must have exactly the keys {', '.join(_NAMES)}")
    values = {name: _read_value(name, document[name], path) for name in _NAMES}
    row = ConceptRow(**values)
    _check(
        min(row.layer, row.head, row.code, row.support, *row.codes) >= 0 and bool(row.codes),
        f"{path}: layer, head, code, codes and support must be 0 or more",
    )
    return row


def _read_value(name: str, value: Any, path: str) -> Any:
    expected = _TYPES[name]
    where = f"{path}.{name}"
    if expected in (ConceptKind, Site):
        names = [one.value for one in expected]
        _check(value in names, f"{where} must be one of {', '.join(names)}, but is {value!r}")
        return expected(value)
    if expected == tuple[int, ...]:
        _check(_is_list(value, int), f"{where} must be a list of whole numbers")
        return tuple(value)
    if expected in (float, float | None):
        if value is None and expected is not float:
            return None
        is_number = type(value) in (int, float) and math.isfinite(value)
        _check(is_number, f"{where} must be a number, but is {value!r}")
        return float(value)
    _check(type(value) is expected, f"{where} must be of type {expected.__name__}")
    return value


def _is_list(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(type(one) is kind for one in value)


def _check(is_right: bool, rule: str) -> None:
    if not is_right:
        raise DataError(
            f"{rule}; the file is damaged or was edited: run `speechvq concepts` again."
        )
