"""A corpus written in each format is read back, by us and by others: same rows, same samples."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from speechvq.data.archives import read_source_bytes
from speechvq.data.audio import decode_flac, encode_flac, load_audio
from speechvq.data.convert import convert_corpus
from speechvq.data.convert_config import ConvertConfig
from speechvq.data.corpus import CorpusWriter
from speechvq.data.format_names import WRITTEN_FORMAT_NAMES
from speechvq.data.formats import choose_format
from speechvq.data.manifest import ManifestRow, read_manifests
from speechvq.data.records import Utterance
from speechvq.data.tree import FileTree
from speechvq.errors import ConfigError

KEPT = {
    "manifest": "split speaker recording transcript licence source url seconds",
    "fairseq": "split transcript",
    "common_voice": "split speaker transcript seconds",
    "fleurs": "split transcript seconds",
    "librispeech": "split transcript",
    "mls": "split transcript url",
    "transcripts": "split transcript",
    "openslr": "transcript",
    "nemo": "split speaker recording transcript licence source url seconds",
    "lhotse": "split speaker transcript licence source url seconds",
    "huggingface": "split speaker recording transcript licence source url seconds",
    "omnilingual": "split speaker recording transcript licence source url seconds",
}
"""What each format has a place for, beside language and audio."""
ONLY_TRANSCRIBED = ("mls", "transcripts", "openslr")


def _make_utterances() -> list[Utterance]:
    rng = np.random.default_rng(0)
    utterances = []
    cells = [
        ("hin_Deva", "train", "नमस्ते दुनिया", "s1", "r1"),
        ("hin_Deva", "train", "क्\u200dष और र्\u200dय", "s1", "r2"),
        ("hin_Deva", "dev", "दो \"तीन\"", "s-2", "r3"),
        ("mal_Mlym", "test", "അവൻ\u200d വന്നു", None, "r4"),
        ("mal_Mlym", "train", None, "s3", "r5"),
    ]  # fmt: skip
    for index, (language, split, text, speaker, recording) in enumerate(cells):
        num_samples = 8_000 + 160 * index
        waveform = (0.1 * rng.standard_normal(num_samples)).astype(np.float32)
        utterances.append(
            Utterance(
                id=f"radio/one/{index}.mp3#0.000-0.{index}",
                language=language,
                split=split,
                audio=encode_flac(waveform),
                num_samples=num_samples,
                text=text,
                raw_text=f"raw {text}" if text else None,
                source="radio/one",
                licence="CC BY 4.0",
                url=f"https://example.org/{index}",
                speaker=speaker,
                recording=recording,
                path=f"{index}.mp3",
            )
        )
    return utterances


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("convert") / "corpus"
    with CorpusWriter(root, normalizer="verbatim-1") as writer:
        for utterance in _make_utterances():
            writer.add(utterance)
    return root


def _convert(corpus: Path, output: Path, name: str, **keys: str) -> list[ManifestRow]:
    convert_corpus(ConvertConfig(corpus=str(corpus), output=str(output), format=name, **keys))
    rows, rejections = read_manifests([str(output)])
    assert rejections == []
    return rows


@pytest.mark.parametrize("name", WRITTEN_FORMAT_NAMES)
def test_what_is_written_is_read_back(corpus: Path, tmp_path: Path, name: str) -> None:
    rows = _convert(corpus, tmp_path / "out", name)
    assert choose_format(FileTree(str(tmp_path / "out"))).name == name
    expected = _make_utterances()
    if name in ONLY_TRANSCRIBED:
        expected = [utterance for utterance in expected if utterance.text]
    by_samples = {
        load_audio(read_source_bytes(row.root, row.path)).waveform.tobytes(): row for row in rows
    }
    assert len(by_samples) == len(rows) == len(expected)
    for utterance in expected:
        row = by_samples[decode_flac(utterance.audio).tobytes()]
        assert row.language == utterance.language
        for field in KEPT[name].split():
            value = getattr(row, field)
            if field == "transcript":
                assert value == utterance.text
            elif field == "seconds":
                assert value == pytest.approx(utterance.num_seconds, abs=0.001)
            else:
                assert value == getattr(utterance, field), field


@pytest.mark.parametrize("name", WRITTEN_FORMAT_NAMES)
def test_the_same_corpus_gives_the_same_bytes(corpus: Path, tmp_path: Path, name: str) -> None:
    contents = []
    for output in (tmp_path / "a" / "out", tmp_path / "b" / "out"):
        _convert(corpus, output, name)
        contents.append(
            {
                str(path.relative_to(output)): path.read_bytes().replace(bytes(output), b"")
                for path in sorted(output.rglob("*"))
                if path.is_file()
            }
        )
    assert contents[0] == contents[1]


def test_choices(corpus: Path, tmp_path: Path) -> None:
    rows = _convert(
        corpus, tmp_path / "out", "nemo", where="language=mal_Mlym", transcript="raw_text"
    )
    assert {row.transcript for row in rows} == {"raw അവൻ\u200d വന്നു", None}


def test_fairseq_files_as_fairseq_wants_them(corpus: Path, tmp_path: Path) -> None:
    _convert(corpus, tmp_path / "out", "fairseq")
    folder = tmp_path / "out" / "hin_Deva"
    lines = (folder / "train.tsv").read_text().splitlines()
    assert lines[0] == str(folder / "audio")
    assert lines[1:] == ["0000/00000002.flac\t8000", "0000/00000003.flac\t8160"]
    assert (folder / "train.ltr").read_text().splitlines()[0] == "न म स ् त े | द ु न ि य ा |"
    counts = dict(line.split(" ") for line in (folder / "dict.ltr.txt").read_text().splitlines())
    assert (counts["|"], counts["न"], counts["\u200d"]) == ("5", "2", "2")
    assert (folder / "valid.tsv").exists()


def test_lhotse_accepts_our_cuts(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lhotse = pytest.importorskip("lhotse")
    _convert(corpus, tmp_path / "out", "lhotse")
    monkeypatch.chdir(tmp_path / "out")
    cuts = lhotse.CutSet.from_file("cuts_train.jsonl.gz")
    lhotse.validate(cuts, read_data=True)
    expected = {u.id: u for u in _make_utterances() if u.split == "train"}
    assert {cut.id for cut in cuts} == set(expected)
    for cut in cuts:
        assert cut.num_samples == expected[cut.id].num_samples
        assert cut.supervisions[0].text == expected[cut.id].text


def test_lhotse_manifests_are_read(tmp_path: Path) -> None:
    lhotse = pytest.importorskip("lhotse")
    root = tmp_path / "in"
    root.mkdir()
    waveform = np.random.default_rng(1).uniform(-0.5, 0.5, 48_000).astype(np.float32)
    (root / "long.flac").write_bytes(encode_flac(waveform))
    recording = lhotse.Recording.from_file(root / "long.flac")
    recording.sources[0].source = "long.flac"
    spans = [(0.25, 1.0, "एक"), (1.5, 0.75, "दो")]
    supervisions = [
        lhotse.SupervisionSegment(
            id=text, recording_id=recording.id, start=start, duration=length, text=text,
            language="hi", speaker="s1",
        )
        for start, length, text in spans
    ]  # fmt: skip
    recordings = lhotse.RecordingSet.from_recordings([recording])
    segments = lhotse.SupervisionSet.from_segments(supervisions)
    recordings.to_file(root / "recordings_dev.jsonl.gz")
    segments.to_file(root / "supervisions_dev.jsonl.gz")
    rows, _ = read_manifests([str(root)])
    cuts = lhotse.CutSet.from_manifests(recordings=recordings, supervisions=segments)
    mixed = cuts[0].pad(duration=9)
    lhotse.CutSet.from_cuts([*cuts.trim_to_supervisions(), mixed]).to_file(root / "cuts_dev.jsonl")
    cut_rows, rejections = read_manifests([str(root)])
    for found in (rows, cut_rows):
        assert [(r.transcript, r.begin_seconds, r.end_seconds) for r in found] == [
            ("एक", 0.25, 1.25),
            ("दो", 1.5, 2.25),
        ]
        assert {(r.language, r.speaker, r.split) for r in found} == {("hin_Deva", "s1", "dev")}
    assert [row.detail for row in rejections] == ["A MixedCut is not read, only a MonoCut."]


def test_lhotse_sources_that_run_commands_are_refused(tmp_path: Path) -> None:
    source = {"type": "command", "channels": [0], "source": "touch evil"}
    recording = {
        "id": "a", "sources": [source], "sampling_rate": 16_000, "num_samples": 1, "duration": 1
    }  # fmt: skip
    cut = {
        "id": "a", "start": 0, "duration": 1, "channel": 0, "supervisions": [],
        "recording": recording, "type": "MonoCut",
    }  # fmt: skip
    (tmp_path / "cuts.jsonl.gz").write_bytes(gzip.compress(json.dumps(cut).encode()))
    rows, (rejection,) = read_manifests([str(tmp_path)], language="hin_Deva")
    assert rows == []
    assert "'command' is not read" in rejection.detail


def test_parquet_has_the_columns_of_its_readers(corpus: Path, tmp_path: Path) -> None:
    _convert(corpus, tmp_path / "hf", "huggingface")
    schema = pq.read_schema(tmp_path / "hf" / "data" / "train-00000.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["audio"] == {"sampling_rate": 16_000, "_type": "Audio"}
    assert set(features) == set(schema.names)
    _convert(corpus, tmp_path / "omni", "omnilingual")
    table = pq.read_table(tmp_path / "omni").to_pandas()
    assert set(table.columns) >= {
        "text",
        "audio_bytes",
        "audio_size",
        "corpus",
        "split",
        "language",
    }
    assert set(table["language"]) == {"hin_Deva", "mal_Mlym"}
    first = table.iloc[0]
    assert len(decode_flac(np.asarray(first["audio_bytes"]).tobytes())) == first["audio_size"]


def test_what_cannot_be_converted(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(ConfigError) as caught:
        convert_corpus(
            ConvertConfig(corpus="/nothing", output=str(tmp_path / "full"), format="kaldi")
        )
    for key in ("`corpus`", "`output`", "`format`"):
        assert key in str(caught.value)
    done = convert_corpus(
        ConvertConfig(corpus=str(corpus), output=str(tmp_path / "t"), format="openslr")
    )
    assert (done.num_written, done.num_left_out) == (4, 1)
