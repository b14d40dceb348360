from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from speechvq.diagnostics import packages
from speechvq.diagnostics.check import Status

Versions = Callable[..., None]


@pytest.fixture
def set_versions(monkeypatch: pytest.MonkeyPatch) -> Versions:
    """Pretends that packages have other versions; None hides one."""

    def set_all(**versions: str | None) -> None:
        real = metadata.version

        def get(name: str) -> str:
            version = versions[name] if name in versions else real(name)
            if version is None:
                raise metadata.PackageNotFoundError(name)
            return version

        monkeypatch.setattr(packages.metadata, "version", get)

    return set_all


@pytest.mark.parametrize(
    ("version", "status"),
    [((3, 10, 2), "missing"), ((3, 11, 0), "ok"), ((3, 12, 9), "ok"), ((3, 13, 0), "optional")],
)
def test_python_version(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], status: str
) -> None:
    monkeypatch.setattr(packages.sys, "version_info", version)
    check = packages.check_python()
    assert check.status.value == status
    assert (check.remedy is None) == (status == "ok")


def test_wrong_torch_is_a_conflict(set_versions: Versions) -> None:
    set_versions(torch="2.10.0")
    check = packages.check_fairseq2()
    assert check.status is Status.MISSING
    assert "needs torch 2.9.1, not 2.10.0" in check.found
    assert check.remedy == 'pip install "speechvq[train]"'


def test_local_label_of_torch_is_no_conflict() -> None:
    assert packages._find_version_conflicts("0.8.1", "0.8.1", "2.9.1+cpu") == []


def test_halves_of_fairseq2_must_agree() -> None:
    conflicts = packages._find_version_conflicts("0.8.1", "0.8.0", "2.9.1")
    assert conflicts == ["fairseq2 is 0.8.1 but fairseq2n 0.8.0"]


def test_missing_fairseq2_is_optional(set_versions: Versions) -> None:
    set_versions(fairseq2=None)
    assert packages.check_fairseq2().status is Status.OPTIONAL


def test_damaged_package_is_told_from_a_missing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, set_versions: Versions
) -> None:
    (tmp_path / "brokenpkg.py").write_text("raise OSError('libfoo.so: cannot open')")
    monkeypatch.syspath_prepend(str(tmp_path))
    set_versions(brokenpkg="1.2")
    broken = packages._check_package("brokenpkg", "a test", extra="prep")
    assert broken.status is Status.MISSING
    assert "libfoo.so: cannot open" in broken.found
    assert "--force-reinstall" in (broken.remedy or "")
    assert "brokenpkg" not in sys.modules

    absent = packages._check_package("absentpkg", "a test", extra="prep")
    assert absent.status is Status.OPTIONAL
    assert absent.remedy == 'pip install "speechvq[prep]"'
