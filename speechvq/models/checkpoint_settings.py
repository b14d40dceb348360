"""Settings and weights that foreign checkpoints of every kind have, read alike for pretrained
models (`speechvq.models.importing`) and recognisers (`speechvq.models.importing_recognizers`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from speechvq.errors import ModelError
from speechvq.models.config import FeatureNorm, PretrainModelConfig
from speechvq.models.config_json import config_from_json, config_to_json
from speechvq.models.imported_weights import HUGGINGFACE_WEIGHTS, read_huggingface_weights
from speechvq.models.interop_huggingface import pretrain_config_from_huggingface
from speechvq.models.interop_labels import read_json
from speechvq.models.interop_shapes import ImportOptions

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


def check_origin(origin: str, project: str | None, source: Path) -> None:
    """Refuses a checkpoint of another project than the one that was named.

    Args:
        origin: Value of `ORIGINS`: what the checkpoint is.
        project: Key of `ORIGINS`: what it must be; None for any.
        source: Where it is.

    Raises:
        ModelError: It is another's.
    """
    if project is not None and origin != ORIGINS.get(project):
        (found,) = (name for name, known in ORIGINS.items() if known == origin)
        raise ModelError(
            f"`--from` must be {found}, or left out, but is {project}: {source} is a checkpoint of "
            f"{origin}."
        )


def read_huggingface_files(directory: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads the weights and the settings of a directory of transformers.

    Args:
        directory: With `config.json` and one of `HUGGINGFACE_WEIGHTS`.

    Returns:
        State dict and `config.json`, as they are.

    Raises:
        ModelError: One of them is missing or cannot be read.
    """
    for names in (("config.json",), HUGGINGFACE_WEIGHTS):
        if not any((directory / name).is_file() for name in names):
            raise ModelError(
                f"{directory / names[0]} does not exist; a transformers directory must hold "
                "`config.json` and `model.safetensors` or `pytorch_model.bin`. Save sharded ones "
                'anew with `safe_serialization=True, max_shard_size="100GB"`.'
            )
    state = read_huggingface_weights(directory)
    return state, read_json(directory / "config.json")


def read_normalize(path: Path) -> bool | None:
    """Whether transformers' processor normalises.

    Args:
        path: `preprocessor_config.json`.

    Returns:
        None where there is none.

    Raises:
        ModelError: It cannot be read, or says neither yes nor no.
    """
    if not path.is_file():
        return None
    value = read_json(path).get("do_normalize", True)  # as Wav2Vec2FeatureExtractor has it
    if not isinstance(value, bool):
        raise ModelError(f"{path}: do_normalize must be true or false, but is {value!r}.")
    return value


def find_weights(checkpoint: Mapping[Any, Any]) -> dict[str, Any]:
    """The state dict, at the top or under the key that fairseq2 or Lightning uses.

    Args:
        checkpoint: The whole file.
    """
    for key in ("model", "state_dict"):
        if isinstance(found := checkpoint.get(key), Mapping):
            checkpoint = found
            break
    return {name: value for name, value in checkpoint.items() if isinstance(name, str)}


def read_tensors(weights: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
    """The weights of the model that stands under `prefix`, in fp32.

    Args:
        weights: What `find_weights` returned.
        prefix: What stands before their names, which is taken off.

    Raises:
        ModelError: One of them is no tensor.
    """
    state = {}
    for name, value in weights.items():
        if name.startswith(prefix):
            if not isinstance(value, Tensor):
                raise ModelError(f"Its weights must be tensors only, but {name!r} is none.")
            state[name.removeprefix(prefix)] = value.float()
    return state


def apply_options(
    config: PretrainModelConfig,
    options: ImportOptions,
    told: bool | None,
    assumed: dict[str, Any],
) -> PretrainModelConfig:
    """Of a checkpoint with settings only the normalisation of waveforms may be told.

    Args:
        config: What the checkpoint's settings say.
        options: What the caller says.
        told: What the checkpoint says of normalisation itself.
        assumed: Gets what neither says.

    Returns:
        The configuration with the normalisation.

    Raises:
        ModelError: The caller says something else, too.
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


def read_config(document: Mapping[str, Any], where: str | Path) -> PretrainModelConfig:
    """Reads settings in the form of transformers' `config.json`, a recogniser's too.

    Args:
        document: Parsed JSON; what it lacks has `PRETRAINING_DEFAULTS`.
        where: What it is, for messages.

    Raises:
        ModelError: A setting is missing or impossible, or speechvq has no such model.
    """
    try:
        config = pretrain_config_from_huggingface({**PRETRAINING_DEFAULTS, **document})
    except KeyError as error:
        raise ModelError(f"{where} lacks {error}.") from None
    except (TypeError, ValueError) as error:
        raise ModelError(f"{where} cannot be understood: {error}.") from error
    # The way through JSON checks the type of every value.
    return config_from_json(PretrainModelConfig, config_to_json(config), str(where))
