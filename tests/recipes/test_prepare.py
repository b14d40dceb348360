"""`python -m data_prep.prepare` from the outside: exit codes, messages, real speech."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def _run(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "data_prep.prepare", *arguments],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )


def test_bad_configuration_is_exit_2_before_anything_is_written(
    checkout: Path, tmp_path: Path
) -> None:
    done = _run(checkout, f"input={tmp_path}/none", f"output={tmp_path}/out", "normalizer=x")
    assert done.returncode == 2
    assert "`input`" in done.stderr
    assert "`normalizer`" in done.stderr
    assert "Traceback" not in done.stderr
    done = _run(checkout, f"input={tmp_path}", f"output={tmp_path}/out", "outputs=1")
    assert done.returncode == 2
    assert "`outputs`" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_directory_without_manifest_says_what_to_do(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    done = _run(checkout, f"input={tmp_path}/in", f"output={tmp_path}/out")
    assert done.returncode == 2
    assert "manifest.tsv" in done.stderr
    assert not (tmp_path / "out").exists()


def test_real_speech(checkout: Path, shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "kannada"
    output = tmp_path / "corpus"
    done = _run(checkout, f"input={source}", f"output={output}", "workers=2", "part_minutes=5")
    assert done.returncode == 0, done.stderr
    summary = json.loads((output / "summary.json").read_text())
    assert summary["num_files"] == 100
    assert summary["num_utterances"] == 98
    assert summary["rejected_by_reason"]["too_long_transcribed"]["count"] == 2
    lines = (source / "manifest.tsv").read_text(encoding="utf-8").splitlines()[1:]
    declared = sum(float(line.split("\t")[4]) for line in lines)
    assert summary["hours_in"] * 3600 == pytest.approx(declared, abs=0.1)
    total = summary["hours_accepted"] + summary["hours_rejected"]
    assert summary["hours_in"] == pytest.approx(total, abs=1e-5)
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "Kannada" in page
    assert "too_long_transcribed" in page


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_goes_on(
    checkout: Path, shared_data: Path, tmp_path: Path, number: int, code: int
) -> None:
    arguments = [f"input={shared_data / 'kannada'}", f"output={tmp_path / 'c'}", "workers=1"]
    arguments += ["part_minutes=1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "data_prep.prepare", *arguments],
        cwd=checkout,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    state = tmp_path / "c" / ".prepare"
    deadline = time.monotonic() + 120
    while not list(state.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, number)
    _, message = process.communicate(timeout=60)
    assert process.returncode == code, message
    assert "the same command goes on" in message
    done = len(list(state.glob("*.json")))
    assert done > 0
    again = _run(checkout, *arguments)
    assert again.returncode == 0, again.stderr
    assert "are done already" in again.stderr
    assert (tmp_path / "c" / "corpus.json").exists()
