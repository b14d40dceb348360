"""Training values that go with each size.

Torch-free; registered as the Hydra group `preset` together with the architecture.
"""

from __future__ import annotations

from typing import Any

from speechvq.errors import ConfigError


def create_training_preset(verb: str, preset: str) -> dict[str, Any]:
    """Return the values of optimiser, batches and length that fit a size.

    Args:
        verb: `pretrain`, or `finetune` or `self_train`.
        preset: `tiny`, `small`, `base` or `large`.

    Returns:
        Nested values of `PretrainConfig` or `FinetuneConfig`.

    Raises:
        ConfigError: There is no such preset.
    """
    presets = _PRETRAIN if verb == "pretrain" else _FINETUNE
    if preset not in presets:
        raise ConfigError([f"`preset` must be one of {', '.join(presets)}, but is {preset!r}."])
    return presets[preset]


_PRETRAIN: dict[str, dict[str, Any]] = {
    "tiny": {
        "steps": 2400,
        "optimizer": {"lr": 1e-3, "warmup_share": 0.08},
        "batch": {"batch_seconds": 60.0, "max_seconds": 12.0, "shuffle_window": 128},
    },
    "small": {
        "steps": 50_000,
        "optimizer": {"lr": 1e-3, "warmup_share": 0.08},
        "batch": {"batch_seconds": 320.0, "max_seconds": 15.6},
    },
    # wav2vec 2.0, section 4.2, as fairseq's configuration has it: 64 GPUs × 87.5 s = 1.6 h a batch.
    # Here one rank takes 87.5 s: set `batch.num_accumulate` so that ranks × num_accumulate = 64.
    "base": {
        "steps": 400_000,
        "optimizer": {"lr": 5e-4, "warmup_share": 0.08, "weight_decay": 0.01},
        "batch": {"batch_seconds": 87.5, "max_seconds": 15.625},
        "log_every": 200,
        "validate_every": 5000,
        "checkpoint_every": 5000,
    },
    # fairseq's `wav2vec2_large_librivox`: 128 GPUs × 75 s = 2.7 h a batch, crops of 20 s.
    "large": {
        "steps": 1_000_000,
        "optimizer": {"lr": 3e-4, "warmup_share": 0.032, "weight_decay": 0.01},
        "batch": {"batch_seconds": 75.0, "max_seconds": 20.0},
        "log_every": 200,
        "validate_every": 5000,
        "checkpoint_every": 5000,
    },
}

_TRI_STAGE = {
    "schedule": "tri_stage",
    "warmup_share": 0.1,
    "hold_share": 0.4,
    "final_lr_scale": 0.05,
    "weight_decay": 0.01,
}
"""Shares of wav2vec 2.0, section 4.3."""

_FINETUNE: dict[str, dict[str, Any]] = {
    "tiny": {
        "steps": 1500,
        "optimizer": {**_TRI_STAGE, "lr": 1e-3},
        "batch": {"batch_seconds": 32.0, "max_seconds": 20.0, "language_alpha": 1.0},
        # Tried: a head that learns alone at this rate learns to avoid the blank.
        "freeze_steps": 0,
        "mask_prob": 0.3,
        "mask_length": 5,
        "channel_mask_prob": 0.1,
        "channel_mask_length": 32,
        "speeds": [0.9, 1.0, 1.1],
        "dropout": 0.1,
        "layer_drop_prob": 0.0,
    },
    "small": {
        "steps": 8000,
        "optimizer": {**_TRI_STAGE, "lr": 3e-4},
        "batch": {"batch_seconds": 160.0, "max_seconds": 20.0, "language_alpha": 1.0},
        "dropout": 0.1,
        "layer_drop_prob": 0.05,
    },
    # IndicWav2Vec's finetuning configurations, base and large.
    "base": {
        "steps": 80_000,
        "optimizer": {**_TRI_STAGE, "lr": 1e-4, "eps": 1e-8, "weight_decay": 0.0},
        "batch": {"batch_seconds": 62.5, "max_seconds": 25.0, "language_alpha": 1.0},
        "channel_mask_prob": 0.5,
        "layer_drop_prob": 0.1,
        "log_every": 100,
        "validate_every": 2000,
        "checkpoint_every": 2000,
    },
    "large": {
        "steps": 120_000,
        "optimizer": {**_TRI_STAGE, "lr": 1e-4, "eps": 1e-8, "weight_decay": 0.0},
        "batch": {"batch_seconds": 62.5, "max_seconds": 25.0, "language_alpha": 1.0},
        "channel_mask_prob": 0.25,
        "layer_drop_prob": 0.1,
        "log_every": 100,
        "validate_every": 2000,
        "checkpoint_every": 2000,
    },
}
