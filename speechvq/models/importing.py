"""Makes a model directory of a wav2vec 2.0 checkpoint of another project.

Hugging Face directories with safetensors hold no program and are read as they are. The `.pt` files
of fairseq, fairseq2 and torchaudio are pickles; `speechvq.models.foreign_pickle` reads them without
running them. fairseq's hold their settings; of the others the settings are read off the weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from speechvq.errors import ConfigError, ModelError
from speechvq.models import interop_fairseq2, interop_torchaudio
from speechvq.models.build import create_pretrain_model
from speechvq.models.config import FeatureNorm, PretrainModelConfig
from speechvq.models.config_json import config_from_json, config_to_json
from speechvq.models.directory import check_apart, check_replaceable, save_model
from speechvq.models.foreign_pickle import read_checkpoint, to_plain
from speechvq.models.interop_fairseq import (
    apply_training_settings,
    config_from_fairseq,
    find_normalize,
    find_settings,
    state_from_fairseq,
)
from speechvq.models.interop_huggingface import (
    has_pretraining_masks,
    pretrain_config_from_huggingface,
    state_from_huggingface,
)
from speechvq.models.interop_names import find_prefix
from speechvq.models.interop_shapes import ImportOptions, derive_config
from speechvq.models.pretrain_model import PretrainModel

ORIGINS = {
    "huggingface": "transformers Wav2Vec2",
    "fairseq": "fairseq wav2vec 2.0",
    "fairseq2": "fairseq2 wav2vec 2.0",
    "torchaudio": "torchaudio wav2vec 2.0",
}
"""What a checkpoint can be, by the names of `speechvq import --from`."""

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


_HUGGINGFACE_PARTS = frozenset({"wav2vec2", "quantizer", "project_hid", "project_q"})
_HUGGINGFACE_ANCHOR = "feature_projection.layer_norm.weight"
_MASK_EMBEDDING = "encoder.mask_embedding"


@dataclass(frozen=True)
class ImportedModel:
    """What was made of a checkpoint.

    Attributes:
        model: The model, on the CPU.
        origin: What the checkpoint was.
        fresh: Parts that it lacks and that have new weights now, such as "quantizer".
        left_out: Parts of it that a pretraining model has not, such as a recogniser's head.
        assumed: Key of the configuration → value, for what the file does not say and nobody told.
    """

    model: PretrainModel
    origin: str
    fresh: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    assumed: Mapping[str, Any] = field(default_factory=dict)


def import_model(
    source: str | Path,
    output: str | Path,
    *,
    seed: int = 1,
    project: str | None = None,
    options: ImportOptions | None = None,
) -> ImportedModel:
    """Reads a foreign checkpoint and writes a model directory.

    Args:
        source: A directory with `config.json` and `model.safetensors` (transformers'
            Wav2Vec2ForPreTraining or Wav2Vec2Model), or a `.pt` file of fairseq, fairseq2 (also
            omnilingual-asr's) or torchaudio.
        output: The model directory to write.
        seed: Of the weights that the checkpoint lacks.
        project: Key of `ORIGINS`: whose checkpoint it must be; None for any.
        options: What the checkpoint does not say.

    Returns:
        What was made.

    Raises:
        ModelError: The checkpoint is missing, damaged, of an unknown kind, or uses what speechvq
            has not; or `project` or an option is missing, impossible, or contradicts the file; or
            something that is no model directory stands at `output`, or one of `source` and `output`
            is inside of the other.
    """
    check_apart(source, output)
    check_replaceable(output)
    source, options = Path(source), options or ImportOptions()
    if source.is_dir():
        imported = _import_huggingface(source, seed, options)
    elif source.is_file():
        imported = _import_file(source, seed, options)
    else:
        raise ModelError(f"{source} does not exist.")
    if project is not None and imported.origin != ORIGINS.get(project):
        (found,) = (name for name, origin in ORIGINS.items() if origin == imported.origin)
        raise ModelError(
            f"`--from` must be {found}, or left out, but is {project}: {source} is a checkpoint of "
            f"{imported.origin}."
        )
    save_model(
        output,
        imported.model,
        training={
            "imported_from": imported.origin,
            "fresh": list(imported.fresh),
            "left_out": list(imported.left_out),
            "assumed": dict(imported.assumed),
        },
    )
    return imported


def _import_huggingface(source: Path, seed: int, options: ImportOptions) -> ImportedModel:
    config_path, weights_path = source / "config.json", source / "model.safetensors"
    for path in (config_path, weights_path):
        if not path.is_file():
            raise ModelError(
                f"{path} does not exist; a transformers directory must hold `config.json` and "
                "`model.safetensors`. Save older or sharded ones anew with "
                '`safe_serialization=True, max_shard_size="100GB"`.'
            )
    try:
        state = load_file(weights_path)
    except (ValueError, OSError, SafetensorError) as error:
        raise ModelError(f"{weights_path} cannot be read: {error}.") from error
    document = _read_json(config_path)
    if not any(name.startswith("wav2vec2.") for name in state):  # a bare Wav2Vec2Model
        state = {f"wav2vec2.{name}": tensor for name, tensor in state.items()}
    if heads := {name.partition(".")[0] for name in state} - _HUGGINGFACE_PARTS:
        raise ModelError(
            f"{source} must hold a pretrained model, but holds a finetuned one (it has "
            f"{', '.join(sorted(heads))}). Take the pretrained checkpoint, or save the encoder "
            "alone: `model.wav2vec2.save_pretrained(DIRECTORY)` in transformers."
        )
    config = _read_config(document, config_path)
    assumed = _list_assumed_masks(config, document)
    told = _read_normalize(source / "preprocessor_config.json")
    config = _apply_options(config, options, told, assumed)
    imported = _build(config, state, ORIGINS["huggingface"], seed)
    return replace(imported, assumed=assumed)


def _read_normalize(path: Path) -> bool | None:
    """Whether transformers' processor normalises; None where there is none."""
    if not path.is_file():
        return None
    value = _read_json(path).get("do_normalize", True)  # as Wav2Vec2FeatureExtractor has it
    if not isinstance(value, bool):
        raise ModelError(f"{path}: do_normalize must be true or false, but is {value!r}.")
    return value


def _list_assumed_masks(config: PretrainModelConfig, document: Mapping[str, Any]) -> dict[str, Any]:
    if has_pretraining_masks(document):
        return {}
    names = ("mask_prob", "mask_length", "mask_min_spans")
    return {name: getattr(config, name) for name in names}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {error}.") from error
    if not isinstance(document, dict):
        raise ModelError(f"{path} must hold a JSON object.")
    return document


def _import_file(source: Path, seed: int, options: ImportOptions) -> ImportedModel:
    """Finds out whose file it is by the names of its weights."""
    checkpoint = read_checkpoint(source)
    if not isinstance(checkpoint, Mapping):
        raise ModelError(f"{source} must hold a dictionary, as checkpoints of wav2vec 2.0 do.")
    try:
        weights = _find_weights(checkpoint)
        if (prefix := find_prefix(weights, interop_fairseq2.ANCHOR)) is not None:
            return _import_fairseq2(weights, prefix, seed, options)
        if (prefix := find_prefix(weights, interop_torchaudio.ANCHOR)) is not None:
            return _import_torchaudio(weights, prefix, seed, options)
        if find_prefix(weights, _HUGGINGFACE_ANCHOR) is not None:
            raise ModelError(
                "These are weights of transformers; give its directory, with `config.json`, and "
                "with `model.safetensors` (`save_pretrained(…, safe_serialization=True)`)."
            )
        return _import_fairseq(checkpoint, seed, options)
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from error


def _find_weights(checkpoint: Mapping[Any, Any]) -> dict[str, Any]:
    """The state dict, at the top or under the key that fairseq2 or Lightning uses."""
    for key in ("model", "state_dict"):
        if isinstance(found := checkpoint.get(key), Mapping):
            checkpoint = found
            break
    return {name: value for name, value in checkpoint.items() if isinstance(name, str)}


def _import_fairseq2(
    weights: Mapping[str, Any], prefix: str, seed: int, options: ImportOptions
) -> ImportedModel:
    state = _read_tensors(weights, prefix)
    norm_first = interop_fairseq2.find_norm_order(state)
    theirs, left_out = interop_fairseq2.state_from_fairseq2(state)
    derived = derive_config(theirs, options, norm_first=norm_first)
    imported = _build(derived.config, theirs, ORIGINS["fairseq2"], seed)
    return replace(imported, left_out=tuple(left_out), assumed=derived.assumed)


def _import_torchaudio(
    weights: Mapping[str, Any], prefix: str, seed: int, options: ImportOptions
) -> ImportedModel:
    theirs, left_out = interop_torchaudio.state_from_torchaudio(_read_tensors(weights, prefix))
    if prefix.endswith("wav2vec2."):  # inside a HuBERTPretrainModel
        beside = {
            name.removeprefix(prefix.removesuffix("wav2vec2.")): value
            for name, value in weights.items()
            if not name.startswith(prefix)
        }
        mask = beside.pop(interop_torchaudio.MASK_EMBEDDING, None)
        if isinstance(mask, Tensor):
            theirs["wav2vec2.masked_spec_embed"] = mask.float()
        left_out = sorted({*left_out, *(name.partition(".")[0] for name in beside)})
    derived = derive_config(theirs, options, norm_first=None)
    imported = _build(derived.config, theirs, ORIGINS["torchaudio"], seed)
    return replace(imported, left_out=tuple(left_out), assumed=derived.assumed)


def _read_tensors(weights: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
    """The weights of the model that stands under `prefix`, in fp32."""
    state = {}
    for name, value in weights.items():
        if name.startswith(prefix):
            if not isinstance(value, Tensor):
                raise ModelError(f"Its weights must be tensors only, but {name!r} is none.")
            state[name.removeprefix(prefix)] = value.float()
    return state


def _import_fairseq(
    checkpoint: Mapping[str, Any], seed: int, options: ImportOptions
) -> ImportedModel:
    plain = {key: to_plain(checkpoint[key]) for key in ("args", "cfg") if key in checkpoint}
    settings = find_settings({**checkpoint, **plain})
    weights = checkpoint["model"]
    if not isinstance(weights, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in weights.items()
    ):
        raise ModelError("its `model` must hold tensors only, by their names.")
    layers = {name.split(".")[2] for name in weights if name.startswith("encoder.layers.")}
    config = _read_config(config_from_fairseq(settings, len(layers)), "its settings")
    config = apply_training_settings(config, settings, _find_criterion(plain))
    state = state_from_fairseq({name: tensor.float() for name, tensor in weights.items()})
    assumed: dict[str, Any] = {}
    config = _apply_options(config, options, find_normalize(plain), assumed)
    imported = _build(config, state, ORIGINS["fairseq"], seed)
    return replace(imported, assumed=assumed)


def _find_criterion(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    config = checkpoint.get("cfg")
    found = config.get("criterion") if isinstance(config, Mapping) else checkpoint.get("args")
    return found if isinstance(found, Mapping) else {}


def _apply_options(
    config: PretrainModelConfig,
    options: ImportOptions,
    told: bool | None,
    assumed: dict[str, Any],
) -> PretrainModelConfig:
    """Of a checkpoint with settings only the normalisation of waveforms may be told; `told` is what
    it says itself.
    """
    given = {
        "--heads": options.num_heads,
        "--strides": options.strides,
        "--norm-order": options.norm_first,
    }
    if words := [word for word, value in given.items() if value is not None]:
        raise ModelError(
            f"`{'`, `'.join(words)}` must be left out: the checkpoint holds its own settings."
        )
    normalizes = told if options.normalize is None else options.normalize
    if normalizes is None:
        # Published models with layer norm in the front end normalise, and no others.
        normalizes = config.waveform.norm is FeatureNorm.layer
        assumed["waveform.normalize"] = normalizes
    return replace(config, waveform=replace(config.waveform, normalize=normalizes))


def _read_config(document: Mapping[str, Any], where: str | Path) -> PretrainModelConfig:
    try:
        config = pretrain_config_from_huggingface({**PRETRAINING_DEFAULTS, **document})
    except KeyError as error:
        raise ModelError(f"{where} lacks {error}.") from None
    except (TypeError, ValueError) as error:
        raise ModelError(f"{where} cannot be understood: {error}.") from error
    # The way through JSON checks the type of every value.
    return config_from_json(PretrainModelConfig, config_to_json(config), str(where))


def _build(
    config: PretrainModelConfig, state: Mapping[str, Tensor], origin: str, seed: int
) -> ImportedModel:
    """Create the model; parts that the checkpoint lacks as a whole keep their new weights."""
    ours = state_from_huggingface(state, num_codebooks=config.quantizer.num_codebooks)
    fresh = set()
    if "wav2vec2.masked_spec_embed" not in state:
        ours.pop(_MASK_EMBEDDING, None)
        fresh.add(_MASK_EMBEDDING)
    with torch.device("meta"):  # no memory for weights that the file does not have
        expected = _create_model(config).state_dict()
    problems = [f"{name} is unknown" for name in sorted(ours.keys() - expected.keys())]
    for name in sorted(expected.keys() - ours.keys() - fresh):
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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _create_model(config)
    model.load_state_dict({**model.state_dict(), **ours})
    return ImportedModel(model.eval(), origin, tuple(sorted(fresh)))


def _create_model(config: PretrainModelConfig) -> PretrainModel:
    try:
        return create_pretrain_model(config)
    except ConfigError as error:
        raise ModelError(f"The checkpoint's settings cannot work:\n{error}") from error
    except (RuntimeError, TypeError, MemoryError) as error:  # PyTorch's, as the types are checked
        raise ModelError(
            "The checkpoint's settings cannot work: they ask for tensors that are too large."
        ) from error
