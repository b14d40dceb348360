"""Puts result directories side by side: `speechvq compare DIR DIR… [--output page.html]`.

Evaluations of one test set are compared with the first by a paired bootstrap test; training runs by
what differs in their configurations, their figures and their curves.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from speechvq.errors import SpeechvqError


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="speechvq compare",
        description="Compares directories of one kind: evaluations of one test set with the first "
        "of them, or training runs.",
    )
    parser.add_argument("directories", nargs="+", metavar="DIR", help="what a run left")
    parser.add_argument("--output", metavar="FILE", help="also write the table as an HTML page")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    """Prints the table and writes the page."""
    from speechvq.deploy.comparison import compare_results

    table = compare_results(options.directories)
    print(table.to_text())
    if options.output:
        table.to_page().write(options.output)
        print(f"\nThe same as a page: {options.output}")


def main() -> None:
    """Runs the verb `compare`."""
    try:
        run(parse_arguments())
    except SpeechvqError as error:
        print(f"speechvq: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
