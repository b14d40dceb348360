"""Writes a recogniser for onnxruntime and sherpa-onnx: `speechvq export MODEL OUTPUT --to onnx`.

    model.onnx        waveform (B, S) and lengths (B,) → log_probs (B, T, N) and frames (B,)
    model.int8.onnx   the same with weights of 8 bits, if asked for
    tokens.txt        "LABEL ID" a line; `▁` is the space between words
    vocab.json        the language's entry of the model directory's

Heads and adapters of a language are part of its graph, so each language has a directory of its own.
docs/exporting.md says how to decode, and what sherpa-onnx computes otherwise.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from speechvq import __version__
from speechvq.data.records import SAMPLE_RATE
from speechvq.deploy.onnx_graph import RecognizerGraph
from speechvq.durable import create_directory
from speechvq.errors import MissingDependencyError, ModelError
from speechvq.models.config import Features
from speechvq.models.ctc_model import CTCModel
from speechvq.models.digest import compute_model_digest
from speechvq.models.directory import check_apart, load_ctc_model, read_model_config
from speechvq.models.vocabulary import (
    BLANK_ID,
    WORD_SEPARATOR,
    CharacterVocabulary,
    Vocabulary,
)
from speechvq.nn.bottleneck_sites import list_bottlenecks

if TYPE_CHECKING:
    import onnx

MODEL_FILE = "model.onnx"
INT8_FILE = "model.int8.onnx"
TOKENS_FILE = "tokens.txt"
VOCABULARY_FILE = "vocab.json"
INPUTS = ("waveform", "lengths")
OUTPUTS = ("log_probs", "frames")
SPACE = "\u2581"
_OPSET = 20
"""The first with GELU and the present form of the Fourier transform."""
_MAX_BYTES = (1 << 31) - (1 << 24)
"""protobuf holds no message of 2 GiB."""
_WHOLE = 1 << 62
"""Default of `lengths`: more than any waveform has, so that it counts as whole."""
_EXAMPLE_SAMPLES = (32_000, 24_000)


@dataclass(frozen=True, kw_only=True)
class ExportedGraph:
    """One language that was written.

    Attributes:
        language: Whose head it has.
        directory: Where its files are.
        sizes: Bytes by name of the model's files.
        notes: Sentences on what to heed in sherpa-onnx.
    """

    language: str
    directory: Path
    sizes: dict[str, int]
    notes: tuple[str, ...]


def export_onnx(
    source: str | Path, output: str | Path, *, language: str | None = None, int8: bool = False
) -> list[ExportedGraph]:
    """Writes the ONNX form of a recogniser.

    Args:
        source: A model directory that `speechvq finetune` left.
        output: The directory to write: new or empty.
        language: Which head; without it all of them. The files of one head lie in `output`, those
            of several in `output/LANGUAGE`.
        int8: Whether to write weights of 8 bits as well.

    Returns:
        What was written, a language each.

    Raises:
        ModelError: The model cannot be read, is no recogniser, lacks the language or is too large,
            or `output` holds something already, or is inside of `source`.
        MissingDependencyError: The extra `onnx` is not installed.
    """
    _check_packages()
    check_apart(source, output)
    output = Path(output)
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise ModelError(f"{output} must be a new or empty directory; choose another name.")
    model = load_ctc_model(source)
    if list_bottlenecks(model):
        raise ModelError(
            f"{source} has bottlenecks of codes, which cannot be exported; export the model that "
            "it was made from."
        )
    languages = list(model.vocabularies) if language is None else [language]
    if language is not None and language not in model.vocabularies:
        raise ModelError(
            f"`--language` must be one that the model has a head for "
            f"({', '.join(model.vocabularies)}), but is {language!r}."
        )
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    if size > _MAX_BYTES:
        raise ModelError(
            f"{source} has {size / 1e9:.1f} GB of weights, but one ONNX file holds 2 GB at most."
        )
    facts = _describe_model(Path(source))
    with create_directory(output) as work:
        exported = []
        for name in languages:
            place = Path(name) if len(languages) > 1 else Path()
            sizes = _write_language(work / place, model, name, facts, int8=int8)
            exported.append(
                ExportedGraph(
                    language=name,
                    directory=output / place,
                    sizes=sizes,
                    notes=tuple(_list_notes(model)),
                )
            )
    return exported


def create_onnx_model(
    model: CTCModel, language: str, metadata: Mapping[str, object]
) -> onnx.ModelProto:
    """Traces the graph of one language.

    Args:
        model: In evaluation mode, on the CPU.
        language: A head of the model.
        metadata: Becomes `metadata_props`, as text.

    Returns:
        The graph; `lengths` may be left out of its inputs for a single waveform.
    """
    import onnx

    example = torch.zeros(2, _EXAMPLE_SAMPLES[0])
    example[:, ::7] = 0.1
    dynamic = torch.export.Dim.DYNAMIC
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            RecognizerGraph(model, language).eval(),
            (example, torch.tensor(_EXAMPLE_SAMPLES)),
            dynamo=True,
            opset_version=_OPSET,
            input_names=INPUTS,
            output_names=OUTPUTS,
            dynamic_shapes={"waveform": {0: dynamic, 1: dynamic}, "lengths": {0: dynamic}},
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    for values, axes in ((proto.graph.input, "BS"), (proto.graph.output, "BT")):
        for value in values:
            for axis, dim in zip(axes, value.type.tensor_type.shape.dim, strict=False):
                dim.dim_param = axis
    # An input with a value of the same name is one that callers may leave out (sherpa-onnx does).
    whole = onnx.helper.make_tensor(INPUTS[1], onnx.TensorProto.INT64, [1], [_WHOLE])
    proto.graph.initializer.append(whole)
    onnx.helper.set_model_props(proto, {key: str(value) for key, value in metadata.items()})
    proto.producer_name, proto.producer_version = "speechvq", __version__
    return proto


def format_tokens(vocabulary: Vocabulary) -> str:
    """Returns `tokens.txt`: a line a label, with its number, as sherpa-onnx reads it."""
    labels = list(vocabulary.labels)
    labels[:2] = ["<blk>", "<unk>"]
    if isinstance(vocabulary, CharacterVocabulary):
        labels[labels.index(WORD_SEPARATOR)] = SPACE
    return "".join(f"{label} {index}\n" for index, label in enumerate(labels))


def _write_language(
    folder: Path, model: CTCModel, language: str, facts: Mapping[str, object], *, int8: bool
) -> dict[str, int]:
    """Writes the files of one language; returns the sizes of its models."""
    import onnx

    folder.mkdir(exist_ok=True)
    vocabulary = model.vocabularies[language]
    metadata = {
        **facts,
        "language": language,
        "vocab_size": len(vocabulary),
        "blank_id": BLANK_ID,
        "frame_samples": model.frame_samples,
    }
    proto = create_onnx_model(model, language, metadata)
    front_end = [node.name for node in proto.graph.node if "front_end" in _get_scopes(node)]
    _remove_traces(proto)
    onnx.checker.check_model(proto)
    onnx.save(proto, folder / MODEL_FILE)
    if int8:
        _quantize(folder / MODEL_FILE, folder / INT8_FILE, kept=front_end)
    (folder / TOKENS_FILE).write_text(format_tokens(vocabulary), encoding="utf-8")
    entry = json.dumps({language: vocabulary.to_json()}, ensure_ascii=False, indent=2)
    (folder / VOCABULARY_FILE).write_text(entry + "\n", encoding="utf-8")
    return {path.name: path.stat().st_size for path in sorted(folder.glob("*.onnx"))}


def _quantize(source: Path, target: Path, *, kept: list[str]) -> None:
    """Weights of matrix products in 8 bits, a scale a column; activations as they come.

    Args:
        source: Graph in fp32.
        target: Where the other is written.
        kept: Nodes that stay in fp32: the front end, where small numbers count.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=kept,
            extra_options={"MatMulConstBOnly": True},
        )


