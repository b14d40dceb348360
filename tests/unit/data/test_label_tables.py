"""Tables of texts: what people and spreadsheets make of them, and what must never be in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechvq.data.label_tables import (
    load_labels,
    neutralize_cell,
    read_label_table,
    restore_cell,
    write_label_table,
)
from speechvq.errors import DataError
from tests.support.corpora import write_tone_corpus

TRAIN, DEV, TEST = (f"tones/hin_Deva/{split}/0" for split in ("train", "dev", "test"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {"train": 3, "dev": 1, "test": 1}
    return write_tone_corpus(tmp_path_factory.mktemp("corpus") / "tones", counts=counts)


def load(path: Path, corpus: Path, content: str | bytes):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_labels([path], [corpus], languages=["hin_Deva"], split="train")


@pytest.mark.parametrize(
    "content",
    [
        f"id\ttext\n{TRAIN}\tab cd\n".encode(),
        f"\ufeffid\ttext\r\n{TRAIN}\tab cd\r\n".encode(),
        f"id\ttext\r\n{TRAIN}\tab cd\r\n".encode("utf-16"),
        f'id\ttext\tchecked\n"{TRAIN}"\t"ab cd"\tx\n'.encode(),
        f"text\tseconds\tid\n AB  cd! \t1.0\t{TRAIN}\n".encode(),
        f"id\ttext\tchecked\n{TRAIN}\tab cd\tx\n{TRAIN[:-1]}1\tnobody looked\t\n".encode(),
    ],
    ids=["plain", "spreadsheet", "utf16", "quoted", "typed", "unchecked"],
)
def test_tables_are_read_as_people_and_spreadsheets_leave_them(
    corpus: Path, tmp_path: Path, content: bytes
) -> None:
    assert load(tmp_path / "t.tsv", corpus, content).texts == {TRAIN: "ab cd"}


def test_commas_are_for_csv_and_an_empty_text_is_not_to_be_understood(
    corpus: Path, tmp_path: Path
) -> None:
    labels = load(tmp_path / "t.csv", corpus, f'id,text\n{TRAIN},"ab, cd"\n{TRAIN[:-1]}1,\n')
    assert labels.texts == {TRAIN: "ab cd"}
    assert labels.unusable == {f"{TRAIN[:-1]}1"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"{DEV}\tab", f"`{DEV}` is of split `dev`, language hin_Deva; only utterances of split"),
        (f"{TEST}\tab", "of split `test`"),
        ("tones/tam_Taml/train/0\tab", "of split `train`, language tam_Taml; only"),
        ("foreign\tab", "`foreign` is not in .*the table belongs to another corpus"),
        (f"{TRAIN}\tab\n{TRAIN}\tab", "line 3: .*stands there twice"),
    ],
)
def test_what_must_not_be_learned_from_is_refused(
    corpus: Path, tmp_path: Path, row: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load(tmp_path / "t.tsv", corpus, f"id\ttext\n{row}\n")


def test_two_tables_may_not_contradict(corpus: Path, tmp_path: Path) -> None:
    for name, text in (("a.tsv", "ab"), ("b.tsv", "ba")):
        write_label_table(tmp_path / name, ("id", "text"), [(TRAIN, text)])
    paths = [tmp_path / "a.tsv", tmp_path / "b.tsv"]
    with pytest.raises(DataError, match=r"b\.tsv: .* another text than in .*a\.tsv"):
        load_labels(paths, [corpus], languages=["hin_Deva"], split="train")


@pytest.mark.parametrize("content", [b"\xff\xfe\xff", b"", b"name\ttext\n1\t2\n"])
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.tsv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"t\.tsv"):
        read_label_table(path)


@pytest.mark.parametrize("text", ["=1+1", "+49", "-a", "@x", "'=1+1", "''-a"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert neutralize_cell(text).startswith("'")
    assert restore_cell(neutralize_cell(text)) == text


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(alphabet="ab '\"=+-@,\tक", max_size=8), min_size=1, max_size=5))
def test_written_tables_read_back(tmp_path_factory: pytest.TempPathFactory, texts) -> None:
    path = tmp_path_factory.mktemp("tables") / "t.tsv"
    rows = [(f"u{number}", text.strip()) for number, text in enumerate(texts)]
    write_label_table(path, ("id", "text"), rows)
    assert read_label_table(path) == dict(rows)
