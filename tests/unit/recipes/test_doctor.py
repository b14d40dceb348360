from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from recipes import doctor
from speechvq.diagnostics.check import Check, Status


def _make_checks(*statuses: Status) -> list[Check]:
    return [
        Check(
            name=f"thing{index}", purpose="a test", status=status, found="here", remedy="pip [x] it"
        )
        for index, status in enumerate(statuses)
    ]


def _run_main(
    monkeypatch: pytest.MonkeyPatch, statuses: tuple[Status, ...], *arguments: str
) -> int:
    monkeypatch.setattr(doctor, "run_checks", lambda directory: _make_checks(*statuses))
    monkeypatch.setattr(sys, "argv", ["doctor", *arguments])
    return doctor.main()


@pytest.mark.parametrize(
    ("statuses", "exit_code"),
    [
        ((Status.OK, Status.OPTIONAL), 0),
        ((Status.OK, Status.MISSING), 2),
    ],
)
def test_exit_code_is_2_only_when_something_required_is_missing(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    statuses: tuple[Status, ...],
    exit_code: int,
) -> None:
    assert _run_main(monkeypatch, statuses, "--json") == exit_code
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is (exit_code == 0)
    assert [check["status"] for check in report["checks"]] == [s.value for s in statuses]


def test_plain_report_names_each_finding_and_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _run_main(monkeypatch, (Status.MISSING, Status.OPTIONAL))
    output = capsys.readouterr().out
    assert output.count("mend: pip [x] it") == 2
    assert "Required and missing: thing0." in output
    assert "Optional and missing: 1." in output


def test_table_keeps_the_brackets_of_an_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    doctor._print_table(_make_checks(Status.MISSING))
    assert "pip [x] it" in capsys.readouterr().out


def test_works_without_any_third_party_package(checkout: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-S", "-m", "recipes.doctor", "--json"],  # -S: no site-packages
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.stderr == ""
    assert process.returncode == 2
    checks = {check["name"]: check for check in json.loads(process.stdout)["checks"]}
    assert checks["torch"]["status"] == "missing"
    assert checks["torch"]["remedy"] == 'pip install "speechvq"'
    assert checks["fairseq2"]["status"] == "optional"
    assert checks["fairseq2"]["remedy"] == 'pip install "speechvq[train]"'
    assert checks["GPU"]["status"] == "optional"
    plain = subprocess.run(
        [sys.executable, "-S", "-m", "recipes.doctor"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Required and missing: torch, " in plain.stdout


@pytest.mark.slow
def test_this_environment_is_healthy(checkout: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "recipes.doctor", "--json"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(process.stdout)
    faults = [check for check in report["checks"] if check["status"] == "missing"]
    assert process.returncode == 0, faults
    found = {check["name"]: check for check in report["checks"]}
    assert "with torch 2.9.1" in found["fairseq2"]["found"]
    assert found["libsndfile"]["status"] == "ok"
