"""`concepts.json`: round trip, and what is said of files that cannot be used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from speechvq.analysis.concept_files import (
    CONCEPTS_FILE,
    ConceptKind,
    ConceptRow,
    read_concepts,
    write_concepts,
)
from speechvq.errors import DataError
from speechvq.models.digest import compute_model_digest
from speechvq.nn.places import Place, Site

ROW = ConceptRow(
    kind=ConceptKind.phone,
    concept="aː",
    layer=3,
    site=Site.heads,
    head=1,
    code=17,
    codes=(17, 201, 5),
    precision=0.75,
    recall=0.5,
    support=120,
    lift=12.5,
    union_precision=0.7,
    union_recall=0.8,
    neuron_precision=0.25,
    permuted_precision=0.0625,
    p=0.01,
    p_adjusted=0.02,
    dev_precision=0.8125,
    dev_recall=0.5,
    dev_support=90,
    is_best_place=True,
)
ROWS = (ROW, replace(ROW, site=Site.feed_forward, head=0, p=None, neuron_precision=None))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_concepts(
        tmp_path / CONCEPTS_FILE, ROWS, model_digest="sha256:1", language=["hin_Deva", "mdw_Latn"]
    )
    for path in (tmp_path, tmp_path / CONCEPTS_FILE):
        found = read_concepts(path)
        assert found.concepts == ROWS
        assert found.language == ("hin_Deva", "mdw_Latn")
        assert found.model_digest == "sha256:1"
    assert found.concepts[0].place == Place(3, Site.heads)
    assert found.concepts[0].f1 == pytest.approx(0.6)


def test_no_rows_are_a_file_as_well(tmp_path: Path) -> None:
    write_concepts(tmp_path / CONCEPTS_FILE, [], model_digest="sha256:1", language=[])
    assert read_concepts(tmp_path).concepts == ()


def test_concepts_of_another_model_are_refused(tmp_path: Path) -> None:
    models = [tmp_path / name for name in ("one", "two")]
    for number, model in enumerate(models):
        model.mkdir()
        (model / "model.safetensors").write_bytes(bytes([number]))
    write_concepts(
        tmp_path / CONCEPTS_FILE, ROWS, model_digest=compute_model_digest(models[0]), language=[]
    )
    assert read_concepts(tmp_path, model=models[0]).concepts == ROWS
    with pytest.raises(DataError, match="belongs to another model"):
        read_concepts(tmp_path, model=models[1])


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("kind", "phoneme", r"concepts\[1\].kind must be one of phone, letter"),
        ("site", "mlp", r"concepts\[1\].site must be one of heads, feed_forward"),
        ("code", "17", r"concepts\[1\].code must be of type int"),
        ("code", True, r"concepts\[1\].code must be of type int"),
        ("code", -1, "must be 0 or more"),
        ("codes", [], "must be 0 or more"),
        ("codes", [1.5], "must be a list of whole numbers"),
        ("precision", None, r"concepts\[1\].precision must be a number"),
        ("support", float("inf"), r"concepts\[1\].support must be of type int"),
        ("p", float("nan"), r"concepts\[1\].p must be a number"),
        ("extra", 1, "must have exactly the keys"),
    ],
)
def test_a_damaged_row_is_named(tmp_path: Path, key: str, value: object, said: str) -> None:
    path = tmp_path / CONCEPTS_FILE
    write_concepts(path, ROWS, model_digest="sha256:1", language=[])
    document = json.loads(path.read_text(encoding="utf-8"))
    document["concepts"][1][key] = value
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(DataError, match=said) as error:
        read_concepts(path)
    assert "run `speechvq concepts` again" in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "cannot be read"),
        ('{"format": 1', "cannot be read"),
        ("[1]", "is no file of concepts"),
        ('{"kind": "speechvq-analysis"}', "is no file of concepts"),
        ('{"format": 2, "concepts": []}', "another version of speechvq"),
        ('{"format": 1, "concepts": []}', "must have exactly the keys"),
        ('{"format": 1, "model_digest": 1, "language": [], "concepts": []}', "must be a text"),
        ('{"format": 1, "model_digest": "", "language": "hin", "concepts": []}', "list of texts"),
        ('{"format": 1, "model_digest": "", "language": [], "concepts": [1]}', "list of objects"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / CONCEPTS_FILE
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        read_concepts(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist; run `speechvq concepts` again"):
        read_concepts(tmp_path / "nothing.json")
