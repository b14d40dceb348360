"""The import directions of DESIGN.md: import-linter's contracts, and what they cannot say."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PLAIN_TORCH_PACKAGES = ("speechvq.nn", "speechvq.models")
STANDARD = set(sys.stdlib_module_names)
ALLOWED_THERE = {"torch", "numpy", "safetensors", "regex", "speechvq"} | STANDARD
ALLOWED_WHERE_USED = {"sentencepiece"}
"""Imported inside the function that needs it, so that nobody else does."""

_IMPORT_EVERYTHING = """
import importlib, pkgutil, sys

hidden = set({hidden!r})

class Hider:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {{name!r}} (hidden)", name=name)
        return None

sys.meta_path.insert(0, Hider())
names = []
for package_name in {packages!r}:
    package = importlib.import_module(package_name)
    names.append(package_name)
    for module in pkgutil.walk_packages(package.__path__, package_name + "."):
        importlib.import_module(module.name)
        names.append(module.name)
loaded = {{name.split(".")[0] for name in sys.modules}}
assert not loaded & hidden, loaded & hidden
print("\\n".join(names))
"""


def _import_everything(
    checkout: Path, packages: list[str], hidden: list[str]
) -> subprocess.CompletedProcess[str]:
    program = _IMPORT_EVERYTHING.format(packages=packages, hidden=hidden)
    return subprocess.run(
        [sys.executable, "-c", program], cwd=checkout, capture_output=True, text=True, check=False
    )


def _list_packages(checkout: Path) -> list[str]:
    files = (checkout / "speechvq").glob("*/__init__.py")
    return sorted(f"speechvq.{path.parent.name}" for path in files)


def test_contracts_hold(checkout: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout[-5000:] + process.stderr
    assert "0 broken" in process.stdout


def test_every_package_has_its_layer(checkout: Path) -> None:
    """A package that no layer names would be free to import anything."""
    settings = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["id"] == "layers")
    named = {name.strip(" ()") for layer in layers for name in layer.split("|")}
    modules = {f"speechvq.{path.stem}" for path in (checkout / "speechvq").glob("[!_]*.py")}
    assert modules | set(_list_packages(checkout)) <= named


def _list_imports(path: Path) -> list[tuple[str, bool]]:
    """Returns (top-level package, whether it is imported inside a function)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    inside = {id(child) for function in functions for child in ast.walk(function)}
    imports = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        imports += [(name.split(".")[0], id(node) in inside) for name in names]
    return imports


@pytest.mark.parametrize("package", PLAIN_TORCH_PACKAGES)
def test_model_imports_torch_numpy_and_safetensors_only(checkout: Path, package: str) -> None:
    files = sorted(checkout.joinpath(*package.split(".")).rglob("*.py"))
    assert files
    foreign = [
        (path.name, name)
        for path in files
        for name, is_inside in _list_imports(path)
        if name not in (ALLOWED_THERE | ALLOWED_WHERE_USED if is_inside else ALLOWED_THERE)
    ]
    assert foreign == []


def test_models_import_without_fairseq2_and_hydra(checkout: Path) -> None:
    hidden = ["fairseq2", "fairseq2n", "hydra", "omegaconf", "transformers", "torchaudio"]
    process = _import_everything(checkout, list(PLAIN_TORCH_PACKAGES), hidden)
    assert process.returncode == 0, process.stderr
    modules = set(process.stdout.split())
    assert {"speechvq.models", "speechvq.models.config", "speechvq.nn"} <= modules


def test_only_training_needs_the_engine_and_only_config_needs_the_front(checkout: Path) -> None:
    """Importing must not fail, nor load them: recognising works where fairseq2 has no wheel."""
    hidden = ["fairseq2", "fairseq2n", "hydra", "omegaconf", "transformers", "torchaudio"]
    rooms = [
        name
        for name in _list_packages(checkout)
        if name.split(".")[1] not in ("training", "config", "recipes", "data_prep", "conf")
    ]
    process = _import_everything(checkout, rooms, hidden)
    assert process.returncode == 0, process.stderr


def test_configs_need_no_torch(checkout: Path) -> None:
    """`--help` must answer in under a second, so no config module may load torch."""
    paths = sorted((checkout / "speechvq").glob("*/config.py"))
    names = [f"speechvq.{path.parent.name}.config" for path in paths]
    assert "speechvq.models.config" in names
    program = (
        f"import importlib, sys\nfor name in {names!r}:\n    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, name\n"
        "    assert 'fairseq2' not in sys.modules, name\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
