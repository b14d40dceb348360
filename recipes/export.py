"""Writes a pretrained model for another library: `speechvq export MODEL OUTPUT`.

OUTPUT becomes a directory for transformers' `Wav2Vec2ForPreTraining.from_pretrained`: config.json,
model.safetensors, preprocessor_config.json. The same in flags: `speechvq export --model MODEL
--format huggingface --output OUTPUT`. Which models can be expressed: docs/importing.md.
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
    add_word_or_flag(parser, "model", help="model directory that `pretrain` or `import` left")
    add_word_or_flag(parser, "output", help="directory to write; must be new or empty")
    parser.add_argument(
        "--format",
        choices=["huggingface"],
        default="huggingface",
        help="of the files in OUTPUT (default: huggingface)",
    )
    return parse_words_and_flags(parser, ["model", "output"], arguments)


def run(options: argparse.Namespace) -> None:
    """Exports and says what transformers computes otherwise."""
    from speechvq.models.exporting import export_model

    exported = export_model(options.model, options.output, target=options.format)
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
