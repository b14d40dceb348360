"""Are codes what the model goes by? Codes of one text are put into another, and the next token
should follow the text that they came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from speechvq.nn.bottleneck import BottleneckOutput
from speechvq.nn.bottleneck_sites import capture_codes
from speechvq.nn.code_edits import Interchange, apply_edits
from speechvq.nn.places import Place, Site
from speechvq.tokfsm.machine import StateMachine
from speechvq.tokfsm.token_model import TokenModel


@dataclass(frozen=True, kw_only=True)
class InterchangeResult:
    """What came of putting codes of other texts in at one token.

    Attributes:
        name: Which codes.
        divergence: Jensen–Shannon divergence of the next token's distribution to that of the text
            that the codes came from, over that without any codes put in: 1 does nothing, 0 all.
        legal: Share of the next token that the state of the codes' text allows.
    """

    name: str
    divergence: float
    legal: float


def compute_divergence(first: Tensor, second: Tensor) -> Tensor:
    """Jensen–Shannon divergence of distributions (..., N) in nats, (...)."""
    middle = (first + second) / 2
    parts = [torch.xlogy(one, one) - torch.xlogy(one, middle) for one in (first, second)]
    return (parts[0] + parts[1]).sum(-1).clamp(min=0.0) / 2


@torch.no_grad()
def exchange_codes(
    model: TokenModel,
    machine: StateMachine,
    texts: Tensor,
    sources: Tensor,
    generator: torch.Generator,
) -> list[InterchangeResult]:
    """Puts the codes of other texts in at the last token.

    Args:
        model: Has bottlenecks; in evaluation mode.
        machine: Says what is legal.
        texts: (B, 1 + 2 n) long.
        sources: (B, 1 + 2 n) long, where the codes come from; pairs that end in the same state are
            left out.
        generator: Of the control with random codes.

    Returns:
        Without codes, with those of each place, of all heads, of all feed-forward parts, of all
        places, and with random ones: each codebook's codes are dealt out anew among the texts, so
        that they occur as often.
    """
    ends = machine.read_states(sources)[:, -1]
    is_other = machine.read_states(texts)[:, -1] != ends
    texts, sources, ends = (one[is_other] for one in (texts, sources, ends))
    allowed = (machine.list_first_digits() > 0)[ends]  # (B, N)
    targets, codes = _predict_recorded(model, sources)
    plain = _predict(model, texts, {})
    base = compute_divergence(plain, targets).mean()
    results = []
    for name, places in _list_choices(codes):
        chosen = {place: codes[place] for place in places}
        patched = _predict(model, texts, chosen)
        results.append(_compare(name, patched, targets, base, allowed))
    random = {place: _deal_out(one, generator) for place, one in codes.items()}
    results.append(_compare("random codes", _predict(model, texts, random), targets, base, allowed))
    results.insert(0, _compare("none", plain, targets, base, allowed))
    return results


def _list_choices(places: Iterable[Place]) -> list[tuple[str, Sequence[Place]]]:
    all_places = list(places)
    choices: list[tuple[str, Sequence[Place]]] = [(str(place), [place]) for place in all_places]
    for site in Site:
        own = [place for place in all_places if place.site is site]
        if len(own) > 1:
            choices.append((f"all {site}", own))
    return [*choices, ("all", all_places)]


def _predict_recorded(model: TokenModel, texts: Tensor) -> tuple[Tensor, dict[Place, Tensor]]:
    """Distributions after the texts, (B, N), and the codes (B, 1, G, k) of the last token."""
    found: dict[Place, BottleneckOutput] = {}
    with capture_codes(model, found.__setitem__):
        probs = _predict(model, texts, {})
    return probs, {place: output.codes[:, -1:] for place, output in found.items()}


def _predict(model: TokenModel, texts: Tensor, codes: dict[Place, Tensor]) -> Tensor:
    length = texts.size(1)
    edits = [
        Interchange(layer=layer, site=site, span=(length - 1, length), codes=one)
        for (layer, site), one in codes.items()
    ]
    with apply_edits(model, edits):
        logits = model(texts.to(model.positions.device))
    probs: Tensor = logits[:, -1].double().softmax(-1).cpu()
    return probs


def _deal_out(codes: Tensor, generator: torch.Generator) -> Tensor:
    """Codes (B, 1, G, k) of each codebook, exchanged among the texts."""
    order = torch.rand(len(codes), codes.size(2), generator=generator).argsort(0)  # (B, G)
    index = order[:, None, :, None].expand(codes.shape)
    return codes.gather(0, index.to(codes.device))


def _compare(
    name: str, probs: Tensor, targets: Tensor, base: Tensor, allowed: Tensor
) -> InterchangeResult:
    return InterchangeResult(
        name=name,
        divergence=float(compute_divergence(probs, targets).mean() / base),
        legal=float((probs * allowed).sum(-1).mean()),
    )
