"""Command lines of the verbs that take ordinary flags, where a path may be a word or a flag:
`verb A B`, `verb --model A --output B` and `verb A --output B` mean the same.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from speechvq.errors import SpeechvqError


def add_word_or_flag(parser: argparse.ArgumentParser, name: str, *, help: str) -> None:
    """Adds a path that has to be given once, as a word or with `--NAME`.

    Args:
        parser: The verb's.
        name: Of the flag, and of the value in what `parse_words_and_flags` returns.
        help: What it is.
    """
    parser.add_argument(name, nargs="?", help=help)
    parser.add_argument(
        f"--{name}", dest=_name_flag(name), metavar="DIR", help=f"the same as {name}"
    )


def parse_words_and_flags(
    parser: argparse.ArgumentParser, names: Sequence[str], arguments: Sequence[str] | None
) -> argparse.Namespace:
    """Parses a command line; a mistake ends the process with exit code 2, as argparse does.

    Args:
        parser: The verb's.
        names: What `add_word_or_flag` added.
        arguments: The command line without the program's name; by default the process's.

    Returns:
        The values by their names.
    """
    options = parser.parse_intermixed_args(arguments)  # flags may stand between words
    for name in names:
        word, flag = getattr(options, name), getattr(options, _name_flag(name))
        if (word is None) == (flag is None):
            parser.error(f"{name} must be given once, as a word or with --{name}")
        setattr(options, name, flag if word is None else word)
        delattr(options, _name_flag(name))
    return options


def run_verb(
    run: Callable[[argparse.Namespace], object], parse: Callable[[], argparse.Namespace]
) -> None:
    """Parses the process's command line and runs a verb; an error of ours ends the process with its
    sentence and its exit code.

    Args:
        run: The verb.
        parse: Returns its options.
    """
    try:
        run(parse())
    except SpeechvqError as error:
        print(f"speechvq: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _name_flag(name: str) -> str:
    return f"{name}_flag"
