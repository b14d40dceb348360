"""Writes a model's card again with what was measured of it: `speechvq card MODEL --results DIR`.

Evaluations reach a card only so, on demand: `evaluate` changes no model directory.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from speechvq.deploy.decoding_weights import read_all_settings
from speechvq.deploy.evaluation_files import METRICS_FILE, read_metrics
from speechvq.deploy.evaluation_result import KIND
from speechvq.durable import write_durably
from speechvq.errors import DataError, ModelError
from speechvq.models.card import render_model_card
from speechvq.models.ctc_model import CTCModel
from speechvq.models.digest import compute_model_digest
from speechvq.models.directory import CARD_FILE, load_model, read_json, read_model_config


def write_model_card(
    model: str | Path, *, results: Sequence[str | Path] = (), license_name: str | None = None
) -> Path:
    """Replaces README.md of a model directory.

    Args:
        model: The model directory.
        results: Outputs of `evaluate` with this very model.
        license_name: Under which the weights are published, such as `cc-by-4.0`.

    Returns:
        The card.

    Raises:
        ModelError: The model cannot be read, or the licence's name is none.
        DataError: A directory holds no evaluation, or one of another model.
    """
    model = Path(model)
    if license_name is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", license_name):
        raise ModelError(
            "`--license` must be a name as Hugging Face abbreviates it, such as cc-by-4.0 or "
            f"apache-2.0, but is {license_name!r}."
        )
    loaded = load_model(model)
    digest = compute_model_digest(model)
    evaluations = [read_metrics(directory) for directory in results]
    for directory, metrics in zip(results, evaluations, strict=True):
        if metrics.get("kind") != KIND:
            raise DataError(
                f"{directory} must hold what `evaluate` wrote, but holds other results."
            )
        if metrics.get("model_digest") != digest:
            raise DataError(
                f"{directory} holds an evaluation of another model: `model_digest` must be "
                f"{digest}, but is {metrics.get('model_digest')}. Evaluate {model}."
            )
    vocabularies = loaded.vocabularies if isinstance(loaded, CTCModel) else {}
    card = render_model_card(
        read_model_config(model),
        read_json(model / METRICS_FILE),
        {name: len(vocabulary) for name, vocabulary in vocabularies.items()},
        sum(parameter.numel() for parameter in loaded.parameters()),
        evaluations=evaluations,
        decoding=read_all_settings(model),
        license_name=license_name,
    )
    write_durably(model / CARD_FILE, card.encode())
    return model / CARD_FILE
