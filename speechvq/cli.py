"""The console script: `speechvq <verb> …` does what `python -m recipes.<verb> …` does.

The verbs are the modules of `recipes` and `data_prep`; each one's docstring is its line in the
help. They are found without being imported, so the help is instant.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from speechvq import __version__

_ENTRY_POINTS = ("data_prep", "recipes")
_VERB_NAMES = {"import_model": "import"}
"""Module to verb where the verb is a word of Python."""
_ORDER = (
    *(
        "doctor",
        "demo",
        "fetch",
        "prepare",
        "pretrain",
        "finetune",
        "self_train",
        "train_lm",
        "tune_lm",
        "evaluate",
        "transcribe",
    ),
    *(
        "analyze",
        "bottleneck",
        "concepts",
        "steer",
        "tokfsm",
        "compress",
        "card",
        "export",
        "import",
    ),
    "convert",
    *("compare", "benchmark"),
)
"""The help follows the way of the data; a verb that is not named here comes after these."""
_USAGE_EXIT_CODE = 2


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A module with a `main()` that a user can start.

    Args:
        name: What the user types.
        package: "recipes" or "data_prep".
        path: The module's file.
    """

    name: str
    package: str
    path: Path

    def read_description(self) -> str:
        """Returns the first line of the module's docstring, without importing the module."""
        docstring = ast.get_docstring(ast.parse(self.path.read_text(encoding="utf-8")))
        return (docstring or "").partition("\n")[0].rstrip(".")


def _find_parent(package: str) -> Path | None:
    """Returns the folder that holds `package`: speechvq itself (a wheel) or the checkout."""
    inside = Path(__file__).resolve().parent
    return next(
        (p for p in (inside, inside.parent) if (p / package / "__init__.py").is_file()), None
    )


def list_verbs() -> dict[str, Verb]:
    """Returns the verbs that are there, in the order of the help."""
    verbs = {}
    for package in _ENTRY_POINTS:
        parent = _find_parent(package)
        for path in sorted(parent.joinpath(package).glob("[!_]*.py")) if parent else ():
            name = _VERB_NAMES.get(path.stem, path.stem)
            verbs[name] = Verb(name=name, package=package, path=path)
    rank = {name: position for position, name in enumerate(_ORDER)}
    return dict(sorted(verbs.items(), key=lambda item: (rank.get(item[0], len(rank)), item[0])))


def run_verb(verb: Verb, arguments: Sequence[str]) -> int:
    """Calls the `main()` of a verb with `arguments` as its command line.

    Returns:
        The exit code.
    """
    module_name = f"{verb.package}.{verb.path.stem}"
    parent = verb.path.parent.parent
    if parent == Path(__file__).resolve().parent:
        module_name = f"speechvq.{module_name}"
    else:
        # Before anything else of that name, for example a folder `recipes` of the user's own.
        sys.path.insert(0, str(parent))
    sys.argv = [f"speechvq {verb.name}", *arguments]
    result = importlib.import_module(module_name).main()
    return result if isinstance(result, int) else 0


def _format_help(verbs: dict[str, Verb]) -> str:
    width = max(map(len, verbs), default=0)
    lines = [f"  {name:<{width}}  {verb.read_description()}" for name, verb in verbs.items()]
    return "\n".join(
        [
            "usage: speechvq VERB [key=value …]",
            "",
            "Untranscribed speech of many languages becomes codes, recognisers and reports.",
            "",
            *lines,
            "",
            "speechvq VERB --help tells the keys or flags of one verb.",
        ]
    )


def _format_unknown(name: str, verbs: dict[str, Verb]) -> str:
    close = difflib.get_close_matches(name, verbs, n=1)
    advice = f"did you mean `{close[0]}`?" if close else f"the verbs are {', '.join(verbs)}."
    return f"speechvq: `{name}` is not a verb; {advice} `speechvq --help` lists them."


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the verb that the command line names.

    Args:
        argv: The command line without the program's name; by default the process's.

    Returns:
        The exit code: the verb's own, or 2 for an unknown verb.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    verbs = list_verbs()
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_format_help(verbs))
        return 0
    if arguments[0] == "--version":
        print(f"speechvq {__version__}")
        return 0
    verb = verbs.get(arguments[0].replace("-", "_"))
    if verb is None:
        print(_format_unknown(arguments[0], verbs), file=sys.stderr)
        return _USAGE_EXIT_CODE
    return run_verb(verb, arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
