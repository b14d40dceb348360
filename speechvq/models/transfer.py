"""Recognisers made of models that exist: a pretrained encoder under new heads, or a recogniser that
learns another language.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechvq.errors import ConfigError, ModelError
from speechvq.models.build import create_ctc_model
from speechvq.models.config import CTCModelConfig
from speechvq.models.config_json import config_from_json, config_to_json
from speechvq.models.ctc_model import CTCModel
from speechvq.models.directory import load_ctc_model, load_model
from speechvq.models.vocabulary import Vocabulary
from speechvq.nn.bottleneck_sites import attach_alike


def init_ctc_from_pretrained(
    directory: str | Path,
    vocabularies: Mapping[str, Vocabulary],
    overrides: Mapping[str, object] | None = None,
) -> CTCModel:
    """Makes a recogniser whose encoder is a pretrained one, or another recogniser's, with the
    bottlenecks that it has, and whose heads are new.

    Args:
        directory: A model directory of either kind.
        vocabularies: By language.
        overrides: Values for keys of `CTCModelConfig` that do not change the shape of the encoder:
            {"encoder.dropout": 0.1, ...}.

    Returns:
        The recogniser, on the CPU, in training mode.

    Raises:
        ModelError: The directory cannot be read, or an override names an unknown key or changes the
        encoder's shape. ConfigError: An override has an impossible value.
    """
    pretrained = load_model(directory)
    source = config_to_json(pretrained.config)
    document = config_to_json(CTCModelConfig())
    document.update({key: source[key] for key in ("features", "fbank", "waveform", "encoder")})
    for key, value in (overrides or {}).items():
        _override(document, key, value)
    model = create_ctc_model(config_from_json(CTCModelConfig, document, "overrides"), vocabularies)
    attach_alike(model, pretrained)
    try:
        model.encoder.load_state_dict(pretrained.encoder.state_dict())
    except RuntimeError as error:
        raise ModelError(
            f"The overrides {dict(overrides or {})} change the shape of the encoder in "
            f"{directory}; leave out those that do."
        ) from error
    return model


def add_languages(
    directory: str | Path,
    vocabularies: Mapping[str, Vocabulary],
    overrides: Mapping[str, object] | None = None,
) -> CTCModel:
    """Gives a recogniser more languages, with new heads and adapters; its own stay as they are.

    While the encoder is frozen, what it says in its own languages does not change by a bit: where
    it had no adapters they get some that do nothing.

    Args:
        directory: A recogniser's model directory.
        vocabularies: The new languages. One that the recogniser knows gets a new head and new
            adapters.
        overrides: As for `init_ctc_from_pretrained`; `adapter_dim` must be positive, and that of
            the recogniser if it has adapters.

    Returns:
        The recogniser, on the CPU, in training mode.

    Raises:
        ModelError: The directory holds no recogniser, or its adapters have another width.
    """
    source = load_ctc_model(directory)
    adapter_dim = (overrides or {}).get("adapter_dim")
    if source.config.adapter_dim not in (0, adapter_dim):
        raise ModelError(
            f"`adapter_dim` must be that of {directory} ({source.config.adapter_dim}) to keep its "
            f"languages, but is {adapter_dim}."
        )
    kept = {name: one for name, one in source.vocabularies.items() if name not in vocabularies}
    model = init_ctc_from_pretrained(directory, {**kept, **vocabularies}, overrides)
    for language in kept:
        model.heads[language].load_state_dict(source.heads[language].state_dict())
        if source.config.adapter_dim:
            model.adapters[language].load_state_dict(source.adapters[language].state_dict())
    return model


def reset_top_layers(model: CTCModel, num_layers: int) -> None:
    """Gives the last Transformer layers the weights that a new model would have.

    Args:
        model: Changed in place.
        num_layers: How many layers, from the top.

    Raises:
        ConfigError: The model has fewer layers.
    """
    layers = model.encoder.transformer.layers
    if num_layers > len(layers):
        raise ConfigError(
            [f"`reset_layers` must be at most the model's {len(layers)}, but is {num_layers}."]
        )
    if num_layers == 0:
        return
    fresh = create_ctc_model(model.config, model.vocabularies)
    attach_alike(fresh, model)
    new = fresh.encoder.transformer.layers
    for number in range(len(layers) - num_layers, len(layers)):
        layers[number].load_state_dict(new[number].state_dict())


def _override(document: dict[str, Any], key: str, value: object) -> None:
    *sections, name = key.split(".")
    section: Any = document
    for part in sections:
        section = section.get(part) if isinstance(section, dict) else None
    if not isinstance(section, dict) or name not in section:
        raise ModelError(f"`{key}` must be a key of a recogniser's configuration, but is unknown.")
    section[name] = getattr(value, "value", value)
