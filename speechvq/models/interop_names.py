"""How other projects' names of weights become those of transformers, which
`speechvq.models.interop_huggingface` knows.

Each project has its own table; a name that no table knows is an error, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from speechvq.errors import ModelError

THEIR_CONV = "wav2vec2.feature_extractor.conv_layers."
THEIR_LAYER = "wav2vec2.encoder.layers."


@dataclass(frozen=True, kw_only=True)
class NameTable:
    """Names of one project.

    Attributes:
        conv: Prefix of a convolution, up to its number.
        conv_names: Part of a convolution → part in transformers.
        layer: Prefix of a Transformer layer, up to its number.
        layer_names: Part of a layer → part in transformers.
        names: Module → module in transformers.
        whole_names: Parameter that stands alone → parameter in transformers.
    """

    conv: str
    conv_names: Mapping[str, str]
    layer: str
    layer_names: Mapping[str, str]
    names: Mapping[str, str]
    whole_names: Mapping[str, str]

    def rename(self, name: str) -> str:
        """Returns transformers' name.

        Raises:
            ModelError: There is none.
        """
        if name in self.whole_names:
            return self.whole_names[name]
        stem, _, kind = name.rpartition(".")
        numbered = [
            (self.layer, self.layer_names, THEIR_LAYER),
            (self.conv, self.conv_names, THEIR_CONV),
        ]
        for prefix, names, theirs in numbered:
            match = re.fullmatch(re.escape(prefix) + r"(\d+)\.(.+)", stem)
            if match and match.group(2) in names:
                return f"{theirs}{match.group(1)}.{names[match.group(2)]}.{kind}"
        if stem in self.names:
            return f"{self.names[stem]}.{kind}"
        raise ModelError(f"The weight {name!r} has no counterpart; the model is of another kind.")


def find_prefix(names: Iterable[str], anchor: str) -> str | None:
    """What stands before the names of a model that is part of another, such as "module.".

    Args:
        names: All names of a file.
        anchor: A name that every such model has once.

    Returns:
        The prefix, often empty; None where the anchor stands nowhere, or in several places.
    """
    found = [name for name in names if name == anchor or name.endswith(f".{anchor}")]
    return found[0].removesuffix(anchor) if len(found) == 1 else None
