"""Names of the weights of fairseq2's wav2vec 2.0 models (omnilingual-asr's among them).

Pure functions on dictionaries: fairseq2 is not needed. Names are those of its 0.8.1, and of all
checkpoints that Meta published in its format. Such a file holds weights and no settings;
`speechvq.models.interop_shapes` finds those.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from speechvq.errors import ModelError
from speechvq.models.interop_names import NameTable

ANCHOR = "encoder_frontend.post_extract_layer_norm.weight"
"""Every wav2vec 2.0 model of fairseq2 has it, recognisers too."""

_ENCODER_PARTS = ("encoder_frontend.", "encoder.", "masker.")
_PRETRAINING_PARTS = ("quantizer.", "final_proj.", "final_target_proj.")
_COUNTER = "quantizer.num_updates"
_NORMS = {"encoder_frontend.layer_norm.weight": False, "encoder.layer_norm.weight": True}
"""The norm beside the layers' own → whether it is that of a pre-norm model."""
_TABLE = NameTable(
    conv="encoder_frontend.feature_extractor.layers.",
    conv_names={"conv": "conv", "group_norm": "layer_norm", "layer_norm": "layer_norm"},
    layer="encoder.layers.",
    layer_names={
        "self_attn.q_proj": "attention.q_proj",
        "self_attn.k_proj": "attention.k_proj",
        "self_attn.v_proj": "attention.v_proj",
        "self_attn.output_proj": "attention.out_proj",
        "self_attn_layer_norm": "layer_norm",
        "ffn.inner_proj": "feed_forward.intermediate_dense",
        "ffn.output_proj": "feed_forward.output_dense",
        "ffn_layer_norm": "final_layer_norm",
    },
    names={
        "encoder_frontend.post_extract_layer_norm": "wav2vec2.feature_projection.layer_norm",
        "encoder_frontend.model_dim_proj": "wav2vec2.feature_projection.projection",
        "encoder_frontend.pos_encoder.conv": "wav2vec2.encoder.pos_conv_embed.conv",
        "encoder_frontend.layer_norm": "wav2vec2.encoder.layer_norm",
        "encoder.layer_norm": "wav2vec2.encoder.layer_norm",
        "quantizer.entry_proj": "quantizer.weight_proj",
        "final_proj": "project_hid",
        "final_target_proj": "project_q",
    },
    whole_names={
        "masker.temporal_mask_embed": "wav2vec2.masked_spec_embed",
        "quantizer.entries": "quantizer.codevectors",
    },
)


def state_from_fairseq2(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Renames the weights of a fairseq2 model to those of Wav2Vec2ForPreTraining.

    Args:
        state: The model's weights, without a common prefix. Of a recogniser the encoder is taken.

    Returns:
        State dict with transformers' names, and the names of the parts that were left out.

    Raises:
        ModelError: The encoder is of a kind that speechvq has not.
    """
    find_norm_order(state)
    _check_front_end(state)
    has_quantizer = "quantizer.entries" in state
    parts = _ENCODER_PARTS + (_PRETRAINING_PARTS if has_quantizer else ())
    kept = {name: tensor for name, tensor in state.items() if name.startswith(parts)}
    left_out = {name.partition(".")[0] for name in state.keys() - kept.keys()}
    kept.pop(_COUNTER, None)
    return {_TABLE.rename(name): tensor for name, tensor in kept.items()}, sorted(left_out)


def find_norm_order(state: Mapping[str, Tensor]) -> bool:
    """Whether the layers are pre-norm, told by where the model's own norm stands.

    Args:
        state: The model's weights.

    Returns:
        True for pre-norm, False for post-norm.

    Raises:
        ModelError: There is no such norm, or there are two.
    """
    found = [norm_first for name, norm_first in _NORMS.items() if name in state]
    if len(found) != 1:
        raise ModelError(
            "A model must have one of `encoder_frontend.layer_norm` (post-norm) and "
            f"`encoder.layer_norm` (pre-norm), but this one has {'both' if found else 'neither'}."
        )
    return found[0]


def _check_front_end(state: Mapping[str, Tensor]) -> None:
    """Names what speechvq has not, in words instead of a weight's name."""
    problems = {
        "encoder_frontend.feature_extractor.layers.0.conv.weight": (
            "no convolutions on the waveform; filter banks of fairseq2 cannot be imported"
        ),
        "encoder_frontend.pos_encoder.conv.weight_v": (
            "no single positional convolution; stacked, relative and rotary positions cannot be "
            "imported"
        ),
        "encoder_frontend.model_dim_proj.weight": (
            "no projection between features and Transformer, which every model of speechvq has"
        ),
        "encoder.layers.0.ffn.inner_proj.weight": (
            "no plain Transformer layers; Conformers cannot be imported"
        ),
    }
    for name, problem in problems.items():
        if name not in state:
            raise ModelError(f"The model has {problem} (there is no weight `{name}`).")
