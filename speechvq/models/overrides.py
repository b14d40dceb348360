"""A model's configuration as `key=value` words, for a run that shall build the same model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from speechvq.models.config import FeatureNorm, PretrainModelConfig
from speechvq.models.config_json import config_to_json
from speechvq.models.presets import create_preset


def list_overrides(config: PretrainModelConfig) -> list[str]:
    """Words for `speechvq pretrain` that give this architecture.

    Args:
        config: With the waveform front end and the Gumbel quantiser.

    Returns:
        The nearest published preset, then what differs from it.
    """
    preset = "large" if config.waveform.norm is FeatureNorm.layer else "base"
    before = _flatten(config_to_json(create_preset(preset)))
    now = _flatten(config_to_json(config))
    different = [
        f"architecture.{key}={json.dumps(value, separators=(',', ':'))}"
        for key, value in now.items()
        if before.get(key) != value
    ]
    return [f"preset={preset}", *different]


def _flatten(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
