"""A small wav2vec 2.0 of transformers, and how a model that was made of it is compared with it.

Tests that import this are skipped without transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from speechvq.models.directory import load_pretrain_model
from tests.support.parity import Comparison

transformers = pytest.importorskip("transformers")


def create_theirs_config(norm: str, **more: Any) -> Any:
    """Of a tiny model; `norm` is group (then post-norm) or layer (then pre-norm)."""
    return transformers.Wav2Vec2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        conv_dim=(16,) * 7,
        conv_bias=norm == "layer",
        feat_extract_norm=norm,
        do_stable_layer_norm=norm == "layer",
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        **more,
    )


def create_theirs(norm: str = "layer", *, bare: bool = False) -> Any:
    """For pretraining with random weights, or the `bare` encoder; `norm` is group or layer."""
    config = create_theirs_config(
        norm, num_codevectors_per_group=20, codevector_dim=16, proj_codevector_dim=24
    )
    torch.manual_seed(0)
    kind = transformers.Wav2Vec2Model if bare else transformers.Wav2Vec2ForPreTraining
    return kind(config).eval()


def compare_models(theirs: Any, directory: Path, compare: Comparison) -> None:
    """The same context of the same waveform, and the same codes if there are any."""
    ours = load_pretrain_model(directory)
    torch.manual_seed(1)
    waveform = 0.1 * torch.randn(2, 8000)
    lengths = torch.tensor([8000, 8000])
    with torch.no_grad():
        base = getattr(theirs, "wav2vec2", theirs)
        given = waveform
        if ours.config.waveform.normalize:
            given = waveform - waveform.mean(1, keepdim=True)
            given = given / torch.sqrt(waveform.var(1, correction=0, keepdim=True) + 1e-7)
        expected = base(given)
        encoded = ours.encoder(waveform, lengths)
        compare("context", encoded.context, expected.last_hidden_state)
        if hasattr(theirs, "quantizer"):
            logits = theirs.quantizer.weight_proj(expected.extract_features)
            codes = logits.unflatten(-1, (2, 20)).argmax(-1)
            assert torch.equal(ours.quantizer.encode(encoded.features), codes)
            projected = theirs.project_hid(expected.last_hidden_state)
            compare("projected", ours.task.context_projection(encoded.context), projected)
