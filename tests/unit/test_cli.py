from __future__ import annotations

import importlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import speechvq
from speechvq import cli

Tree = Callable[[dict[str, str]], Path]


@pytest.fixture
def make_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """Writes a checkout with the given modules and makes the console script believe in it."""

    def make(modules: dict[str, str]) -> Path:
        for name in ("speechvq/cli.py", "recipes/__init__.py", "data_prep/__init__.py", *modules):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(modules.get(name, ""), encoding="utf-8")
        monkeypatch.setattr(cli, "__file__", str(tmp_path / "speechvq" / "cli.py"))
        return tmp_path

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    saved = {name: sys.modules.pop(name, None) for name in ("recipes", "data_prep")}
    importlib.invalidate_caches()
    yield make
    for name in [name for name in sys.modules if name.split(".")[0] in saved]:
        del sys.modules[name]
    sys.modules.update({name: module for name, module in saved.items() if module})


def test_help_lists_every_verb_with_its_description(checkout: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "speechvq.cli", "--help"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = {line.split()[0]: line for line in process.stdout.splitlines() if line.startswith("  ")}
    modules = [*(checkout / "recipes").glob("[!_]*.py"), *(checkout / "data_prep").glob("[!_]*.py")]
    expected = {"import" if path.stem == "import_model" else path.stem for path in modules}
    assert set(lines) == expected
    assert all(len(line.split()) >= 4 for line in lines.values()), "a verb without description"


def test_help_is_fast_and_loads_nothing_heavy(checkout: Path) -> None:
    program = (
        "import sys; from speechvq.cli import main; main(['--help']); "
        "print(sorted({n.split('.')[0] for n in sys.modules}), file=sys.stderr)"
    )
    start = time.perf_counter()
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=checkout, capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - start
    for heavy in ("torch", "numpy", "hydra", "omegaconf", "rich", "recipes", "data_prep"):
        assert f"'{heavy}'" not in process.stderr
    assert seconds < 5  # 0.1 s on an idle machine; the list above is the real check


def test_no_arguments_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    first = capsys.readouterr().out
    assert cli.main(["--help"]) == 0
    assert capsys.readouterr().out == first
    assert first.startswith("usage: speechvq")


def test_unknown_verb_exits_2_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["docter"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "`docter`" in captured.err
    assert "did you mean `doctor`?" in captured.err


def test_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"speechvq {speechvq.__version__}\n"


def test_verb_runs_with_its_arguments_shifted(
    make_tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    make_tree({"recipes/train_lm.py": "import sys\ndef main(): print(sys.argv)\n"})
    assert cli.main(["train_lm", "order=3", "--help"]) == 0
    assert capsys.readouterr().out.strip() == "['speechvq train_lm', 'order=3', '--help']"
    assert cli.main(["train-lm"]) == 0


def test_exit_code_is_the_verbs_own(make_tree: Tree) -> None:
    make_tree({"recipes/fail.py": "def main(): return 3\n"})
    assert cli.main(["fail"]) == 3


def test_prepare_and_import_are_found_under_their_names(
    make_tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = make_tree(
        {
            "data_prep/prepare.py": "def main(): print('prepared')\n",
            "recipes/import_model.py": '"""Brings a model in."""\ndef main(): print("imported")\n',
            "recipes/_private.py": "",
        }
    )
    assert list(cli.list_verbs()) == ["prepare", "import"]
    assert cli.list_verbs()["import"].read_description() == "Brings a model in"
    assert cli.main(["prepare"]) == 0
    assert cli.main(["import"]) == 0
    assert capsys.readouterr().out.split() == ["prepared", "imported"]
    assert tree.is_dir()


def test_verbs_inside_the_package_win_over_the_ones_beside_it(make_tree: Tree) -> None:
    tree = make_tree(
        {
            "speechvq/recipes/__init__.py": "",
            "speechvq/recipes/inside.py": "",
            "recipes/beside.py": "",
        }
    )
    verbs = cli.list_verbs()
    assert list(verbs) == ["inside"]
    assert verbs["inside"].path == tree.resolve() / "speechvq" / "recipes" / "inside.py"


def test_a_foreign_recipes_package_does_not_shadow_ours(
    make_tree: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = tmp_path / "foreign"
    (foreign / "recipes").mkdir(parents=True)
    (foreign / "recipes" / "__init__.py").touch()
    (foreign / "recipes" / "bake.py").write_text("def main(): print('a cake')\n")
    make_tree({"recipes/bake.py": "def main(): print('ours')\n"})
    sys.path.insert(0, str(foreign))
    assert cli.main(["bake"]) == 0
    assert capsys.readouterr().out.strip() == "ours"
