from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest

from speechvq.diagnostics import libsndfile
from speechvq.diagnostics.check import Status
from speechvq.diagnostics.libsndfile import LinkError, check_libsndfile, link_libsndfile


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty environment on a system that has no libsndfile of its own."""
    real_can_load = libsndfile._can_load

    def can_load(path: str) -> bool:
        return "/" in path and real_can_load(path)  # a bare name asks the system

    monkeypatch.setattr(libsndfile, "_can_load", can_load)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    site_packages = tmp_path / "lib" / "python3.11" / "site-packages"
    monkeypatch.setattr(libsndfile.site, "ENABLE_USER_SITE", False)
    monkeypatch.setattr(libsndfile.site, "getsitepackages", lambda: [str(site_packages)])
    return tmp_path


def test_link_lets_fairseq2_find_the_bundled_library(environment: Path) -> None:
    assert libsndfile.find_libsndfile() is None
    message = link_libsndfile()
    link = environment / "lib" / libsndfile.get_library_name()
    assert str(link) in message
    assert libsndfile.find_libsndfile() == str(link)
    assert ctypes.CDLL(str(link)).sf_version_string is not None
    assert "nothing to do" in link_libsndfile()


def test_stale_link_is_replaced(environment: Path) -> None:
    link = environment / "lib" / libsndfile.get_library_name()
    link.parent.mkdir()
    link.symlink_to(environment / "gone.so")
    link_libsndfile()
    assert link.exists()


def test_link_inside_the_environment_is_relative(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled = libsndfile.find_bundled_library()
    assert bundled is not None
    copy = environment / "lib" / "python3.11" / "site-packages" / "_soundfile_data" / bundled.name
    copy.parent.mkdir(parents=True)
    copy.write_bytes(bundled.read_bytes())
    monkeypatch.setattr(libsndfile, "find_bundled_library", lambda: copy)
    link_libsndfile()
    link = environment / "lib" / libsndfile.get_library_name()
    assert not link.readlink().is_absolute()
    assert link.resolve() == copy.resolve()


def test_no_bundled_library_says_what_to_install(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libsndfile, "find_bundled_library", lambda: None)
    with pytest.raises(LinkError, match="apt install libsndfile1"):
        link_libsndfile()
    assert not (environment / "lib").exists()


@pytest.mark.usefixtures("environment")
def test_check_names_the_command_that_mends_it() -> None:
    check = check_libsndfile()
    assert check.status is Status.MISSING  # fairseq2n is installed here, so it is needed
    assert check.remedy == "speechvq doctor --link-libsndfile"


def test_library_name_on_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libsndfile.platform, "system", lambda: "Darwin")
    assert libsndfile.get_library_name() == "libsndfile.1.dylib"
