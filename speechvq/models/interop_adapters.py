"""Names of transformers' adapters (Wav2Vec2AttnAdapterLayer, MMS), in both directions. Pure
functions on dictionaries.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from speechvq.models.interop_names import THEIR_LAYER

_ADAPTER = "adapter_layer"
_ADAPTER_NAMES = {"norm": "norm", "down": "linear_1", "up": "linear_2"}
"""Parts of an adapter: ours, theirs."""


def adapters_to_huggingface(state: Mapping[str, Tensor], language: str) -> dict[str, Tensor]:
    """Renames the adapters of one language for transformers' Wav2Vec2AttnAdapterLayer.

    Args:
        state: State dict of our recogniser.
        language: Whose adapters are taken.

    Returns:
        State dict of transformers' adapters; empty where the recogniser has none.
    """
    result = {}
    for name, tensor in state.items():
        if name.startswith(f"adapters.{language}."):
            number, part, kind = name.removeprefix(f"adapters.{language}.").split(".")
            result[f"{THEIR_LAYER}{number}.{_ADAPTER}.{_ADAPTER_NAMES[part]}.{kind}"] = tensor
    return result


def adapters_from_huggingface(
    state: Mapping[str, Tensor], language: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Takes the adapters out of a state dict of transformers.

    Args:
        state: transformers' state dict.
        language: Whose adapters they become.

    Returns:
        State dict of our adapters, and the rest of transformers'.
    """
    ours, rest = {}, {}
    parts = {theirs: part for part, theirs in _ADAPTER_NAMES.items()}
    pattern = rf"{re.escape(THEIR_LAYER)}(\d+)\.{_ADAPTER}\.({'|'.join(parts)})\.(\w+)"
    for name, tensor in state.items():
        if match := re.fullmatch(pattern, name):
            number, part, kind = match.groups()
            ours[f"adapters.{language}.{number}.{parts[part]}.{kind}"] = tensor
        else:
            rest[name] = tensor
    return ours, rest
