"""Makes a model directory of another project's wav2vec 2.0: `speechvq import SOURCE OUTPUT`.

SOURCE is a Hugging Face directory (config.json, model.safetensors) or a fairseq `.pt` file, such as
IndicWav2Vec's. Continue pretraining with `init=OUTPUT`, or finetune with `model=OUTPUT`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from speechvq.errors import SpeechvqError


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(prog="speechvq import", description=__doc__)
    parser.add_argument("source", help="directory of transformers, or .pt file of fairseq")
    parser.add_argument("output", help="model directory to write")
    parser.add_argument("--seed", type=int, default=1, help="of weights that SOURCE lacks")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    """Imports and says what came of it."""
    from pathlib import Path

    from speechvq.models.importing import import_model

    if Path(options.source).is_file():
        print(
            "A .pt file is a pickle, which can hold programs. It is read without running anything "
            "in it: tensors and settings only. Still, prefer files from a source that you trust."
        )
    imported = import_model(options.source, options.output, seed=options.seed)
    size = sum(parameter.numel() for parameter in imported.model.parameters())
    print(f"{imported.origin}, {size:,} parameters → {options.output}")
    if imported.fresh:
        print(
            f"Not in the checkpoint, and new now: {', '.join(imported.fresh)}. Finetuning does not "
            "need them; pretraining goes on after some updates that only they need."
        )


def main() -> None:
    """Runs the verb `import`."""
    try:
        run(parse_arguments())
    except SpeechvqError as error:
        print(f"speechvq: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
