"""Writes a pretrained model in another project's format: what `speechvq export` does.

`speechvq.models.interop_huggingface` has the names and settings; here they become files.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from speechvq.errors import ModelError
from speechvq.models.config import FeatureNorm, PretrainModelConfig
from speechvq.models.directory import check_apart, load_pretrain_model
from speechvq.models.interop_huggingface import config_to_huggingface, state_to_huggingface
from speechvq.models.pretrain_model import PretrainModel

FORMATS = ("huggingface",)
"""What `export_model` can write."""


@dataclass(frozen=True)
class ExportedModel:
    """What was written.

    Attributes:
        model: The model that was read.
        notes: Sentences on where the other project computes something else.
    """

    model: PretrainModel
    notes: tuple[str, ...]


def export_model(
    source: str | Path, output: str | Path, *, target: str = "huggingface"
) -> ExportedModel:
    """Writes a pretrained model for transformers: `Wav2Vec2ForPreTraining.from_pretrained(output)`.

    Args:
        source: A model directory that `speechvq pretrain` or `speechvq import` left.
        output: The directory to write: `config.json`, `model.safetensors` and, for transformers'
            feature extractor, `preprocessor_config.json`.
        target: One of `FORMATS`.

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
    model = load_pretrain_model(source)
    document = config_to_huggingface(model.config)
    weights = {
        name: tensor.detach().contiguous()
        for name, tensor in state_to_huggingface(model.state_dict()).items()
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        # transformers refuses files that do not say that they are PyTorch's.
        save_file(weights, work / "model.safetensors", metadata={"format": "pt"})
        _write_json(work / "config.json", document)
        _write_json(work / "preprocessor_config.json", _describe_processor(model.config))
        output.mkdir(exist_ok=True)  # with the rights of any new directory
        work.chmod(output.stat().st_mode & 0o777)
        work.replace(output)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return ExportedModel(model, tuple(_list_notes(model.config)))


def _describe_processor(config: PretrainModelConfig) -> dict[str, Any]:
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


def _list_notes(config: PretrainModelConfig) -> list[str]:
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
    notes.append(
        f"The masks stand in `config.json` (mask_time_prob={config.mask_prob}), and transformers "
        "masks as much when it finetunes; give it `mask_time_prob=0.05` there, its own default."
    )
    return notes


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
