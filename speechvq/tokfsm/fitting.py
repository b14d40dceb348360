"""Trains the small language models, dense and with codebooks."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from speechvq.nn.bottleneck import BottleneckOutput
from speechvq.nn.bottleneck_sites import attach_bottleneck, capture_codes, list_bottlenecks
from speechvq.nn.code_placement import place_codebooks, restart_unused
from speechvq.nn.code_tally import CodeTally
from speechvq.nn.places import Place
from speechvq.tokfsm.config import CodeInit, TokfsmConfig
from speechvq.tokfsm.machine import StateMachine
from speechvq.tokfsm.token_model import TokenModel

Advance = Callable[[float], None]
"""Called after each step with the loss."""

_WARM_UP_STEPS = 50
_RESTART_SHARE = 0.6
"""Codes restart in this share of the steps, so that the last of them can settle."""
_PLACING_TEXTS = 512
_MAX_NORM = 1.0
_WEIGHT_DECAY = 0.01
_BETAS = (0.9, 0.98)


def create_token_model(config: TokfsmConfig, machine: StateMachine) -> TokenModel:
    """Builds a model with fresh weights from torch's generator."""
    return TokenModel(
        machine.num_tokens,
        config.num_digits + 1,
        num_layers=config.num_layers,
        model_dim=config.model_dim,
        num_heads=config.num_heads,
    )


def add_codebooks(
    model: TokenModel, config: TokfsmConfig, machine: StateMachine, generator: torch.Generator
) -> None:
    """Puts bottlenecks into all layers, at random or where the activations are."""
    for layer in range(config.num_layers):
        for site in config.sites:
            attach_bottleneck(
                model,
                Place(layer, site),
                codebook_size=config.codebook_size,
                num_active=config.num_active,
            )
    if config.code_init is CodeInit.kmeans:
        texts = machine.draw_texts(_PLACING_TEXTS, config.num_digits, generator)
        place_codebooks(
            model, lambda: model(texts[:, :-1].to(_get_device(model))), generator=generator
        )


def fit(
    model: TokenModel,
    config: TokfsmConfig,
    machine: StateMachine,
    *,
    num_steps: int,
    lr: float,
    generator: torch.Generator,
    advance: Advance,
) -> None:
    """Trains a model on texts that are never seen twice; codebooks with it, where it has some.

    Args:
        model: Changed in place; in evaluation mode afterwards.
        config: Sizes and weights.
        machine: Draws the texts.
        num_steps: Steps.
        lr: Highest learning rate.
        generator: Of the texts and of what restarts.
        advance: Called after each step.
    """
    optimizer = _create_optimizer(model, lr)
    tally = CodeTally(model)
    model.train()
    for step in range(num_steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * _compute_rate(step, num_steps, decays=config.decays)
        texts = machine.draw_texts(config.batch_size, config.num_digits, generator)
        outputs: dict[Place, BottleneckOutput] = {}
        with capture_codes(model, outputs.__setitem__):
            loss = compute_loss(model, texts.to(_get_device(model)))
        total = loss
        for output in outputs.values():
            total = total + config.loss_weight * output.losses.sum()
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), _MAX_NORM)
        optimizer.step()
        if config.restart_every and outputs and step < _RESTART_SHARE * num_steps:
            for place, output in outputs.items():
                tally.receive(place, output)
            if (step + 1) % config.restart_every == 0:
                _restart(model, tally, outputs, generator)
        advance(loss.item())
    model.eval()


def compute_loss(model: TokenModel, texts: Tensor) -> Tensor:
    """Cross-entropy of a token, nats, mean over (B, T) texts."""
    logits = model(texts[:, :-1]).float()
    return F.cross_entropy(logits.flatten(0, 1), texts[:, 1:].flatten())


def _restart(
    model: TokenModel,
    tally: CodeTally,
    outputs: dict[Place, BottleneckOutput],
    generator: torch.Generator,
) -> None:
    for place, bottleneck in list_bottlenecks(model).items():
        _, inputs = outputs[place].get_valid()
        restart_unused(bottleneck, tally.get_counts(place), inputs, generator)
    tally.reset()


def _create_optimizer(model: TokenModel, lr: float) -> torch.optim.AdamW:
    """AdamW without weight decay of codebooks."""
    named = list(model.named_parameters())
    codebooks = [value for name, value in named if name.endswith(".codebooks")]
    rest = [value for name, value in named if not name.endswith(".codebooks")]
    groups = [
        {"params": rest, "weight_decay": _WEIGHT_DECAY},
        {"params": codebooks, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=_BETAS, fused=True)


def _compute_rate(step: int, num_steps: int, *, decays: bool) -> float:
    """Share of the learning rate at a step, from 0."""
    if not decays:
        return 1.0
    return min(1.0, (step + 1) / _WARM_UP_STEPS) * max(0.02, 1 - step / num_steps)


def _get_device(model: TokenModel) -> torch.device:
    return model.positions.device
