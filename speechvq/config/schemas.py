"""Registers the run schemas and presets with Hydra's ConfigStore.

The dataclasses stand beside what they configure; `conf/*.yaml` composes them and holds named
differences.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from hydra.core.config_store import ConfigStore

from speechvq.models.config import QuantizerConfig
from speechvq.models.config_json import QUANTIZER_KINDS
from speechvq.models.presets import PRESETS, create_preset
from speechvq.training.presets import create_training_preset


def register_schemas(name: str, schema: type[Any]) -> None:
    """Make a run schema and its groups known to Hydra.

    Args:
        name: The verb; its YAML starts from `<name>_schema`.
        schema: The run's dataclass.
    """
    store = ConfigStore.instance()
    if name not in ("pretrain", "finetune"):
        store.store(name=f"{name}_schema", node=schema)
        return
    # A quantiser of any kind may be merged into the base of all kinds, but not into another kind.
    architecture = replace(create_preset("tiny"), quantizer=QuantizerConfig())
    store.store(name=f"{name}_schema", node=schema(architecture=architecture))
    _register_presets(store, name)
    _register_quantizers(store)


def _register_presets(store: ConfigStore, verb: str) -> None:
    """Add the group `preset`: an architecture with the training values that fit it."""
    for preset in PRESETS:
        architecture = _to_plain(asdict(create_preset(preset)))
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


def _register_quantizers(store: ConfigStore) -> None:
    """Add the group `quantizer`: every kind, and the published kind as each preset has it."""
    nodes: dict[str, QuantizerConfig] = {kind: cls() for kind, cls in QUANTIZER_KINDS.items()}
    nodes.update({f"gumbel_{preset}": create_preset(preset).quantizer for preset in PRESETS})
    for name, node in nodes.items():
        store.store(group="quantizer", name=name, node=node, package="architecture.quantizer")


def _to_plain(value: Any) -> Any:
    """Turn enums into their names, which OmegaConf reads back by the schema's type."""
    if isinstance(value, dict):
        return {key: _to_plain(item) for key, item in value.items()}
    return value.name if hasattr(value, "name") else value
