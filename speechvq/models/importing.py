"""Makes a model directory of a wav2vec 2.0 checkpoint of another project.

Hugging Face directories with safetensors hold no program and are read as they are. fairseq's `.pt`
files are pickles; `speechvq.models.foreign_pickle` reads them without running them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from speechvq.errors import ConfigError, ModelError
from speechvq.models.build import create_pretrain_model
from speechvq.models.config import PretrainModelConfig
from speechvq.models.directory import save_model
from speechvq.models.foreign_pickle import read_checkpoint, to_plain
from speechvq.models.interop_fairseq import (
    config_from_fairseq,
    find_settings,
    state_from_fairseq,
)
from speechvq.models.interop_huggingface import (
    pretrain_config_from_huggingface,
    state_from_huggingface,
)
from speechvq.models.pretrain_model import PretrainModel

PRETRAINING_DEFAULTS = {
    "num_codevector_groups": 2,
    "num_codevectors_per_group": 320,
    "codevector_dim": 256,
    "proj_codevector_dim": 256,
    "num_negatives": 100,
    "contrastive_logits_temperature": 0.1,
    "diversity_loss_weight": 0.1,
    "feat_quantizer_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "hidden_dropout": 0.1,
    "attention_dropout": 0.1,
    "activation_dropout": 0.1,
    "layerdrop": 0.1,
    "conv_bias": False,
    "do_stable_layer_norm": False,
    "feat_extract_norm": "group",
    "conv_dim": [512] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
}
"""transformers' own defaults, which its config.json leaves out."""


@dataclass(frozen=True)
class ImportedModel:
    """What was made of a checkpoint.

    Attributes:
        model: The model, on the CPU.
        origin: What the checkpoint was.
        fresh: Parts that it lacks and that have new weights now, such as "quantizer".
    """

    model: PretrainModel
    origin: str
    fresh: tuple[str, ...]


def import_model(source: str | Path, output: str | Path, *, seed: int = 1) -> ImportedModel:
    """Reads a foreign checkpoint and writes a model directory.

    Args:
        source: A directory with `config.json` and `model.safetensors` (transformers'
            Wav2Vec2ForPreTraining or Wav2Vec2Model), or a `.pt` file of fairseq.
        output: The model directory to write.
        seed: Of the weights that the checkpoint lacks.

    Returns:
        What was made.

    Raises:
        ModelError: The checkpoint is missing, damaged, of an unknown kind, or uses what speechvq
            has not.
    """
    source = Path(source)
    if source.is_dir():
        imported = _import_huggingface(source, seed)
    elif source.is_file():
        imported = _import_fairseq(source, seed)
    else:
        raise ModelError(f"{source} does not exist.")
    save_model(
        output,
        imported.model,
        training={"imported_from": imported.origin, "fresh": list(imported.fresh)},
    )
    return imported


def _import_huggingface(source: Path, seed: int) -> ImportedModel:
    config_path, weights_path = source / "config.json", source / "model.safetensors"
    for path in (config_path, weights_path):
        if not path.is_file():
            raise ModelError(
                f"{path} does not exist; a transformers directory must hold `config.json` and "
                "`model.safetensors`. Save older ones with `safe_serialization=True`."
            )
    try:
        document = json.loads(config_path.read_text(encoding="utf-8"))
        state = load_file(weights_path)
    except (ValueError, OSError, SafetensorError) as error:
        raise ModelError(f"{source} cannot be read: {error}.") from error
    if not isinstance(document, dict):
        raise ModelError(f"{config_path} must hold a JSON object.")
    if not any(name.startswith("wav2vec2.") for name in state):  # a bare Wav2Vec2Model
        state = {f"wav2vec2.{name}": tensor for name, tensor in state.items()}
    config = _read_config(document, config_path)
    processor = source / "preprocessor_config.json"
    if processor.is_file():
        normalizes = bool(json.loads(processor.read_text(encoding="utf-8")).get("do_normalize"))
        config = replace(config, waveform=replace(config.waveform, normalize=normalizes))
    return _build(config, state, "transformers Wav2Vec2", seed)


def _import_fairseq(source: Path, seed: int) -> ImportedModel:
    checkpoint = read_checkpoint(source)
    if not isinstance(checkpoint, Mapping):
        raise ModelError(f"{source} must hold a dictionary, as fairseq's checkpoints do.")
    try:
        plain = {key: to_plain(value) for key, value in checkpoint.items() if key != "model"}
        settings = find_settings({**plain, "model": checkpoint.get("model")})
        weights = checkpoint["model"]
        if not isinstance(weights, Mapping) or not all(
            isinstance(tensor, Tensor) for tensor in weights.values()
        ):
            raise ModelError("its `model` must hold tensors only.")
        layers = {name.split(".")[2] for name in weights if name.startswith("encoder.layers.")}
        config = _read_config(config_from_fairseq(settings, len(layers)), source)
        state = state_from_fairseq({name: tensor.float() for name, tensor in weights.items()})
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from error
    # fairseq's task normalises the waveform for models with layer norm in the front end.
    normalizes = _find_normalize(plain, default=settings.get("extractor_mode") == "layer_norm")
    config = replace(config, waveform=replace(config.waveform, normalize=normalizes))
    return _build(config, state, "fairseq wav2vec 2.0", seed)


def _find_normalize(checkpoint: Mapping[str, Any], *, default: bool) -> bool:
    config = checkpoint.get("cfg")
    task = config.get("task") if isinstance(config, Mapping) else checkpoint.get("args")
    found = task.get("normalize") if isinstance(task, Mapping) else None
    return default if found is None else bool(found)


def _read_config(document: Mapping[str, Any], path: Path) -> PretrainModelConfig:
    try:
        config = pretrain_config_from_huggingface({**PRETRAINING_DEFAULTS, **document})
    except KeyError as error:
        raise ModelError(f"{path} lacks {error}.") from None
    # These have no counterpart there, and are what wav2vec 2.0 publishes.
    return config


def _build(
    config: PretrainModelConfig, state: Mapping[str, Tensor], origin: str, seed: int
) -> ImportedModel:
    """Create the model; parts that the checkpoint lacks as a whole keep their new weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = create_pretrain_model(config)
        except ConfigError as error:
            raise ModelError(f"The checkpoint's settings cannot work:\n{error}") from error
    ours = state_from_huggingface(state, num_codebooks=config.quantizer.num_codebooks)
    expected = model.state_dict()
    problems = [f"{name} is unknown" for name in sorted(ours.keys() - expected.keys())]
    fresh = set()
    for name in sorted(expected.keys() - ours.keys()):
        part = name.partition(".")[0]
        if part == "encoder" or any(other.startswith(f"{part}.") for other in ours):
            problems.append(f"{name} is missing")
        else:
            fresh.add(part)
    problems += [
        f"{name} has the shape {tuple(ours[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in ours and ours[name].shape != tensor.shape
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ModelError(f"The weights do not fit the settings: {'; '.join(problems[:5])}{more}.")
    model.load_state_dict({**expected, **ours})
    return ImportedModel(model.eval(), origin, tuple(sorted(fresh)))
