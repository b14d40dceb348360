from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from speechvq.diagnostics import machine
from speechvq.diagnostics.check import Status


def test_disk_of_a_directory_that_is_not_there_yet(tmp_path: Path) -> None:
    check = machine.check_disk(tmp_path / "not" / "yet")
    assert float(check.found.split()[0]) > 0
    assert str(tmp_path / "not" / "yet") in check.purpose


def test_small_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_ENOUGH_DISK_GIB", 1e9)
    check = machine.check_disk(tmp_path)
    assert check.status is Status.OPTIONAL
    assert check.remedy is not None


def test_memory_is_the_containers_where_there_is_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self: f"{3 * 2**30}\n")
    check = machine.check_memory()
    assert check.found == "3.0 GiB"
    assert check.status is Status.OPTIONAL
    monkeypatch.setattr(Path, "read_text", lambda self: "max\n")
    assert machine.check_memory().found != "3.0 GiB"


def test_gpu_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "torch":
            raise ModuleNotFoundError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    check = machine.check_gpu()
    assert check.status is Status.OPTIONAL
    assert "ModuleNotFoundError" in check.found


def test_compiler_and_espeak_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None)
    assert machine.check_compiler().status is Status.OPTIONAL
    assert machine.check_espeak().remedy == 'pip install "speechvq[demo]"'
