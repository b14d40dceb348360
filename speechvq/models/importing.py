"""Makes a model directory of a wav2vec 2.0 checkpoint of another project.

Hugging Face directories with safetensors hold no program and are read as they are. The `.pt` files
of fairseq, fairseq2 and torchaudio are pickles; `speechvq.models.foreign_pickle` reads them without
running them. fairseq's hold their settings; of the others the settings are read off the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from speechvq.errors import ModelError
from speechvq.models import interop_fairseq2, interop_torchaudio
from speechvq.models.build import create_pretrain_model
from speechvq.models.checkpoint_settings import (
    ORIGINS,
    apply_options,
    check_origin,
    find_weights,
    read_config,
    read_huggingface_files,
    read_normalize,
    read_tensors,
)
from speechvq.models.config import PretrainModelConfig
from speechvq.models.directory import check_apart, check_replaceable
from speechvq.models.foreign_pickle import read_checkpoint, to_plain
from speechvq.models.imported_weights import (
    HUGGINGFACE_MASK_EMBEDDING,
    MASK_EMBEDDING,
    Imported,
    build_model,
)
from speechvq.models.interop_fairseq import (
    apply_training_settings,
    config_from_fairseq,
    find_normalize,
    find_settings,
    state_from_fairseq,
)
from speechvq.models.interop_fairseq_ctc import find_recognizer_prefix
from speechvq.models.interop_huggingface import has_pretraining_masks, state_from_huggingface
from speechvq.models.interop_names import find_prefix
from speechvq.models.interop_shapes import ImportOptions, derive_config
from speechvq.models.pretrain_model import PretrainModel

_HUGGINGFACE_PARTS = frozenset({"wav2vec2", "quantizer", "project_hid", "project_q"})
_HUGGINGFACE_ANCHOR = "feature_projection.layer_norm.weight"


ImportedModel = Imported[PretrainModel]
"""What was made of a checkpoint."""


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
        source: A directory with `config.json` and `model.safetensors` or `pytorch_model.bin`
            (transformers' Wav2Vec2ForPreTraining or Wav2Vec2Model), or a `.pt` file of fairseq,
            fairseq2 (also omnilingual-asr's) or torchaudio.
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
    check_origin(imported.origin, project, source)
    imported.save(output)
    return imported


def _import_huggingface(source: Path, seed: int, options: ImportOptions) -> ImportedModel:
    config_path = source / "config.json"
    state, document = read_huggingface_files(source)
    if not any(name.startswith("wav2vec2.") for name in state):  # a bare Wav2Vec2Model
        state = {f"wav2vec2.{name}": tensor for name, tensor in state.items()}
    if heads := {name.partition(".")[0] for name in state} - _HUGGINGFACE_PARTS:
        raise ModelError(
            f"{source} must hold a pretrained model, but holds a finetuned one (it has "
            f"{', '.join(sorted(heads))}). Give `--language`, such as hin_Deva, to import it as a "
            "recogniser; or save the encoder alone: `model.wav2vec2.save_pretrained(DIRECTORY)` in "
            "transformers."
        )
    config = read_config(document, config_path)
    assumed = _list_assumed_masks(config, document)
    told = read_normalize(source / "preprocessor_config.json")
    config = apply_options(config, options, told, assumed)
    imported = _build(config, state, ORIGINS["huggingface"], seed)
    return replace(imported, assumed=assumed)


def _list_assumed_masks(config: PretrainModelConfig, document: Mapping[str, Any]) -> dict[str, Any]:
    if has_pretraining_masks(document):
        return {}
    names = ("mask_prob", "mask_length", "mask_min_spans")
    return {name: getattr(config, name) for name in names}


def _import_file(source: Path, seed: int, options: ImportOptions) -> ImportedModel:
    """Finds out whose file it is by the names of its weights."""
    checkpoint = read_checkpoint(source)
    if not isinstance(checkpoint, Mapping):
        raise ModelError(f"{source} must hold a dictionary, as checkpoints of wav2vec 2.0 do.")
    try:
        weights = find_weights(checkpoint)
        if (prefix := find_prefix(weights, interop_fairseq2.ANCHOR)) is not None:
            return _import_fairseq2(weights, prefix, seed, options)
        if (prefix := find_prefix(weights, interop_torchaudio.ANCHOR)) is not None:
            return _import_torchaudio(weights, prefix, seed, options)
        if find_prefix(weights, _HUGGINGFACE_ANCHOR) is not None:
            raise ModelError(
                "These are weights of transformers; give its directory, with `config.json`, and "
                "with `model.safetensors` (`save_pretrained(…, safe_serialization=True)`)."
            )
        if find_recognizer_prefix(weights) is not None:
            raise ModelError(
                "This is a recogniser of fairseq. Give `--language`, such as hin_Deva, to import "
                "it, or take the pretrained checkpoint, not a finetuned one."
            )
        return _import_fairseq(checkpoint, seed, options)
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from error


def _import_fairseq2(
    weights: Mapping[str, Any], prefix: str, seed: int, options: ImportOptions
) -> ImportedModel:
    state = read_tensors(weights, prefix)
    norm_first = interop_fairseq2.find_norm_order(state)
    theirs, left_out = interop_fairseq2.state_from_fairseq2(state)
    derived = derive_config(theirs, options, norm_first=norm_first)
    imported = _build(derived.config, theirs, ORIGINS["fairseq2"], seed)
    return replace(imported, left_out=tuple(left_out), assumed=derived.assumed)


def _import_torchaudio(
    weights: Mapping[str, Any], prefix: str, seed: int, options: ImportOptions
) -> ImportedModel:
    theirs, left_out = interop_torchaudio.state_from_torchaudio(read_tensors(weights, prefix))
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
    config = read_config(config_from_fairseq(settings, len(layers)), "its settings")
    config = apply_training_settings(config, settings, _find_criterion(plain))
    state = state_from_fairseq({name: tensor.float() for name, tensor in weights.items()})
    assumed: dict[str, Any] = {}
    config = apply_options(config, options, find_normalize(plain), assumed)
    imported = _build(config, state, ORIGINS["fairseq"], seed)
    return replace(imported, assumed=assumed)


def _find_criterion(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    config = checkpoint.get("cfg")
    found = config.get("criterion") if isinstance(config, Mapping) else checkpoint.get("args")
    return found if isinstance(found, Mapping) else {}


def _build(
    config: PretrainModelConfig, state: Mapping[str, Tensor], origin: str, seed: int
) -> ImportedModel:
    """Create the model; parts that the checkpoint lacks as a whole keep their new weights."""
    ours = state_from_huggingface(state, num_codebooks=config.quantizer.num_codebooks)
    model, fresh = build_model(
        lambda: create_pretrain_model(config),
        ours,
        seed=seed,
        fresh={MASK_EMBEDDING} if HUGGINGFACE_MASK_EMBEDDING not in state else set(),
    )
    return ImportedModel(model, origin, fresh)
