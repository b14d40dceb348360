"""The wheel, outside the checkout: what lands where, and whether the console script works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def _run(command: list[str | Path], directory: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False
    )


def test_nothing_generic_is_at_the_top(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"speechvq"}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_wheel_holds_every_file_of_the_packages(wheel: Path, checkout: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        (
            path.relative_to(checkout)
            if folder == "speechvq"
            else "speechvq" / path.relative_to(checkout)
        ).as_posix()
        for folder in ("speechvq", "recipes", "data_prep", "conf")
        for path in (checkout / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == expected
    assert "speechvq/py.typed" in packed


def test_console_script_works_outside_the_checkout(
    wheel: Path,
    checkout: Path,
    make_environment: Callable[[], Path],
    uv: Callable[..., str],
    tmp_path: Path,
) -> None:
    python = make_environment()
    uv("pip", "install", "--python", python, "--no-deps", "--offline", wheel)
    site_packages = (
        python.parent.parent / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"
    )
    landed = {path.name for path in site_packages.iterdir()}
    assert not landed & {"conf", "recipes", "data_prep", "tests"}

    # The packages of the present environment, but not its editable speechvq: a .pth file inside a
    # folder that a .pth file names is not followed.
    (site_packages / "present.pth").write_text(sysconfig.get_path("purelib") + "\n")
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    script = python.parent / "speechvq"
    listing = _run([script, "--help"], outside)
    assert listing.returncode == 0, listing.stderr
    for path in (checkout / "recipes").glob("[!_]*.py"):
        assert f"  {'import' if path.stem == 'import_model' else path.stem} " in listing.stdout

    doctor = _run([script, "doctor", "--json"], outside)
    assert doctor.stderr == ""
    missing = {c["name"] for c in json.loads(doctor.stdout)["checks"] if c["status"] == "missing"}
    assert missing <= {"fairseq2"}  # its libraries lie in the other environment's folder
    where = _run([python, "-c", "import speechvq.cli as c; print(c.__file__)"], outside)
    assert Path(where.stdout.strip()).is_relative_to(site_packages)
    assert _run([script, "docter"], outside).returncode == 2


def test_every_hydra_verb_prints_its_config_from_the_wheel(
    wheel: Path,
    checkout: Path,
    make_environment: Callable[[], Path],
    uv: Callable[..., str],
    tmp_path: Path,
) -> None:
    """`conf` is found inside the package, not only in the checkout."""
    verbs = [
        path.stem
        for folder in ("recipes", "data_prep")
        for path in (checkout / folder).glob("[!_]*.py")
        if "launch(" in path.read_text(encoding="utf-8")
    ]
    if not verbs:
        pytest.skip("no verb is a Hydra application yet")
    python = make_environment()
    uv("pip", "install", "--python", python, "--no-deps", "--offline", wheel)
    site_packages = (
        python.parent.parent / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"
    )
    (site_packages / "present.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for verb in verbs:
        process = _run([python.parent / "speechvq", verb, "--cfg", "job"], tmp_path)
        assert process.returncode == 0, f"{verb}: {process.stderr[-2000:]}"
        assert any(key in process.stdout for key in ("output: ", "corpus: ")), verb
