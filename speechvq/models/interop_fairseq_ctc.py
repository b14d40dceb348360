"""Settings and weights of fairseq's recognisers (`wav2vec_ctc`), IndicWav2Vec's among them: a
wav2vec 2.0 inside an encoder with a projection to labels. Pure functions on dictionaries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from speechvq.errors import ModelError
from speechvq.models.interop_names import find_prefix

_ENCODER = "w2v_model."
_HEAD = "proj."
_ANCHOR = f"{_ENCODER}layer_norm.weight"
_PRETRAINING_PARTS = ("quantizer.", "input_quantizer.", "project_q.", "project_inp.", "final_proj.")
_OVERRIDES = {
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
    "dropout_input": "dropout_input",
    "layerdrop": "encoder_layerdrop",
}
"""Settings of finetuning → those of the encoder that they replace."""


def find_recognizer_prefix(names: Mapping[str, Any]) -> str | None:
    """What stands before the names of a recogniser's weights, usually "w2v_encoder.".

    Args:
        names: All weights of a file.

    Returns:
        The prefix; None where the file holds no recogniser of fairseq.
    """
    return find_prefix(names, _ANCHOR)


def split_recognizer(
    state: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], Tensor, Tensor, list[str]]:
    """Takes a recogniser apart.

    Args:
        state: Its weights, without a common prefix.

    Returns:
        The encoder's weights with the names of a fairseq Wav2Vec2Model, weight (M, D) and bias (M,)
        of the head, and the names of the parts that are left out.

    Raises:
        ModelError: It has no head, or one of another shape.
    """
    weight, bias = (state.get(f"{_HEAD}{kind}") for kind in ("weight", "bias"))
    if weight is None or bias is None or weight.dim() != 2 or bias.shape != weight.shape[:1]:
        raise ModelError(
            "The recogniser must have a head `proj` with (labels, channels) weights and a bias a "
            "label, but has not; fairseq's sequence-to-sequence models cannot be imported."
        )
    encoder = {
        name.removeprefix(_ENCODER): tensor
        for name, tensor in state.items()
        if name.startswith(_ENCODER)
    }
    kept = {n: tensor for n, tensor in encoder.items() if not n.startswith(_PRETRAINING_PARTS)}
    left_out = {name.partition(".")[0] for name in encoder.keys() - kept.keys()}
    left_out |= {name.partition(".")[0] for name in state if not name.startswith((_ENCODER, _HEAD))}
    return kept, weight, bias, sorted(left_out)


def find_recognizer_settings(
    checkpoint: Mapping[str, Any],
) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Finds the settings of finetuning and, within them, of the encoder.

    Args:
        checkpoint: `cfg` and `args` of the file, made plain.

    Returns:
        Flat settings of the encoder, with the dropout of finetuning; and the settings of
        finetuning.

    Raises:
        ModelError: The file has none.
    """
    config = checkpoint.get("cfg")
    finetuning = config.get("model") if isinstance(config, Mapping) else checkpoint.get("args")
    outer = finetuning.get("w2v_args") if isinstance(finetuning, Mapping) else None
    if not isinstance(finetuning, Mapping) or not isinstance(outer, Mapping):
        raise ModelError(
            "A recogniser of fairseq must hold the settings of its encoder (`w2v_args`), but this "
            "file has none."
        )
    inner = outer.get("model")  # newer files: the whole configuration of pretraining
    settings = dict(inner if isinstance(inner, Mapping) else outer)
    for ours, theirs in _OVERRIDES.items():
        if finetuning.get(ours) is not None:
            settings[theirs] = finetuning[ours]
    settings["quantize_targets"] = True  # the quantiser is gone, and with it what this would say
    return settings, finetuning


def find_pretraining_task(finetuning: Mapping[str, Any]) -> dict[str, Any]:
    """What pretraining said of its task, in the form of a checkpoint of pretraining.

    Args:
        finetuning: What `find_recognizer_settings` returned.
    """
    outer = finetuning["w2v_args"]
    return {"cfg": outer} if "model" in outer and "task" in outer else {"args": outer}
