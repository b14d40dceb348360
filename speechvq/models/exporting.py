"""Writes a model in another project's format: what `speechvq export` does.

`speechvq.models.interop_huggingface` has the names and settings; here they become files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from speechvq.durable import create_directory
from speechvq.errors import ModelError
from speechvq.models.config import CTCModelConfig, FeatureNorm, PretrainModelConfig
from speechvq.models.ctc_model import CTCModel
from speechvq.models.directory import check_apart, load_model
from speechvq.models.exporting_recognizers import (
    choose_languages,
    collect_weights,
    describe_recognizer,
    list_recognizer_notes,
)
from speechvq.models.interop_huggingface import config_to_huggingface, state_to_huggingface
from speechvq.models.pretrain_model import PretrainModel
from speechvq.nn.bottleneck_sites import list_bottlenecks

_Files = dict[str, dict[str, Any]]
"""JSON by name."""
FORMATS = ("huggingface",)
"""What `export_model` can write."""


@dataclass(frozen=True)
class ExportedModel:
    """What was written.

    Attributes:
        model: The model that was read.
        notes: Sentences on where the other project computes something else.
    """

    model: PretrainModel | CTCModel
    notes: tuple[str, ...]


def export_model(
    source: str | Path,
    output: str | Path,
    *,
    target: str = "huggingface",
    language: str | None = None,
) -> ExportedModel:
    """Writes a model for transformers' `Wav2Vec2ForPreTraining` or, with the processor,
    `Wav2Vec2ForCTC`.

    Args:
        source: A model directory.
        output: The directory to write. A recogniser of several languages has one in it for each,
            by its name.
        target: One of `FORMATS`.
        language: Of a recogniser, the only one to write, to `output` itself; None for all.

    Returns:
        What was written.

    Raises:
        ModelError: The model cannot be read, uses what the format has not, or `output` holds
            something already, or is inside of `source`.
    """
    if target not in FORMATS:
        raise ModelError(f"`--format` must be one of {', '.join(FORMATS)}, but is {target!r}.")
    check_apart(source, output)
    output = Path(output)
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise ModelError(f"{output} must be a new or empty directory; choose another name.")
    model = load_model(source)
    if list_bottlenecks(model):
        raise ModelError(
            f"{source} has bottlenecks of codes, for which transformers has no place; export the "
            "model that it was made from."
        )
    if isinstance(model, CTCModel):
        languages = choose_languages(model, language)
        notes = [*_list_notes(model.config), *list_recognizer_notes(model, languages)]
        folders = languages if len(languages) > 1 else [""]
    else:
        if language is not None:
            raise ModelError("`--language` must be left out: the model is a pretrained one.")
        languages, folders, notes = [""], [""], _list_notes(model.config)
    # All documents first: what cannot be written is refused before anything is.
    documents = [_describe(model, name) for name in languages]
    with create_directory(output) as work:
        for name, folder, files in zip(languages, folders, documents, strict=True):
            _write_files(work / folder, files, _collect_weights(model, name))
    return ExportedModel(model, tuple(notes))


def _describe(model: PretrainModel | CTCModel, language: str) -> _Files:
    if isinstance(model, CTCModel):
        processor = _describe_processor(model.config) | {"processor_class": "Wav2Vec2Processor"}
        # Ours were trained with padding masked out of attention, whatever the norm.
        processor["return_attention_mask"] = True
        return {**describe_recognizer(model, language), "preprocessor_config.json": processor}
    return {
        "config.json": config_to_huggingface(model.config),
        "preprocessor_config.json": _describe_processor(model.config),
    }


def _collect_weights(model: PretrainModel | CTCModel, language: str) -> dict[str, Tensor]:
    if isinstance(model, CTCModel):
        return collect_weights(model, language)
    return state_to_huggingface(model.state_dict())


def _write_files(directory: Path, files: _Files, weights: dict[str, Tensor]) -> None:
    directory.mkdir(exist_ok=True)
    tensors = {name: tensor.detach().contiguous() for name, tensor in weights.items()}
    # transformers refuses files that do not say that they are PyTorch's.
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    for name, document in files.items():
        _write_json(directory / name, document)


def _describe_processor(config: PretrainModelConfig | CTCModelConfig) -> dict[str, Any]:
    """Settings of transformers' Wav2Vec2FeatureExtractor, which normalises outside of the model."""
    return {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "sampling_rate": 16000,
        "padding_side": "right",
        "padding_value": 0.0,
        "do_normalize": config.waveform.normalize,
        "return_attention_mask": config.waveform.norm is FeatureNorm.layer,
    }


def _list_notes(config: PretrainModelConfig | CTCModelConfig) -> list[str]:
    notes = []
    if config.waveform.norm is FeatureNorm.group and config.waveform.masked_statistics:
        notes.append(
            "`waveform.masked_statistics` has no counterpart: in a batch with padding the group "
            "norm of transformers counts the padding, so there give it one utterance at a time."
        )
    if config.waveform.normalize:
        notes.append(
            "`waveform.normalize` stands in `preprocessor_config.json`: the model itself takes "
            "waveforms that transformers' Wav2Vec2FeatureExtractor has normalised."
        )
    if isinstance(config, PretrainModelConfig):
        notes.append(
            f"The masks stand in `config.json` (mask_time_prob={config.mask_prob}), and "
            "transformers masks as much when it finetunes; give it `mask_time_prob=0.05` there, "
            "its own default."
        )
    return notes


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
