"""The lock files say what pyproject.toml asks for, with hashes, and name no package index."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

LOCKS = ("uv", "build", "base", "train", "dev")
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)(.*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def project(checkout: Path) -> dict[str, Any]:
    settings = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    return dict(settings["project"])


def _read_pins(checkout: Path, lock: str) -> dict[str, Version]:
    text = (checkout / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
    return {canonicalize_name(pin[1]): Version(pin[2]) for pin in _PIN.finditer(text)}


def _find_unmet(requirements: list[str], pins: dict[str, Version]) -> list[str]:
    unmet = []
    for requirement in map(Requirement, requirements):
        pin = pins.get(canonicalize_name(requirement.name))
        if requirement.name != "speechvq" and (pin is None or pin not in requirement.specifier):
            unmet.append(f"{requirement}, locked: {pin}")
    return unmet


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash_and_no_index_is_named(checkout: Path, lock: str) -> None:
    text = (checkout / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert entries
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert not re.search(r"index-url|find-links|trusted-host|://", text)


def test_dev_lock_fulfils_every_tier(checkout: Path, project: dict[str, Any]) -> None:
    """Fails when pyproject.toml was changed and `make lock` forgotten."""
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    assert _find_unmet(wanted, _read_pins(checkout, "dev")) == []


def test_tier_locks_agree_with_the_one_that_is_tested(
    checkout: Path, project: dict[str, Any]
) -> None:
    dev = _read_pins(checkout, "dev")
    base, train = _read_pins(checkout, "base"), _read_pins(checkout, "train")
    assert base.items() <= dev.items()
    assert train.items() <= dev.items()
    assert _find_unmet(project["dependencies"], base) == []
    assert _find_unmet(project["optional-dependencies"]["train"], train) == []
    assert not {"fairseq2", "fairseq2n", "transformers"} & base.keys()


def test_all_is_every_tier_of_a_user(project: dict[str, Any]) -> None:
    extras = project["optional-dependencies"]
    (whole,) = map(Requirement, extras["all"])
    assert whole.extras == extras.keys() - {"all", "dev"}


def test_this_environment_fulfils_every_tier(project: dict[str, Any]) -> None:
    """What the tests run in is what the tiers promise."""
    installed = {
        canonicalize_name(distribution.name): Version(distribution.version)
        for distribution in metadata.distributions()
    }
    for extra, requirements in project["optional-dependencies"].items():
        assert _find_unmet(requirements, installed) == [], extra
    assert _find_unmet(project["dependencies"], installed) == []


def test_make_venv_says_how_to_get_python(checkout: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "dirname", "cat", "sed"):
        path = shutil.which(tool)
        assert path is not None
        (tools / tool).symlink_to(path)
    wrong = tools / "python3"  # a Python of another version
    wrong.write_text("#!/bin/sh\nexit 1\n")
    wrong.chmod(0o755)
    process = subprocess.run(
        ["bash", checkout / "requirements" / "make_venv.sh", tmp_path / "venv"],
        env={"PATH": str(tools), "HOME": os.environ.get("HOME", str(tmp_path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert "Python 3.11 was not found" in process.stderr
    assert "make PYTHON=/path/to/python3.11" in process.stderr
    assert not (tmp_path / "venv").exists()
