"""Which bottlenecks of codes a model has, as a model directory says it.

config.json of a model without any has no key `bottlenecks`, and is what it was before there were
such; otherwise a list, one object each, of a closed schema. Their weights stand with the model's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from speechvq.errors import ModelError
from speechvq.models.config_json import config_from_json, config_to_json
from speechvq.nn.bottleneck_sites import attach_bottleneck, list_bottlenecks
from speechvq.nn.places import Place, Site


@dataclass(frozen=True, kw_only=True)
class BottleneckConfig:
    """One bottleneck.

    Attributes:
        layer: From 0.
        site: Which part of the layer.
        num_codebooks: G.
        codebook_size: V.
        num_active: k.
    """

    layer: int
    site: Site
    num_codebooks: int
    codebook_size: int
    num_active: int


def describe_bottlenecks(model: nn.Module) -> list[BottleneckConfig]:
    """The bottlenecks that a model has, from the bottom."""
    return [
        BottleneckConfig(
            layer=place.layer,
            site=place.site,
            num_codebooks=one.num_codebooks,
            codebook_size=one.codebook_size,
            num_active=one.num_active,
        )
        for place, one in list_bottlenecks(model).items()
    ]


def bottlenecks_to_json(model: nn.Module) -> list[dict[str, Any]]:
    """What stands in config.json; empty for a model without bottlenecks."""
    return [config_to_json(one) for one in describe_bottlenecks(model)]


def attach_from_json(model: nn.Module, document: object, path: str) -> None:
    """Gives a model the bottlenecks that config.json describes, with codes that mean nothing yet.

    Args:
        model: Has none.
        document: Parsed JSON.
        path: Where it stands, for messages.

    Raises:
        ModelError: It is not of the schema, or the model has no room for such bottlenecks.
    """
    if not isinstance(document, list) or not document:
        raise ModelError(
            f"{path} must be a list of bottlenecks, or left out; copy the directory again from "
            "where it was made."
        )
    for number, entry in enumerate(document):
        config = config_from_json(BottleneckConfig, entry, f"{path}[{number}]")
        try:
            attach_bottleneck(
                model,
                Place(config.layer, config.site),
                codebook_size=config.codebook_size,
                num_active=config.num_active,
                num_codebooks=config.num_codebooks,
            )
        except (ValueError, RuntimeError, OverflowError) as error:
            raise ModelError(f"{path}[{number}] cannot work: {error}") from error
