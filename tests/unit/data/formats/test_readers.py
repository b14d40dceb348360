"""Each format, written after its public specification, is recognised and read to the same rows."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from speechvq.data.archives import read_source_bytes
from speechvq.data.format_names import ARCHIVE_SUFFIXES, FORMAT_NAMES
from speechvq.data.formats import FORMATS, choose_format
from speechvq.data.manifest import ManifestRow, read_manifests
from speechvq.data.records import Reason
from speechvq.data.tree import FileTree
from speechvq.errors import DataError
from tests.unit.data.formats import golden
from tests.unit.data.formats.golden import write_tree
from tests.unit.data.test_archives import write_archive

COLUMNS = ("path", "language", "split", "speaker", "recording", "transcript", "seconds")

GOLDEN: dict[str, tuple[Mapping[str, str | bytes], list[tuple[object, ...]], list[str]]] = {
    "common_voice": (
        golden.COMMON_VOICE,
        [
            ("cv/pa-IN/clips/a.mp3", "pan_Guru", "train", "s1", None, 'ਸਤਿ "ਸ੍ਰੀ" ਅਕਾਲ', 1.0),
            ("cv/pa-IN/clips/b.mp3", "pan_Guru", "test", "s2", None, "ਦੋ", 1.512),
            ("cv/pa-IN/clips/c.mp3", "pan_Guru", "validated", "s2", None, "ਤਿੰਨ", None),
        ],
        ["cv/pa-IN/train.tsv:3"],
    ),
    "fleurs": (
        golden.FLEURS,
        [
            ("fleurs/hi_in/audio/dev/103.wav", "hin_Deva", "dev", None, None, "दो।", 1.0),
            (
                *("fleurs/hi_in/audio/train/101.wav", "hin_Deva", "train", None, None),
                *('वह "यहाँ" है।', 1.0),
            ),
            ("fleurs/hi_in/audio/train/102.wav", "hin_Deva", "train", None, None, "वह यहाँ है।", 2.0),
        ],
        ["fleurs/hi_in/train.tsv:3"],
    ),
    "librispeech": (
        golden.LIBRISPEECH,
        [
            (
                *("LibriSpeech/dev-other/116/288045/116-288045-0000.flac", "eng_Latn", "dev-other"),
                *("116", "116-288045", "AS I APPROACHED", None),
            ),
            (
                *("LibriSpeech/train-clean-100/19/198/19-198-0000.flac", "eng_Latn", "train"),
                *("19", "19-198", "NORTHANGER ABBEY", None),
            ),
            (
                *("LibriSpeech/train-clean-100/19/198/19-198-0001.flac", "eng_Latn", "train"),
                *("19", "19-198", "THIS LITTLE WORK", None),
            ),
        ],
        ["LibriSpeech/train-clean-100/19/198/19-198.trans.txt:3"],
    ),
    "mls": (
        golden.MLS,
        [
            (
                *("mls_polish/test/audio/8/9/8_9_000001.flac", "pol_Latn", "test"),
                *("8", "8_9", "drugi", None),
            ),
            (
                *("mls_polish/train/audio/6758/8950/6758_8950_000000.flac", "pol_Latn", "train"),
                *("6758", "6758_8950", "wieczorem dom", None),
            ),
        ],
        ["mls_polish/train/transcripts.txt:2"],
    ),
    "kathbath": (
        golden.KATHBATH,
        [
            (
                *("audio/bengali/test_known/844424931029859-973-m.m4a", "ben_Beng", "test_known"),
                *("973", None, "কেমন আছো", None),
            ),
            (
                *("audio/bengali/valid/844424931537866-594-f.m4a", "ben_Beng", "dev"),
                *("594", None, "আমি ভালো আছি", None),
            ),
        ],
        ["transcripts/bengali/valid/transcription_n2w.txt:2"],
    ),
    "transcripts": (
        golden.TRANSCRIPTS,
        [
            ("mucs/hindi/train/audio/0001.wav", "hin_Deva", "train", None, None, "यह एक है", None),
            ("mucs/hindi/train/audio/0002.wav", "hin_Deva", "train", None, None, "दो तीन", None),
            ("mucs/hindi/valid/audio/0001.wav", "hin_Deva", "dev", None, None, "दूसरा", None),
        ],
        ["mucs/hindi/train/transcript.txt:4"],
    ),
    "openslr": (
        golden.OPENSLR,
        [
            (
                *("ta_in_female/taf_00008_00022380451.wav", "tam_Taml", None, "taf_00008", None),
                *("ஆஸ்த்ரேலியப் பெண்ணுக்கு", None),
            )
        ],
        ["ta_in_female/line_index.tsv:2"],
    ),
    "fairseq": (
        golden.FAIRSEQ,
        [
            ("odia/clips/b1/1.wav", "ory_Orya", "train", None, None, "ଏକ ଦୁଇ", None),
            ("odia/clips/b1/2.wav", "ory_Orya", "train", None, None, "ତିନି", None),
            ("odia/clips/b2/3.wav", "ory_Orya", "dev", None, None, "ଚାରି ପାଞ୍ଚ", None),
        ],
        ["odia/train.tsv:4"],
    ),
    "nemo": (
        golden.NEMO,
        [
            ("wav/a.wav", "hin_Deva", "train", None, None, "एक", 1.0),
            ("wav/long.wav", "hin_Deva", "train", "s1", None, "दो", 1.25),
            ("wav/long.wav", "hin_Deva", "train", None, None, "तीन", 1.0),
        ],
        ["wav/a.wav", "train_manifest.json:5"],
    ),
    "text_files": (
        golden.TEXT_FILES,
        [
            (
                *("bengali/bulletin-1/sent_1.wav", "ben_Beng", None, None, "bengali/bulletin-1"),
                *("আমি ভালো", None),
            ),
            (
                *("bengali/bulletin-2/sent_1.wav", "ben_Beng", None, None, "bengali/bulletin-2"),
                *("আছি", None),
            ),
            (
                *("bengali/bulletin-2/sent_2.wav", "ben_Beng", None, None, "bengali/bulletin-2"),
                *(None, None),
            ),
        ],
        [],
    ),
    "audio": (
        golden.AUDIO,
        [
            ("radio/gujarati/one.wav", "guj_Gujr", None, None, None, None, None),
            ("radio/gujarati/two.flac", "guj_Gujr", None, None, None, None, None),
        ],
        [],
    ),
}


def _tell(row: ManifestRow) -> tuple[object, ...]:
    recording = None if row.recording == row.path else row.recording
    return tuple(recording if name == "recording" else getattr(row, name) for name in COLUMNS)


@pytest.mark.parametrize("name", GOLDEN)
def test_a_golden_corpus_is_recognised_and_read(tmp_path: Path, name: str) -> None:
    files, expected, bad = GOLDEN[name]
    root = write_tree(tmp_path / "in", files)
    assert choose_format(FileTree(str(root))).name == name
    rows, rejections = read_manifests([str(root)])
    assert [_tell(row) for row in rows] == expected
    assert [row.path for row in rejections] == bad
    assert {row.reason for row in rejections} <= {Reason.BAD_ROW}
    assert {(row.source, row.root) for row in rows} == {("in", str(root))}
    assert all(row.num_bytes == (root / row.path).stat().st_size for row in rows)
    assert read_manifests([str(root)], format=name) == (rows, rejections)


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
def test_the_same_inside_an_archive(tmp_path: Path, name: str, suffix: str) -> None:
    files, expected, bad = GOLDEN[name]
    data = {key: v.encode() if isinstance(v, str) else v for key, v in files.items()}
    path = write_archive(tmp_path / f"in{suffix}", data)
    rows, rejections = read_manifests([str(path)])
    prefix = f"in{suffix}!/"
    assert sorted(map(repr, (_tell(row)[1:] for row in rows))) == sorted(
        repr(row[1:]) for row in expected
    )
    assert {row.path for row in rows} == {f"{prefix}{row[0]}" for row in expected}
    assert len(rejections) == len(bad)
    assert {row.source for row in rows} == {"in"}
    for row in rows:
        member = row.path.removeprefix(prefix)
        assert read_source_bytes(row.root, row.path) == data[member]


def test_names_are_those_of_the_readers() -> None:
    assert tuple(one.name for one in FORMATS) == FORMAT_NAMES
    assert {*GOLDEN, "manifest", "lhotse", "huggingface", "omnilingual"} == set(FORMAT_NAMES)
    assert ".tar.gz" in ARCHIVE_SUFFIXES


def test_provenance_and_parts_are_kept(tmp_path: Path) -> None:
    rows, _ = read_manifests([str(write_tree(tmp_path / "mls", golden.MLS))])
    assert [row.url for row in rows] == ["http://archive.org/other", "http://archive.org/book"]
    rows, _ = read_manifests([str(write_tree(tmp_path / "nemo", golden.NEMO))])
    assert [(row.begin_seconds, row.end_seconds) for row in rows] == [
        (None, None),
        (0.5, 1.75),
        (2.0, 3.0),
    ]
    header = "path\tlanguage\tlicence\tsource\turl\tbegin_seconds\tend_seconds\n"
    line = "a.wav\thin_Deva\tCC0\tradio\thttp://x\t0.25\t0.75\n"
    root = write_tree(tmp_path / "own", {"manifest.tsv": header + line, "a.wav": golden.WAV})
    (row,), _ = read_manifests([str(root)])
    assert (row.licence, row.source, row.url) == ("CC0", "radio", "http://x")
    assert (row.begin_seconds, row.end_seconds) == (0.25, 0.75)


def test_archives_beside_a_manifest(tmp_path: Path) -> None:
    lines = ["clips/b.wav", "clips/a.wav", "x.tar.gz!/clips/c.wav", "plain.wav", "clips/no.wav"]
    table = "path\tlanguage\n" + "".join(f"{line}\thin_Deva\n" for line in lines)
    root = write_tree(tmp_path / "in", {"manifest.tsv": table, "plain.wav": b"plain"})
    clips = {f"clips/{name}.wav": name.encode() for name in "abc"}
    write_archive(root / "x.tar.gz", {**clips, "../evil.wav": b"x"})
    rows, rejections = read_manifests([str(root)])
    # A compressed archive is read forward, so its rows know their places in it.
    assert [row.path for row in sorted(rows, key=lambda row: row.order or 99)] == [
        *(f"x.tar.gz!/clips/{name}.wav" for name in "abc"),
        "plain.wav",
    ]
    assert [(row.path, row.reason) for row in rejections] == [
        ("clips/no.wav", Reason.MISSING_FILE),
        ("x.tar.gz!/../evil.wav", Reason.OUTSIDE_INPUT),
    ]


@pytest.mark.parametrize("suffix", ["", ".tar", ".tar.gz", ".zip"])
def test_manifests_in_folders_are_sources(tmp_path: Path, suffix: str) -> None:
    table = "path\tlanguage\tsource\n"
    files = {
        "all/radio/manifest.tsv": f"{table}a.wav\thin_Deva\t\n\ttam_Taml\t\n",
        "all/radio/a.wav": golden.WAV,
        "all/books/manifest.tsv": f"{table}clips/a.wav\tmar_Deva\tlibrary\n",
        "all/books/clips/a.wav": golden.WAV,
        "all/foreign/manifest.tsv": "file\ttext\n",
    }
    root = write_tree(tmp_path / "in", files)
    if suffix:
        data = {key: v.encode() if isinstance(v, str) else v for key, v in files.items()}
        root = write_archive(tmp_path / f"in{suffix}", data)
    rows, rejections = read_manifests([str(root)])
    prefix = f"in{suffix}!/" if suffix else ""
    assert sorted((row.path, row.source, row.language) for row in rows) == [
        (f"{prefix}all/books/clips/a.wav", "library", "mar_Deva"),
        (f"{prefix}all/radio/a.wav", "radio", "hin_Deva"),
    ]
    assert [row.reason for row in rejections] == [Reason.BAD_ROW]


def test_the_language_can_be_named(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "in", {"a.wav": golden.WAV, "b.wav": golden.WAV})
    with pytest.raises(DataError, match="`language=`"):
        read_manifests([str(root)])
    rows, _ = read_manifests([str(root)], language="mai_Deva")
    assert [row.language for row in rows] == ["mai_Deva", "mai_Deva"]


def test_inputs_that_hold_nothing_and_names_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no audio"):
        read_manifests([str(tmp_path / "empty")])
    with pytest.raises(DataError, match="must be one of manifest"):
        read_manifests([str(tmp_path / "empty")], format="wave")
    with pytest.raises(DataError, match="must name directories or archives"):
        read_manifests([str(tmp_path / "nothing")])


def test_transcripts_that_do_not_match_their_files(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "in", {**golden.FAIRSEQ, "odia/train.wrd": "ଏକ\n"})
    with pytest.raises(DataError, match=r"train\.wrd has 1 lines, but odia/train\.tsv has 3"):
        read_manifests([str(root)])


@pytest.mark.parametrize("name", [name for name in GOLDEN if name not in ("audio", "text_files")])
@pytest.mark.parametrize("damage", [b"\xff\xfe\0\0", b"\t\t\t\n" * 3, b"{}\n[]\nnull\n", b""])
def test_damaged_tables_never_crash(tmp_path: Path, name: str, damage: bytes) -> None:
    files, _, _ = GOLDEN[name]
    tables = [p for p in files if p.endswith((".tsv", ".txt", ".json", ".wrd"))]
    for table in tables:
        root = write_tree(tmp_path / f"in-{tables.index(table)}", {**files, table: damage})
        rows: list[ManifestRow] = []
        with contextlib.suppress(DataError):  # a table as a whole may be refused, never more
            rows, _ = read_manifests([str(root)], format=name, language="hin_Deva")
        assert all(row.num_bytes for row in rows)
