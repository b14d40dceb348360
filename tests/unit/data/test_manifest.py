"""Manifests: aliases, formats, and rows that cannot be used."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from speechvq.data.manifest import read_manifests
from speechvq.data.records import Reason
from speechvq.errors import DataError


def _directory(tmp_path: Path, name: str, content: str, folder: str = "in") -> str:
    directory = tmp_path / folder
    directory.mkdir(exist_ok=True)
    (directory / "a.wav").write_bytes(b"x" * 10)
    (directory / name).write_text(content, encoding="utf-8")
    return str(directory)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("manifest.tsv", 'path\tlanguage\ttext\tspeaker\na.wav\thin_Deva\tsay "so", x\ts1\n'),
        ("manifest.csv", 'audio,lang,sentence,client_id\na.wav,hin_Deva,"say ""so"", x",s1\n'),
        (
            "manifest.jsonl",
            json.dumps(
                {
                    "audio_filepath": "a.wav",
                    "lang": "hin_Deva",
                    "transcript": 'say "so", x',
                    "speaker": "s1",
                    "duration": None,
                }
            ),
        ),
        (
            "manifest.tsv",
            '\ufeffpath\tlanguage\ttext\tspeaker\r\na.wav\thin_Deva\tsay "so", x\ts1\r\n',
        ),
    ],
)
def test_formats_and_aliases(tmp_path: Path, name: str, content: str) -> None:
    (row,), rejections = read_manifests([_directory(tmp_path, name, content)])
    assert rejections == []
    assert (row.path, row.language, row.speaker) == ("a.wav", "hin_Deva", "s1")
    assert row.transcript == 'say "so", x'
    assert (row.source, row.recording, row.split, row.num_bytes) == ("in", "a.wav", None, 10)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("b.wav\thin_Deva\t", Reason.MISSING_FILE),
        ("../secret.wav\thin_Deva\t", Reason.OUTSIDE_INPUT),
        ("/etc/passwd\thin_Deva\t", Reason.OUTSIDE_INPUT),
        ("link.wav\thin_Deva\t", Reason.OUTSIDE_INPUT),
        ("loop.wav\thin_Deva\t", Reason.MISSING_FILE),
        ("a\0.wav\thin_Deva\t", Reason.MISSING_FILE),
        ("a.wav\thindi\t", Reason.UNKNOWN_LANGUAGE),
        ("a.wav\t\t", Reason.UNKNOWN_LANGUAGE),
        ("\thin_Deva\t", Reason.BAD_ROW),
        ("a.wav\thin_Deva\t../up", Reason.BAD_ROW),
        ("a.wav\thin_Deva\ttrain\tmore\tcells", Reason.BAD_ROW),
        (".\thin_Deva\t", Reason.MISSING_FILE),
        ("a.wav\thin_Deva\t" + "x" * 140_000, Reason.BAD_ROW),
        ("./a.wav\thin_Deva\t", Reason.DUPLICATE),
        ("../in/a.wav\thin_Deva\t", Reason.DUPLICATE),
        ("no/../a.wav\thin_Deva\t", Reason.DUPLICATE),
    ],
)
def test_bad_rows_are_set_aside(tmp_path: Path, line: str, reason: Reason) -> None:
    content = f"path\tlanguage\tsplit\n{line}\na.wav\thin_Deva\ttrain\n"
    directory = _directory(tmp_path, "manifest.tsv", content)
    (tmp_path / "secret.wav").write_bytes(b"x")
    (tmp_path / "in" / "link.wav").symlink_to(tmp_path / "secret.wav")
    (tmp_path / "in" / "loop.wav").symlink_to(tmp_path / "in" / "loop.wav")
    rows, rejections = read_manifests([directory])
    assert [row.path for row in rows] == ["a.wav"]
    assert [row.reason for row in rejections] == [reason]


def test_an_absolute_path_is_the_same_file(tmp_path: Path) -> None:
    content = f"path\tlanguage\n{tmp_path}/in/a.wav\thin_Deva\na.wav\thin_Deva\n"
    directory = _directory(tmp_path, "manifest.tsv", content)
    (row,), (rejection,) = read_manifests([directory])
    assert (row.path, row.recording, rejection.reason) == ("a.wav", "a.wav", Reason.DUPLICATE)


def test_names_that_are_no_text_are_set_aside(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in (b"good.wav", b"bad\xff.wav"):
        (tree / os.fsdecode(name)).write_bytes(b"x")
    (row,), (rejection,) = read_manifests([str(tree)], language="hin_Deva")
    assert (row.path, rejection.path) == ("good.wav", "bad\\udcff.wav")
    assert rejection.reason == Reason.BAD_ROW
    lines = ['{"path": "a.wav", "language": "hin_Deva"}']
    lines += ['{"path": "a.wav", "language": "\\ud800", "text": "\\ud800"}']
    directory = _directory(tmp_path, "manifest.jsonl", "\n".join(lines))
    (row,), (rejection,) = read_manifests([directory])
    assert (rejection.language, rejection.reason) == ("\\ud800", Reason.BAD_ROW)


def test_folders_that_are_links_are_named(tmp_path: Path) -> None:
    for folder in ("tree", "elsewhere"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.wav").write_bytes(b"x")
    (tmp_path / "tree" / "more").symlink_to(tmp_path / "elsewhere")
    rows, (rejection,) = read_manifests([str(tmp_path / "tree")], language="hin_Deva")
    assert [row.path for row in rows] == ["a.wav"]
    assert (rejection.path, rejection.reason) == ("more", Reason.NOT_A_FILE)


def test_file_urls_are_confined_like_paths(tmp_path: Path) -> None:
    directory = _directory(tmp_path, "manifest.tsv", "path\tlanguage\nb.wav\thin_Deva\n")
    (tmp_path / "secret.wav").write_bytes(b"x")
    (tmp_path / "in" / "b.wav").symlink_to(tmp_path / "secret.wav")
    rows, rejections = read_manifests([f"file://{directory}"])
    assert (rows, [row.reason for row in rejections]) == ([], [Reason.OUTSIDE_INPUT])


def test_speakers_who_begin_together_are_two(tmp_path: Path) -> None:
    content = "path\tlanguage\tbegin_seconds\tend_seconds\n"
    content += "a.wav\thin_Deva\t0\t3\n" + 2 * "a.wav\thin_Deva\t0\t5\n"
    rows, (rejection,) = read_manifests([_directory(tmp_path, "manifest.tsv", content)])
    assert [row.end_seconds for row in rows] == [3, 5]
    assert rejection.reason == Reason.DUPLICATE


def test_duplicates_and_declared_seconds(tmp_path: Path) -> None:
    content = "path\tlanguage\tseconds\na.wav\thin_Deva\t2.5\na.wav\thin_Deva\t2.5\n"
    (row,), (rejection,) = read_manifests([_directory(tmp_path, "manifest.tsv", content)])
    assert row.seconds == 2.5
    assert (rejection.reason, rejection.seconds) == (Reason.DUPLICATE, 2.5)


def test_split_names(tmp_path: Path) -> None:
    content = "path\tlanguage\tsplit\na.wav\thin_Deva\tValidation\n"
    (row,), _ = read_manifests([_directory(tmp_path, "manifest.tsv", content)])
    assert row.split == "dev"


def test_a_broken_line_of_jsonl_is_set_aside(tmp_path: Path) -> None:
    content = '{"path": "a.wav", "language": "hin_Deva"}\n{"path": \n[1]\n'
    rows, rejections = read_manifests([_directory(tmp_path, "manifest.jsonl", content)])
    assert len(rows) == 1
    assert [row.path for row in rejections] == ["manifest.jsonl:2", "manifest.jsonl:3"]


def test_manifests_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"manifest\.tsv"):
        read_manifests([str(tmp_path / "empty")])
    directory = _directory(tmp_path, "manifest.tsv", "file name\tlanguage\n")
    with pytest.raises(DataError, match="column 'path'"):
        read_manifests([directory])
    Path(directory, "manifest.tsv").write_bytes(b"path\tlanguage\n\xff\xfe\n")
    with pytest.raises(DataError, match="UTF-8"):
        read_manifests([directory])


def test_two_inputs_of_one_name_need_a_source(tmp_path: Path) -> None:
    content = "path\tlanguage\na.wav\thin_Deva\n"
    (tmp_path / "x").mkdir()
    first = _directory(tmp_path, "manifest.tsv", content)
    second = _directory(tmp_path / "x", "manifest.tsv", content)
    with pytest.raises(DataError, match="source"):
        read_manifests([first, second])
