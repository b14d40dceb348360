"""Names of the weights of torchaudio's wav2vec 2.0 and HuBERT models.

Pure functions on dictionaries: torchaudio is not needed. torchaudio has encoders only, with or
without a linear map to labels (`aux`), and no quantiser. A saved state dict holds no settings;
`speechvq.models.interop_shapes` finds those.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from speechvq.errors import ModelError
from speechvq.models.interop_names import NameTable

ANCHOR = "encoder.feature_projection.layer_norm.weight"
"""Every `torchaudio.models.Wav2Vec2Model` has it."""
MASK_EMBEDDING = "mask_generator.mask_embedding"
"""Beside the encoder in a `HuBERTPretrainModel`."""

_PARTS = ("feature_extractor.", "encoder.")
_POSITIONS = "pos_conv_embed.conv"
_TABLE = NameTable(
    conv="feature_extractor.conv_layers.",
    conv_names={"conv": "conv", "layer_norm": "layer_norm"},
    layer="encoder.transformer.layers.",
    layer_names={
        name: name
        for name in (
            "attention.q_proj",
            "attention.k_proj",
            "attention.v_proj",
            "attention.out_proj",
            "layer_norm",
            "feed_forward.intermediate_dense",
            "feed_forward.output_dense",
            "final_layer_norm",
        )
    },
    names={
        "encoder.feature_projection.layer_norm": "wav2vec2.feature_projection.layer_norm",
        "encoder.feature_projection.projection": "wav2vec2.feature_projection.projection",
        "encoder.transformer.layer_norm": "wav2vec2.encoder.layer_norm",
        **{
            f"encoder.transformer.{name}": f"wav2vec2.encoder.{name}"
            for name in (_POSITIONS, f"{_POSITIONS}.parametrizations.weight")
        },
    },
    whole_names={},
)


def state_from_torchaudio(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Renames the weights of a torchaudio Wav2Vec2Model to those of Wav2Vec2ForPreTraining.

    Args:
        state: The model's weights, without a common prefix.

    Returns:
        State dict with transformers' names, and the names of the parts that were left out.

    Raises:
        ModelError: The encoder is of a kind that speechvq has not.
    """
    if any(".attention.attention." in name for name in state):
        raise ModelError("The model is a WavLM, whose gated attention speechvq has not.")
    kept = {name: tensor for name, tensor in state.items() if name.startswith(_PARTS)}
    left_out = {name.partition(".")[0] for name in state.keys() - kept.keys()}
    return {_TABLE.rename(name): tensor for name, tensor in kept.items()}, sorted(left_out)
