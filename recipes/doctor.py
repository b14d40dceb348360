"""Tells what this machine lacks, and the command that mends each.

Exit code 0: nothing that is required is missing; 2: something is. Works with nothing installed but
speechvq itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from speechvq.diagnostics.check import Check, Status
from speechvq.diagnostics.libsndfile import check_libsndfile, link_libsndfile
from speechvq.diagnostics.machine import (
    check_compiler,
    check_cores,
    check_disk,
    check_espeak,
    check_gpu,
    check_memory,
)
from speechvq.diagnostics.packages import (
    check_base_packages,
    check_extra_packages,
    check_fairseq2,
    check_python,
)
from speechvq.errors import SpeechvqError


def run_checks(directory: Path) -> list[Check]:
    """Runs every check; `directory` is where the disk is looked at."""
    return [
        check_python(),
        *check_base_packages(),
        check_fairseq2(),
        check_libsndfile(),
        *check_extra_packages(),
        check_espeak(),
        check_gpu(),
        check_compiler(),
        check_cores(),
        check_memory(),
        check_disk(directory),
    ]


def _print_lines(checks: Sequence[Check]) -> None:
    width = max(len(check.name) for check in checks)
    for check in checks:
        print(f"{check.status.value:<8}  {check.name:<{width}}  {check.found}")
        if check.remedy is not None:
            indent = " " * (width + 12)
            print(textwrap.indent(f"for:  {check.purpose}\nmend: {check.remedy}", indent))


def _print_table(checks: Sequence[Check]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {Status.OK: "green", Status.OPTIONAL: "yellow", Status.MISSING: "bold red"}
    table = Table("", "what", "found", "needed for", "how to mend it")
    for check in checks:
        status = Text(check.status.value, style=colours[check.status])
        # Text, not markup: `speechvq[train]` would vanish as a style.
        cells = (check.name, check.found, check.purpose, check.remedy or "")
        table.add_row(status, *map(Text, cells))
    Console().print(table)


def _print_report(checks: Sequence[Check]) -> None:
    try:
        if sys.stdout.isatty():
            _print_table(checks)
        else:
            _print_lines(checks)
    except ImportError:  # rich may be what is missing
        _print_lines(checks)
    missing = [check.name for check in checks if check.status is Status.MISSING]
    optional = sum(check.status is Status.OPTIONAL for check in checks)
    if missing:
        print(f"Required and missing: {', '.join(missing)}.", end=" ")
    else:
        print("Nothing required is missing.", end=" ")
    print(f"Optional and missing: {optional}.")


def main() -> int:
    """Parses the flags, checks, prints, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--directory", type=Path, default=Path(), help="where data will be written (default: here)"
    )
    parser.add_argument(
        "--link-libsndfile",
        action="store_true",
        help="link soundfile's libsndfile to where fairseq2 looks, if it finds none; then stop",
    )
    arguments = parser.parse_args()
    if arguments.link_libsndfile:
        try:
            print(link_libsndfile())
        except SpeechvqError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        return 0
    if sys.stderr.isatty():
        print("Loading what is installed; this takes about ten seconds.", file=sys.stderr)
    checks = run_checks(arguments.directory)
    healthy = all(check.status is not Status.MISSING for check in checks)
    if arguments.json:
        print(
            json.dumps({"ok": healthy, "checks": [check.to_json() for check in checks]}, indent=2)
        )
    else:
        _print_report(checks)
    return 0 if healthy else 2


if __name__ == "__main__":
    sys.exit(main())
