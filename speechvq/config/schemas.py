"""Registers the run schemas and presets with Hydra's ConfigStore.

The dataclasses stand beside what they configure; `conf/*.yaml` composes them and holds named
differences.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

from hydra.core.config_store import ConfigStore

from speechvq.models.config import PretrainModelConfig, QuantizerConfig
from speechvq.models.config_json import QUANTIZER_KINDS
from speechvq.models.presets import PRESETS, create_gumbel, create_preset
from speechvq.tokfsm.config import PRESETS as TOKFSM_PRESETS
from speechvq.training.presets import create_training_preset


def register_schemas(name: str, schema: type[Any], overrides: Iterable[str] = ()) -> None:
    """Make a run schema and its groups known to Hydra.

    Args:
        name: The verb; its YAML starts from `<name>_schema`.
        schema: The run's dataclass.
        overrides: The command line: with `init=DIR`, pretraining's presets have the architecture of
            that model instead of their own.

    Raises:
        ModelError: `init` is no model directory that can be read.
    """
    store = ConfigStore.instance()
    if name not in ("pretrain", "finetune", "self_train"):
        store.store(name=f"{name}_schema", node=schema)
        if name == "tokfsm":
            for preset, node in TOKFSM_PRESETS.items():
                store.store(group="preset", name=preset, node=node, package="_global_")
        return
    # A quantiser of any kind may be merged into the base of all kinds, but not into another kind.
    architecture = replace(create_preset("tiny"), quantizer=QuantizerConfig())
    store.store(name=f"{name}_schema", node=schema(architecture=architecture))
    init = _find_value(overrides, "init") if name == "pretrain" else None
    found = None if init is None else _read_architecture(init)
    _register_presets(store, name, found)
    _register_quantizers(store, found)


def _read_architecture(init: str) -> PretrainModelConfig:
    from speechvq.models.directory import read_architecture  # needs torch

    return read_architecture(init)


def _find_value(overrides: Iterable[str], key: str) -> str | None:
    """Return the last value of a key that is a plain text, or None."""
    values = [text.partition("=")[2] for text in overrides if text.startswith(f"{key}=")]
    return values[-1].strip("'\"") if values and values[-1] not in ("", "null") else None


def _register_presets(store: ConfigStore, verb: str, found: PretrainModelConfig | None) -> None:
    """Add the group `preset`: an architecture, or the one found, with the values that train it."""
    for preset in PRESETS:
        architecture = _to_plain(asdict(found or create_preset(preset)))
        del architecture["quantizer"]  # the group `quantizer` has it
        # `features` on the command line decides; the architecture follows.
        features = architecture.pop("features")
        architecture["features"] = "${features}"
        node = {
            "architecture": architecture,
            "features": features,
            **create_training_preset(verb, preset),
        }
        store.store(group="preset", name=preset, node=node, package="_global_")


def _register_quantizers(store: ConfigStore, found: PretrainModelConfig | None) -> None:
    """Add the group `quantizer`: every kind, and each preset's own, or the one found instead."""
    nodes: dict[str, QuantizerConfig] = {kind: cls() for kind, cls in QUANTIZER_KINDS.items()}
    for preset in PRESETS:
        nodes[f"gumbel_{preset}"] = create_gumbel(preset)
        nodes[f"of_{preset}"] = (found or create_preset(preset)).quantizer
    for name, node in nodes.items():
        store.store(group="quantizer", name=name, node=node, package="architecture.quantizer")


def _to_plain(value: Any) -> Any:
    """Turn enums into their names, which OmegaConf reads back by the schema's type."""
    if isinstance(value, dict):
        return {key: _to_plain(item) for key, item in value.items()}
    return value.name if hasattr(value, "name") else value
