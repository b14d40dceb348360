"""Writes a model's card with what was measured of it: `speechvq card MODEL --results DIR`.

README.md of MODEL is generated anew: training data by language and source, error rates with
intervals, normaliser, tuned weights of language models, licences, limits, with the head that
Hugging Face reads. `--results` may be given several times, an output of `evaluate` each.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from speechvq.config.flags import run_verb


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(prog="speechvq card", description=__doc__)
    parser.add_argument("model", help="model directory that `pretrain` or `finetune` left")
    parser.add_argument(
        "--results", action="append", default=[], metavar="DIR",
        help="output of `evaluate` with this model; again for more",
    )  # fmt: skip
    parser.add_argument("--license", help="of the weights, such as cc-by-4.0")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    """Writes the card and says where it is."""
    from speechvq.deploy.model_card import write_model_card

    print(write_model_card(options.model, results=options.results, license_name=options.license))


def main() -> None:
    """Runs the verb `card`."""
    run_verb(run, parse_arguments)


if __name__ == "__main__":
    main()
