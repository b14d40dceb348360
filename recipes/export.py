"""Writes a model for another library: `speechvq export MODEL OUTPUT`.

OUTPUT becomes a directory of transformers: of a pretrained model for
`Wav2Vec2ForPreTraining.from_pretrained`, of a recogniser for `Wav2Vec2ForCTC` with its processor,
one in it for each language where there are several. The same in flags: `speechvq export --model
MODEL --to huggingface --output OUTPUT`. Which models can be expressed: docs/importing.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from speechvq.config.flags import add_word_or_flag, parse_words_and_flags
from speechvq.errors import SpeechvqError


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(prog="speechvq export", description=__doc__)
    add_word_or_flag(parser, "model", help="model directory")
    add_word_or_flag(parser, "output", help="directory to write; must be new or empty")
    parser.add_argument(
        "--to",
        "--format",
        dest="format",
        choices=["huggingface"],
        default="huggingface",
        help="of the files in OUTPUT (default: huggingface)",
    )
    parser.add_argument("--language", help="of a recogniser, the only one (default: all)")
    return parse_words_and_flags(parser, ["model", "output"], arguments)


def run(options: argparse.Namespace) -> None:
    """Exports and says what transformers computes otherwise."""
    from speechvq.models.exporting import export_model

    exported = export_model(
        options.model, options.output, target=options.format, language=options.language
    )
    size = sum(parameter.numel() for parameter in exported.model.parameters())
    print(f"{options.format}, {size:,} parameters → {options.output}")
    for note in exported.notes:
        print(note)


def main() -> None:
    """Runs the verb `export`."""
    try:
        run(parse_arguments())
    except SpeechvqError as error:
        print(f"speechvq: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
