"""Where in an encoder codebook bottlenecks may stand. No torch: configurations name places too."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Site(StrEnum):
    """Places of a Transformer layer."""

    heads = "heads"
    """What each attention head says, before the output projection; a codebook a head."""
    feed_forward = "feed_forward"
    """What the feed-forward part says, before it is added to the residual stream."""


class Place(NamedTuple):
    """One bottleneck's place.

    Attributes:
        layer: Number of the layer, from 0.
        site: Which part of it.
    """

    layer: int
    site: Site

    def __str__(self) -> str:
        return f"layer {self.layer} {self.site}"
