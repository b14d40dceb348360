"""Preparation as a whole: hostile clips, nothing lost, any number of processes, interruptions."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from speechvq.data import claims, prepare
from speechvq.data.audio import decode_flac
from speechvq.data.claims import claim_output
from speechvq.data.clips import get_result_file, measure_part
from speechvq.data.config import PrepareConfig, SegmentConfig
from speechvq.data.corpus import read_corpus_info, read_utterances
from speechvq.data.prepare import prepare_corpus
from speechvq.data.prepare_plan import plan_preparation
from speechvq.data.segment_table import read_segments
from speechvq.errors import ConfigError, InterruptedRunError, NoSpaceError
from tests.unit.data.conftest import make_voice, write_manifest
from tests.unit.data.test_audio import write_media

RATE = 16_000


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory with three good clips, a long recording, and everything that goes wrong."""
    root = tmp_path_factory.mktemp("hostile") / "wild"
    root.mkdir()
    voice = make_voice(3)
    write = soundfile.write
    write(root / "good.wav", voice, RATE)
    write(root / "stereo8k.flac", np.stack([make_voice(2, rate=8000)] * 2, axis=1), 8000)
    write_media(root / "good.webm", make_voice(3, seed=5)[::-1].copy(), RATE, "libopus")
    write(root / "good.flac", make_voice(6, seed=6)[::2], RATE)
    (root / "good.flac").rename(root / "flac_inside.mp3")
    (root / "empty.wav").write_bytes(b"")
    (root / "header.wav").write_bytes((root / "good.wav").read_bytes()[:44])
    noise = (0.1 * np.random.default_rng(0).standard_normal(2 * RATE)).astype(np.float32)
    for suffix in ("wav", "mp3", "flac"):
        whole = root / f"whole.{suffix}"
        write(whole, noise, RATE)
        data = whole.read_bytes()
        (root / f"half.{suffix}").write_bytes(data[: len(data) // 2])
    broken = voice.copy()
    broken[100] = np.nan
    write(root / "nan.wav", broken, RATE, subtype="FLOAT")
    write(root / "one_frame.wav", voice[:1], RATE)
    write(root / "silence.wav", np.zeros(2 * RATE), RATE)
    click = np.zeros(2 * RATE)
    click[RATE] = 0.9
    write(root / "click.wav", click, RATE)
    write(root / "short.wav", voice[: RATE // 5], RATE)
    write(root / "book.flac", make_voice(35), RATE)
    long = [make_voice(8, seed=1), 0.001 * noise, make_voice(14, seed=2), noise * 0, make_voice(5)]
    write(root / "radio.flac", np.concatenate(long), RATE)
    write(root / "hiss.wav", noise, RATE)
    (root / "text.wav").write_text("this is no audio\n" * 50)
    (root / "declared.wav").write_bytes((root / "good.wav").read_bytes())
    (root.parent / "secret.wav").write_bytes((root / "good.wav").read_bytes())
    base: dict[str, object] = {"language": "hin_Deva", "split": "train"}
    rows: list[dict[str, object]] = [
        {"path": "good.wav", "transcript": "नमस्ते, दुनिया!", "speaker": "a"},
        {"path": "stereo8k.flac", "transcript": "२०१९ | दो", "speaker": "b"},
        {"path": "good.webm", "transcript": "?!", "split": "test", "speaker": "a"},
        {"path": "flac_inside.mp3"},
        *({"path": p} for p in ("empty.wav", "header.wav", "half.wav", "half.mp3", "half.flac")),
        *({"path": p} for p in ("nan.wav", "one_frame.wav", "silence.wav", "click.wav")),
        {"path": "short.wav"},
        {"path": "book.flac", "transcript": "क"},
        {"path": "radio.flac"},
        {"path": "hiss.wav"},
        {"path": "text.wav", "seconds": 7.5},
        {"path": "declared.wav", "seconds": 4.5},
        {"path": "missing.wav", "seconds": 2.0},
        {"path": "../secret.wav"},
        {"path": "good.wav"},
        {"path": "one_frame.wav", "language": "Hindi"},
    ]
    return write_manifest(root, [base | row for row in rows])


def _config(source: Path, output: Path, **changes: Any) -> PrepareConfig:
    config = PrepareConfig(
        input=[str(source)],
        output=str(output),
        workers=1,
        segment=SegmentConfig(max_segment_seconds=10.0),
        part_minutes=0.25,
    )
    for key, value in changes.items():
        setattr(config, key, value)
    return config


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the pieces of work in this process: the same function, without the start of a pool."""

    def run(parts: Any, function: Any, **_: Any) -> Iterator[Any]:
        for part in parts:
            yield function(part, frozenset())

    monkeypatch.setattr(prepare, "run_parts", run)


@pytest.fixture(scope="module")
def prepared(hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_corpus(_config(hostile, tmp_path_factory.mktemp("out") / "corpus"))


def _read_rejections(corpus: Path) -> list[dict[str, str]]:
    text = (corpus / "rejected.tsv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))


def test_every_bad_clip_is_set_aside_with_its_reason(prepared: Path) -> None:
    reasons = {row["path"]: row["reason"] for row in _read_rejections(prepared)}
    expected = {
        "empty.wav": "unreadable",
        "header.wav": "truncated",
        "half.wav": "truncated",
        "half.mp3": "truncated",
        "half.flac": "truncated",
        "nan.wav": "non_finite",
        "one_frame.wav": "too_short",  # its other row has an unknown language
        "silence.wav": "silent",
        "click.wav": "silent",
        "short.wav": "too_short",
        "book.flac": "too_long_transcribed",
        "radio.flac": "no_speech",
        "hiss.wav": "no_speech",
        "text.wav": "unreadable",
        "declared.wav": "truncated",
        "missing.wav": "missing_file",
        "../secret.wav": "outside_input",
        "good.wav": "duplicate",
    }
    assert reasons == expected
    all_of_one_frame = {
        r["reason"] for r in _read_rejections(prepared) if r["path"] == "one_frame.wav"
    }
    assert all_of_one_frame == {"unknown_language", "too_short"}


def test_good_clips_are_there(prepared: Path) -> None:
    found = {row.path: row for row in read_utterances(prepared) if row.path != "radio.flac"}
    assert set(found) == {"good.wav", "stereo8k.flac", "good.webm", "flac_inside.mp3"}
    good = found["good.wav"]
    assert (good.id, good.text, good.raw_text) == (
        "wild/good.wav",
        "नमस्ते दुनिया",
        "नमस्ते, दुनिया!",
    )
    assert (good.split, good.speaker, good.flags) == ("train", "a", [])
    np.testing.assert_allclose(decode_flac(good.audio), make_voice(3), atol=1e-4)
    assert good.snr_db is not None
    assert good.speech_ratio is not None
    assert 0.5 < good.speech_ratio <= 1
    stereo = found["stereo8k.flac"]
    assert (stereo.original_sample_rate, stereo.original_channels) == (8000, 2)
    assert (stereo.num_samples, stereo.flags) == (32_000, ["digits", "pipe"])
    assert found["good.webm"].split == "test"
    assert found["good.webm"].text is None  # nothing of "?!" is left
    assert found["flac_inside.mp3"].text is None


def test_a_long_recording_is_cut_at_its_pauses(prepared: Path) -> None:
    segments = [row for row in read_utterances(prepared) if row.path == "radio.flac"]
    assert len(segments) >= 4  # 8 s, 14 s in two, 5 s
    position = 0.0
    for row in segments:
        assert row.start_seconds >= position
        assert row.end_seconds - row.start_seconds == pytest.approx(row.num_seconds)
        assert 0.4 <= row.num_seconds <= 10
        assert row.id == f"wild/radio.flac#{row.start_seconds:.3f}-{row.end_seconds:.3f}"
        assert len(decode_flac(row.audio)) == row.num_samples
        position = row.end_seconds
    assert sum(row.num_seconds for row in segments) > 26


def test_hours_in_are_accepted_plus_rejected(prepared: Path) -> None:
    summary = json.loads((prepared / "summary.json").read_text())
    accepted = sum(row.num_seconds for row in read_utterances(prepared, columns=["num_samples"]))
    rejected = sum(float(row["seconds"]) for row in _read_rejections(prepared))
    assert summary["hours_accepted"] * 3600 == pytest.approx(accepted, abs=0.01)
    assert summary["hours_rejected"] * 3600 == pytest.approx(rejected, abs=0.01)
    assert summary["hours_in"] * 3600 == pytest.approx(accepted + rejected, abs=0.01)
    # What came in, counted by hand: decoded length, or as declared where nothing can be decoded.
    whole = {"good": 4 * 3 - 1, "nan": 3, "silence": 2, "click": 2, "short": 0.2, "book": 35}
    whole |= {"radio": 31, "hiss": 2, "text": 7.5, "declared": 3, "missing": 2}
    rows = _read_rejections(prepared)
    halves = sum(float(row["seconds"]) for row in rows if row["path"].startswith("half"))
    assert 1 < halves < 6
    assert summary["hours_in"] * 3600 == pytest.approx(sum(whole.values()) + halves, abs=0.1)
    assert summary["num_files"] == 23
    for key in ("by_language", "by_source", "by_split"):
        total = sum(row["hours_in"] for row in summary[key].values())
        assert total == pytest.approx(summary["hours_in"], abs=1e-4)
    (overlap,) = summary["speaker_overlaps"]
    assert overlap["speakers"] == ["a"]
    assert read_corpus_info(prepared)["normalizer"] == "basic-1"
    assert summary["flags"]["digits"] == 1


def _read_all(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def test_the_number_of_workers_changes_no_byte(
    prepared: Path, hostile: Path, tmp_path: Path
) -> None:
    other = prepare_corpus(_config(hostile, tmp_path / "corpus", workers=2))
    first, second = _read_all(prepared), _read_all(other)
    assert set(first) == set(second)
    assert {"corpus.json", "summary.json", "rejected.parquet", "report.html"} <= set(first)
    assert [name for name in first if first[name] != second[name]] == []
    assert not (other / ".prepare").exists()


def test_plan_writes_nothing(
    hostile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_corpus(_config(hostile, tmp_path / "corpus", plan=True))
    text = capsys.readouterr().out
    assert "hin_Deva     test" in text
    assert "GB free" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("in_process")
def test_shards_and_interruption_give_the_same_corpus(
    prepared: Path, hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "corpus"
    prepare_corpus(_config(hostile, output, shard="1/2"))
    assert not (output / "corpus.json").exists()
    done = len(list((output / ".prepare").glob("*.json")))
    assert 0 < done < len(plan_preparation(_config(hostile, output)).parts)

    def interrupt(part: Any, *_: Any) -> None:
        # Half of a part file is there, without its bookkeeping, as after SIGKILL.
        measure_part(part, _config(hostile, output), frozenset())
        get_result_file(output, part.index).unlink()
        raise InterruptedRunError(15, "stop")

    with monkeypatch.context() as patch:
        patch.setattr(prepare, "measure_part", lambda part, *_: interrupt(part))
        with pytest.raises(InterruptedRunError):
            prepare_corpus(_config(hostile, output, shard="0/2"))
    prepare_corpus(_config(hostile, output))
    assert _read_all(output) == _read_all(prepared)


def test_a_complete_corpus_is_left_alone(
    prepared: Path, hostile: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in prepared.rglob("*")}
    prepare_corpus(_config(hostile, prepared, workers=7))
    assert "complete already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in prepared.rglob("*")} == before


def test_half_measured_with_other_versions_is_noticed(
    in_process: None, hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    config = _config(hostile, output)
    plan = plan_preparation(config)
    claim_output(output, config, plan.rows, plan.rejections)
    claim_output(output, config, plan.rows, plan.rejections)
    monkeypatch.setattr(claims, "MEASURING_VERSION", 999)
    with pytest.raises(ConfigError, match="begun with measuring 2, but here is 999"):
        prepare_corpus(config)
    monkeypatch.undo()
    claim = json.loads((output / "prepare.json").read_text())
    claim["versions"]["silero-vad"] = "5.1"
    (output / "prepare.json").write_text(json.dumps(claim))
    with pytest.raises(ConfigError, match=r"begun with silero-vad 5\.1"):
        prepare_corpus(config)
    with pytest.raises(ConfigError, match=r"silero-vad 5\.1"):  # as a worker of a cluster sees it
        prepare._measure_part(replace(config, dask_scheduler="tcp://x"), plan.parts[0], frozenset())
    # What is measured to the end is only decided again, and says with what it was measured.
    (output / "measurements").mkdir()
    (output / "measurements" / "measured.json").write_text("{}")
    claim_output(output, config, plan.rows, plan.rejections)
    assert claims.read_measuring_versions(output)["silero-vad"] == "5.1"


def test_a_worker_of_a_cluster_uses_one_thread(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(hostile, tmp_path / "out", dask_scheduler="tcp://x")
    plan = plan_preparation(config)
    claim_output(tmp_path / "out", config, plan.rows, plan.rejections)
    monkeypatch.setattr(prepare, "measure_part", lambda *_: torch.get_num_threads())
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        seen: object = prepare._measure_part(config, plan.parts[0], frozenset())
    finally:
        torch.set_num_threads(before)
    assert seen == 1


def test_a_kill_amid_the_first_write_and_shards_that_begin_together(
    hostile: Path, tmp_path: Path
) -> None:
    config = _config(hostile, tmp_path / "out")
    plan = plan_preparation(config)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "prepare.json.tmp").write_text("{")
    with ThreadPoolExecutor(8) as threads:
        claimed = threads.map(
            lambda _: claim_output(tmp_path / "out", config, plan.rows, plan.rejections), range(32)
        )
        assert list(claimed) == [None] * 32


def test_a_shard_that_ends_after_the_corpus_is_complete_says_so(
    in_process: None, hostile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _config(hostile, tmp_path / "out")
    plan = plan_preparation(config)
    (tmp_path / "out" / "measurements").mkdir(parents=True)
    (tmp_path / "out" / "measurements" / "measured.json").write_text("{}")
    assert prepare._measure(plan, replace(config, shard="98/99"))  # which has no piece of its own
    assert "left to other shards" not in capsys.readouterr().out


def test_a_directory_of_something_else_is_refused(
    prepared: Path, hostile: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"`min_sound_seconds` is 0.2, but .* with 0.1"):
        prepare_corpus(_config(hostile, prepared, min_sound_seconds=0.2))
    other = tmp_path / "changed"
    shutil.copytree(hostile, other / "wild")
    write_manifest(other / "wild", [{"path": "good.wav", "language": "hin_Deva"}])
    with pytest.raises(ConfigError, match="`input`"):
        prepare_corpus(_config(other / "wild", prepared))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(ConfigError, match="other files"):
        prepare_corpus(_config(hostile, tmp_path / "mine"))


@pytest.mark.usefixtures("in_process")
def test_a_full_disk(hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type(shutil.disk_usage(tmp_path))(100, 90, 10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(NoSpaceError, match="needs about"):
        prepare_corpus(_config(hostile, tmp_path / "a"))


def test_the_memory_of_another_process_is_no_input(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="write it to a directory"):
        prepare_corpus(PrepareConfig(input=["memory://corpus"], output=str(tmp_path / "out")))


def test_problems_are_named_all_at_once(tmp_path: Path) -> None:
    config = PrepareConfig(
        input=[str(tmp_path / "none")], normalizer="whisper", shard="3/3", workers=-1, dev_share=0.9
    )
    with pytest.raises(ConfigError) as caught:
        prepare_corpus(config)
    text = str(caught.value)
    for key in ("`input`", "`output`", "`normalizer`", "`shard`", "`workers`", "`dev_share`"):
        assert key in text


def test_header_lie_of_24_hours_allocates_nothing(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", make_voice(1), RATE)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    position = data.index(b"data") + 4
    data[position : position + 4] = struct.pack("<I", 24 * 3600 * RATE * 2)
    (tmp_path / "a.wav").write_bytes(data)
    write_manifest(tmp_path, [{"path": "a.wav", "language": "hin_Deva"}])
    config = _config(tmp_path, tmp_path / "out")
    (part,) = plan_preparation(config).parts
    measure_part(part, config)
    (row,) = read_segments(Path(config.output), part.index).to_pylist()
    assert (row["set_aside"], row["num_samples"]) == ("truncated", RATE)


@pytest.mark.slow
def test_a_cluster_of_processes_gives_the_same_bytes(
    prepared: Path, hostile: Path, tmp_path: Path
) -> None:
    distributed = pytest.importorskip("dask.distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True
    ) as cluster:
        address = cluster.scheduler_address
        other = prepare_corpus(_config(hostile, tmp_path / "corpus", dask_scheduler=address))
    assert _read_all(other) == _read_all(prepared)


@pytest.mark.slow
def test_a_kill_anywhere_costs_nothing(prepared: Path, hostile: Path, tmp_path: Path) -> None:
    """SIGKILL to the whole process group, again and again, then once to the end."""
    output = tmp_path / "corpus"
    code = (
        "from pathlib import Path\n"
        "from tests.unit.data.test_prepare import _config, prepare_corpus\n"
        "if __name__ == '__main__':\n"
        f"    prepare_corpus(_config(Path({str(hostile)!r}), Path({str(output)!r})))\n"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for target in ("measurements", "measurements/segments-0000001.parquet", "summary.json"):
        process = subprocess.Popen(
            [sys.executable, str(script)], env=environment, start_new_session=True
        )
        deadline = time.monotonic() + 120
        while not (output / target).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    prepare_corpus(_config(hostile, output))
    left = {name: data for name, data in _read_all(output).items() if not name.endswith(".tmp")}
    assert left == _read_all(prepared)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_ten_hours_stay_under_a_gigabyte(tmp_path: Path) -> None:
    """The highest memory of the process that measures one recording of ten hours, and of the one
    that decodes it. Not from `getrusage`, whose maximum begins with that of whoever started the
    process.
    """
    pattern = np.concatenate([make_voice(25), np.zeros(5 * RATE, np.float32)])
    with soundfile.SoundFile(tmp_path / "day.flac", "w", RATE, 1) as file:
        for _ in range(1200):
            file.write(pattern)
    write_manifest(tmp_path, [{"path": "day.flac", "language": "hin_Deva"}])
    code = (
        "import os\n"
        "from pathlib import Path\n"
        "from speechvq.data import decoder\n"
        "from speechvq.data.clips import measure_part\n"
        "from speechvq.data.config import PrepareConfig\n"
        "from speechvq.data.prepare_plan import plan_preparation\n"
        f"config = PrepareConfig(input=[{str(tmp_path)!r}], output={str(tmp_path / 'out')!r})\n"
        "(part,) = plan_preparation(config).parts\n"
        "print(measure_part(part, config).num_samples)\n"
        "for process in (os.getpid(), decoder._idle[0].pid):\n"
        "    status = Path(f'/proc/{process}/status').read_text()\n"
        "    print(status.split('VmHWM:')[1].split()[0])\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    num_samples, measurer, decoding = map(int, done.stdout.split())
    assert num_samples == 36_000 * RATE
    assert 10_000 < decoding < 1_000_000
    assert measurer < 1_000_000
