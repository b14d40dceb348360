"""Writes a model for another library: `speechvq export MODEL OUTPUT --to {huggingface,onnx}`.

`--to huggingface`: OUTPUT becomes a directory of transformers, of a pretrained model for
`Wav2Vec2ForPreTraining.from_pretrained`, of a recogniser for `Wav2Vec2ForCTC` with its processor,
one in it for each language where there are several (which models can be expressed:
docs/importing.md). `--to onnx` takes a recogniser: OUTPUT gets model.onnx, which takes samples, and
tokens.txt, for onnxruntime and sherpa-onnx (docs/exporting.md). Paths may be flags:
`speechvq export --model MODEL --output OUTPUT`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from speechvq.config.flags import add_word_or_flag, parse_words_and_flags, run_verb


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(prog="speechvq export", description=__doc__)
    add_word_or_flag(
        parser, "model", help="model directory that `pretrain`, `import` or `finetune` left"
    )
    add_word_or_flag(parser, "output", help="directory to write; must be new or empty")
    parser.add_argument(
        "--to",
        "--format",
        dest="format",
        choices=["huggingface", "onnx"],
        default="huggingface",
        help="of the files in OUTPUT (default: huggingface)",
    )
    parser.add_argument("--language", help="of a recogniser, the only one (default: all)")
    parser.add_argument("--int8", action="store_true", help="with onnx: 8-bit weights as well")
    options = parse_words_and_flags(parser, ["model", "output"], arguments)
    if options.format != "onnx" and options.int8:
        parser.error("--int8 belongs to --to onnx")
    return options


def run(options: argparse.Namespace) -> None:
    """Exports and says what the other library computes otherwise."""
    if options.format == "onnx":
        _run_onnx(options)
        return
    from speechvq.models.exporting import export_model

    exported = export_model(
        options.model, options.output, target=options.format, language=options.language
    )
    size = sum(parameter.numel() for parameter in exported.model.parameters())
    print(f"{options.format}, {size:,} parameters → {options.output}")
    for note in exported.notes:
        print(note)


def _run_onnx(options: argparse.Namespace) -> None:
    from speechvq.deploy.onnx_export import export_onnx

    for graph in export_onnx(
        options.model, options.output, language=options.language, int8=options.int8
    ):
        sizes = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in graph.sizes.items())
        print(f"{graph.language}: {sizes} → {graph.directory}")
        for note in graph.notes:
            print(note)


def main() -> None:
    """Runs the verb `export`."""
    run_verb(run, parse_arguments)


if __name__ == "__main__":
    main()