def _describe_model(source: Path) -> dict[str, object]:
    """Facts for `metadata_props`. The first four are those that sherpa-onnx's own export writes."""
    return {
        "model_type": "omnilingual-asr",
        "version": "1",
        "sample_rate": SAMPLE_RATE,
        "comment": f"speechvq {__version__}: CTC on the waveform",
        "normalizer": (read_model_config(source)["corpus"] or {}).get("normalizer") or "",
        "model_digest": compute_model_digest(source),
    }


def _list_notes(model: CTCModel) -> list[str]:
    config = model.config
    notes = []
    if config.features is Features.waveform and not config.waveform.normalize:
        notes.append(
            "sherpa-onnx brings waveforms to unit variance, but this model has "
            "`waveform.normalize=false`: measure there before you trust it."
        )
    if model.frame_samples != SAMPLE_RATE // 50:
        factor = model.frame_samples / (SAMPLE_RATE // 50)
        notes.append(f"sherpa-onnx takes frames for 20 ms: multiply its timestamps by {factor:g}.")
    return notes


def _get_scopes(node: onnx.NodeProto) -> str:
    return next((p.value for p in node.metadata_props if p.key.endswith("name_scopes")), "")


def _remove_traces(proto: onnx.ModelProto) -> None:
    """Removes what the exporter notes of the code and of this machine's folders."""
    proto.graph.ClearField("metadata_props")
    parts: Iterator[Any] = iter(
        [*proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output,
         *proto.graph.initializer]
    )  # fmt: skip
    for part in parts:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's own words, which are about its own code, from the user."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(before)


def _check_packages() -> None:
    import importlib

    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise MissingDependencyError(package, "onnx", "export to ONNX") from error
