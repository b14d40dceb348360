"""Puts result directories side by side: `speechvq compare DIR DIR… [--output page.html]`.

Evaluations become a leaderboard, one a test set and normaliser, with a paired bootstrap test;
training runs are compared by what differs in their configurations, their figures and their curves;
analyses by what their codes, layers and attention heads do, with intervals of the differences.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from speechvq.config.flags import run_verb


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="speechvq compare",
        description="Compares directories of one kind: ranks evaluations, test set by test set; "
        "puts training runs side by side; puts analyses of several models side by side, also at "
        "equal perplexity of their codes.",
    )
    parser.add_argument("directories", nargs="+", metavar="DIR", help="what a run left")
    parser.add_argument(
        "--output",
        metavar="FILE",
        action="append",
        default=[],
        help="also write the table as an HTML page, or, for evaluations and analyses, as .json, "
        ".csv or .tsv; may be given several times",
    )
    parser.add_argument(
        "--against",
        choices=("best", "first"),
        help="evaluation or analysis that the others are compared with (default: of evaluations "
        "the first of two, the best of more; of analyses the first)",
    )
    parser.add_argument(
        "--rank-by",
        choices=("wer", "cer", "cer_no_spaces"),
        default="wer",
        help="rate that ranks evaluations; of several languages, their mean (default: wer)",
    )
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    """Prints the table and writes the page."""
    from speechvq.deploy.comparison import compare_results

    table = compare_results(options.directories, against=options.against, rank_by=options.rank_by)
    print(table.to_text())
    for output in options.output:
        table.write(Path(output))
        print(f"\nThe same as a file: {output}")


def main() -> None:
    """Runs the verb `compare`."""
    run_verb(run, parse_arguments)


if __name__ == "__main__":
    main()
