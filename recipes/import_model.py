"""Makes a model directory of another project's wav2vec 2.0: `speechvq import SOURCE OUTPUT`.

SOURCE is a Hugging Face directory (config.json, model.safetensors) or a `.pt` file of fairseq (such
as IndicWav2Vec's), fairseq2 (such as omnilingual-asr's) or torchaudio. Continue pretraining with
`init=OUTPUT`, or finetune with `model=OUTPUT`. With `--language` SOURCE is a CTC recogniser of one
of the first three, and OUTPUT one of ours: `speechvq transcribe FILE --model OUTPUT`. `speechvq
import --from PROJECT SOURCE --output OUTPUT` is the same, and refuses a SOURCE of another project.
What is kept, and what is not: docs/importing.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from speechvq.config.flags import add_word_or_flag, parse_words_and_flags, run_verb

if TYPE_CHECKING:
    from speechvq.models.importing import ImportedModel
    from speechvq.models.importing_recognizers import ImportedRecognizer
    from speechvq.models.interop_shapes import ImportOptions

_PICKLE_NOTICE = (
    "A .pt file is a pickle, which can hold programs. It is read without running anything in it: "
    "tensors and settings only. Still, prefer files from a source that you trust."
)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(prog="speechvq import", description=__doc__)
    parser.add_argument(
        "source", help="directory of transformers, or .pt file of fairseq, fairseq2 or torchaudio"
    )
    add_word_or_flag(parser, "output", help="model directory to write")
    parser.add_argument(
        "--from",
        dest="project",
        choices=["huggingface", "fairseq", "fairseq2", "torchaudio"],
        help="whose checkpoint SOURCE must be (default: what it is found to be)",
    )
    parser.add_argument("--seed", type=int, default=1, help="of weights that SOURCE lacks")
    parser.add_argument(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        help="the model was trained on waveforms of zero mean and unit variance (default: what "
        "SOURCE says, else with layer norm in the front end only)",
    )
    recognizers = parser.add_argument_group("recognisers")
    recognizers.add_argument(
        "--language",
        metavar="NAME",
        help="import a recogniser, and name its language so, such as hin_Deva; hin_Deva=hin also "
        "says what SOURCE calls it where it has several",
    )
    recognizers.add_argument(
        "--labels",
        metavar="FILE",
        help="fairseq's dictionary (default: dict.ltr.txt beside SOURCE), or the sentencepiece "
        "model of fairseq2's tokenizer",
    )
    recognizers.add_argument(
        "--lowercase",
        action="store_true",
        help="put labels into lower case, as texts of a corpus are",
    )
    untold = parser.add_argument_group("what files of fairseq2 and torchaudio do not hold")
    untold.add_argument(
        "--heads", type=int, help="attention heads (default: one for 64 channels, at most 16)"
    )
    untold.add_argument(
        "--strides",
        type=_parse_strides,
        metavar="N,N,…",
        help="of the convolutions (default: wav2vec 2.0's 5,2,2,2,2,2,2 where the kernels are)",
    )
    untold.add_argument(
        "--norm-order",
        choices=["pre", "post"],
        help="layer norm before or after each part; torchaudio only (default: pre with layer norm "
        "in the front end, else post)",
    )
    options = parse_words_and_flags(parser, ["output"], arguments)
    if options.language is None and (options.labels is not None or options.lowercase):
        parser.error("--labels and --lowercase need --language: they are those of a recogniser")
    return options


def _parse_strides(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be whole numbers with commas between, such as 5,2,2, but is {text!r}"
        ) from None


def run(options: argparse.Namespace) -> None:
    """Imports and says what came of it."""
    from pathlib import Path

    from speechvq.models.importing import import_model
    from speechvq.models.interop_shapes import ImportOptions

    if Path(options.source).is_file():
        print(_PICKLE_NOTICE)
    told = ImportOptions(
        num_heads=options.heads,
        strides=options.strides,
        norm_first=None if options.norm_order is None else options.norm_order == "pre",
        normalize=options.normalize,
    )
    if options.language is not None:
        lines = describe_recognizer(_import_recognizer(options, told), options.output)
    else:
        imported = import_model(
            options.source,
            options.output,
            seed=options.seed,
            project=options.project,
            options=told,
        )
        lines = describe(imported, options.output)
    for line in lines:
        print(line)


def _import_recognizer(options: argparse.Namespace, told: ImportOptions) -> ImportedRecognizer:
    from pathlib import Path

    from speechvq.models.importing_recognizers import LabelOptions, import_recognizer

    return import_recognizer(
        options.source,
        options.output,
        labels=LabelOptions(
            language=options.language,
            path=None if options.labels is None else Path(options.labels),
            lowercase=options.lowercase,
        ),
        seed=options.seed,
        project=options.project,
        options=told,
    )


def describe_recognizer(imported: ImportedRecognizer, output: str) -> list[str]:
    """Sentences about what was kept, what was assumed, and how to go on.

    Args:
        imported: What `import_recognizer` returned.
        output: Where the recogniser is.
    """
    size = sum(parameter.numel() for parameter in imported.model.parameters())
    ((language, vocabulary),) = imported.model.vocabularies.items()
    lines = [
        f"{imported.origin}, a recogniser of {language} with {len(vocabulary)} labels, {size:,} "
        f"parameters → {output}"
    ]
    if imported.left_out:
        lines.append(f"Left out, as a recogniser has none: {', '.join(imported.left_out)}.")
    if imported.assumed:
        told = [f"{key}={value}" for key, value in imported.assumed.items() if key != "preset"]
        lines.append(f"Not in the checkpoint, and assumed: {', '.join(told)}.")
    return [*lines, "Go on with:", f"  speechvq transcribe FILE --model {output}"]


def describe(imported: ImportedModel, output: str) -> list[str]:
    """Sentences about what was kept, what is new, what was assumed, and how to go on.

    Args:
        imported: What `import_model` returned.
        output: Where the model is.
    """
    from speechvq.models.config import FeatureNorm

    size = sum(parameter.numel() for parameter in imported.model.parameters())
    lines = [f"{imported.origin}, {size:,} parameters → {output}"]
    if imported.fresh:
        lines.append(
            f"Not in the checkpoint, and new now: {', '.join(imported.fresh)}. Finetuning does not "
            "need them; pretraining learns them from the first update on, with all the rest."
        )
    if imported.left_out:
        lines.append(
            f"Left out, as a pretraining model has none: {', '.join(imported.left_out)}. "
            "A recogniser's head is imported with `--language`."
        )
    if imported.assumed:
        told = [f"{key}={value}" for key, value in imported.assumed.items() if key != "preset"]
        lines.append(f"Not in the checkpoint, and assumed: {', '.join(told)}.")
    if preset := imported.assumed.get("preset"):
        lines.append(
            f"Dropout, masks, temperatures and weights of losses are those of preset={preset}."
        )
    is_large = imported.model.config.waveform.norm is FeatureNorm.layer
    return [
        *lines,
        "Go on with the command below. Architecture, dropout, masks, temperatures and weights of "
        "losses follow the model; the preset gives learning rate, batches and steps. The optimiser "
        f"starts anew, {_describe_temperature(imported)}.",
        f"  speechvq pretrain corpus=DIR output=DIR init={output} "
        f"preset={'large' if is_large else 'base'}",
    ]


def _describe_temperature(imported: ImportedModel) -> str:
    if "quantizer" in imported.fresh:
        return "and the new Gumbel quantiser begins at its `temperature_start`"
    return "while the kept Gumbel quantiser stays at its `temperature_end`"


def main() -> None:
    """Runs the verb `import`."""
    run_verb(run, parse_arguments)


if __name__ == "__main__":
    main()
