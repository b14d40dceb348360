"""Re-deciding and deleting: what was decided follows the limits, and what is deleted is nowhere."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest
import soundfile

from data_prep.forget import run
from speechvq.data import prepare
from speechvq.data.config import DecideConfig, ForgetConfig, PrepareConfig, SegmentConfig
from speechvq.data.corpus import read_utterances
from speechvq.data.forget import forget
from speechvq.data.prepare import prepare_corpus
from speechvq.data.writing import write_part_file
from speechvq.errors import ConfigError, DataError
from tests.unit.data.conftest import make_voice, write_manifest

RATE = 16_000


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PrepareConfig]:
    """A corpus of four speakers, one of whom speaks in two recordings, one of them rejected."""
    root = tmp_path_factory.mktemp("forget")
    source, rows = root / "voices", []
    source.mkdir()
    for number in range(6):
        speaker = "secretanna" if number in (1, 4) else f"s{number}"
        name = f"{'secretanna' if speaker == 'secretanna' else 'clip'}{number}.flac"
        voice = make_voice(2 + 0.7 * number, seed=number)
        soundfile.write(source / name, 1e-5 * voice if number == 4 else voice, RATE)
        rows.append({"path": name, "language": "hin_Deva", "speaker": speaker})
    write_manifest(source, rows)
    config = PrepareConfig(
        input=[str(source)], output=str(root / "corpus"), workers=1, part_minutes=0.1
    )
    with pytest.MonkeyPatch.context() as patch:
        # The same function, without the start of a pool.
        patch.setattr(
            prepare, "run_parts", lambda parts, function, **_: (function(p, set()) for p in parts)
        )
        prepare_corpus(config)
    return root / "corpus", config


@pytest.fixture
def corpus(original: tuple[Path, PrepareConfig], tmp_path: Path) -> Path:
    shutil.copytree(original[0], tmp_path / "corpus")
    return tmp_path / "corpus"


def _read_all(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def _assert_forgotten(corpus: Path, name: str) -> None:
    """Looks into every cell of every table and every byte of every other file."""
    for path in corpus.rglob("*"):
        if path.suffix == ".parquet":
            cells = pq.ParquetFile(path).read().to_pylist()
            assert name not in repr(cells), path
        elif path.is_file():
            assert name.encode() not in path.read_bytes(), path


def test_a_speaker_is_forgotten_everywhere(corpus: Path) -> None:
    before = {row.id: row for row in read_utterances(corpus)}
    gone = forget(ForgetConfig(corpus=str(corpus), speaker="secretanna"))
    assert (gone.num_utterances, gone.num_rejected) == (1, 1)
    assert gone.seconds == pytest.approx(2.7 + 4.8, abs=0.01)
    _assert_forgotten(corpus, "secretanna")
    after = {row.id: row for row in read_utterances(corpus)}
    assert after == {name: row for name, row in before.items() if row.speaker != "secretanna"}
    summary = json.loads((corpus / "summary.json").read_text())
    assert summary["num_utterances"] == len(after) == 4
    assert summary["num_files"] == 4
    assert "silent" not in summary["rejected_by_reason"]
    clips = sum(pq.read_metadata(path).num_rows for path in corpus.glob("measurements/audio-*"))
    assert clips == 4


def test_what_was_published_is_forgotten_by_the_command_that_is_named(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "memory://bucket/corpus"
    limits = DecideConfig(min_seconds=2.5, max_tone_share=None)
    prepare_corpus(PrepareConfig(output=str(corpus), decide=limits, publish=url))
    store = fsspec.filesystem("memory").store

    def find(name: bytes) -> list[str]:
        return [path for path, file in store.items() if name in file.getvalue()]

    assert {Path(path).suffix for path in find(b"secretanna")} == {".parquet", ".tsv"}
    assert not [path for path in store if "measurements" in path or path.endswith(".html")]
    run(ForgetConfig(corpus=str(corpus), speaker="secretanna"))
    command = capsys.readouterr().out.splitlines()[-1].strip()
    assert command == (
        f"speechvq prepare output={corpus} decide.min_seconds=2.5 decide.max_tone_share=null"
        f" publish={url}"
    )
    assert find(b"secretanna"), "not before it is published again"
    prepare_corpus(PrepareConfig(output=str(corpus), decide=limits, publish=url))
    assert "is complete already" in capsys.readouterr().out, "nothing was decided anew"
    assert not find(b"secretanna")
    assert find(b"clip5.flac")
    store.clear()


def test_deciding_again_does_not_bring_it_back(corpus: Path) -> None:
    forget(ForgetConfig(corpus=str(corpus), recording="clip0.flac"))
    prepare_corpus(PrepareConfig(output=str(corpus), decide=DecideConfig(min_seconds=3.0)))
    _assert_forgotten(corpus, "clip0.flac")
    found = {row.path: row for row in read_utterances(corpus)}
    assert set(found) == {"clip2.flac", "clip3.flac", "clip5.flac"}


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_an_interrupted_deletion_goes_on(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """Killed before one of the renamings, from the first to the last, in either phase."""
    config = ForgetConfig(corpus=str(corpus), speaker="secretanna")
    whole = corpus.with_name("whole")
    shutil.copytree(corpus, whole)
    rename, count, victim = Path.replace, 0, -1

    def die(self: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count == victim + 1:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", die)
        forget(replace(config, corpus=str(whole)))
        count, victim = 0, round(share * (count - 1))
        with pytest.raises(KeyboardInterrupt):
            forget(config)
    if victim:
        assert not (corpus / "corpus.json").exists()
        with pytest.raises(ConfigError, match="interrupted"):
            prepare_corpus(PrepareConfig(output=str(corpus)))
        config = ForgetConfig(corpus=str(corpus))
    forget(config)
    left = {name: data for name, data in _read_all(corpus).items() if not name.endswith(".tmp")}
    assert left == _read_all(whole)


def test_what_is_not_there(corpus: Path) -> None:
    with pytest.raises(DataError, match="no speaker nobody"):
        forget(ForgetConfig(corpus=str(corpus), speaker="nobody"))
    with pytest.raises(DataError, match="no speaker secretanna"):
        forget(ForgetConfig(corpus=str(corpus), speaker="secretanna", source="other"))
    with pytest.raises(ConfigError, match="Either `recording` or `speaker`"):
        forget(ForgetConfig(corpus=str(corpus)))
    assert (corpus / "corpus.json").exists()


def test_other_limits_decode_nothing(
    original: tuple[Path, PrepareConfig],
    corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("speechvq.data.prepare.run_parts", None)
    before = _read_all(corpus)
    limits = DecideConfig(min_seconds=3.0)
    prepare_corpus(PrepareConfig(output=str(corpus), decide=limits, decide_only=True))
    assert "too_short" in capsys.readouterr().out
    assert _read_all(corpus) == before
    prepare_corpus(PrepareConfig(output=str(corpus), decide=limits))
    lengths = [row.num_seconds for row in read_utterances(corpus, columns=["num_samples"])]
    assert lengths
    assert min(lengths) >= 3
    prepare_corpus(PrepareConfig(output=str(corpus)))
    assert _read_all(corpus) == before
    with pytest.raises(ConfigError, match=r"`segment.min_seconds` is 0.5, but .* with 0.4"):
        prepare_corpus(PrepareConfig(output=str(corpus), segment=SegmentConfig(min_seconds=0.5)))
    same = replace(original[1], output=str(corpus), decide=limits)
    prepare_corpus(same)  # with `input`, too
    assert min(r.num_seconds for r in read_utterances(corpus, columns=["num_samples"])) >= 3


def test_deciding_again_survives_a_kill(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = PrepareConfig(output=str(corpus), decide=DecideConfig(min_seconds=2.5))
    whole = corpus.with_name("whole")
    shutil.copytree(corpus, whole)
    prepare_corpus(replace(config, output=str(whole)))
    count = 0

    def die(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        return write_part_file(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(prepare, "write_part_file", die)
        with pytest.raises(KeyboardInterrupt):
            prepare_corpus(config)
    assert not (corpus / "corpus.json").exists()
    prepare_corpus(config)
    assert _read_all(corpus) == _read_all(whole)


def test_measurements_need_not_be_kept(corpus: Path) -> None:
    prepare_corpus(PrepareConfig(output=str(corpus), keep_measurements=False))
    assert list(corpus.glob("measurements/audio-*")) == []
    assert len(list(read_utterances(corpus))) == 5
    limits = DecideConfig(min_seconds=3.0)
    prepare_corpus(PrepareConfig(output=str(corpus), decide=limits, decide_only=True))
    with pytest.raises(ConfigError, match="keep_measurements"):
        prepare_corpus(PrepareConfig(output=str(corpus), decide=limits))
    forget(ForgetConfig(corpus=str(corpus), speaker="secretanna"))
    _assert_forgotten(corpus, "secretanna")
