"""Which codes and neurons stand for the states of the machine, and how precisely."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from speechvq.analysis.concept_scores import (
    ConceptScores,
    NeuronTable,
    count_concepts,
    find_best_codes,
    score_codes,
    score_neurons,
)
from speechvq.nn.bottleneck import BottleneckOutput
from speechvq.nn.bottleneck_sites import capture_codes, list_bottlenecks, list_layers
from speechvq.nn.places import Place
from speechvq.tokfsm.machine import DIGITS, StateMachine
from speechvq.tokfsm.token_model import TokenModel

_BATCH = 500


@dataclass(frozen=True, kw_only=True)
class Concepts:
    """Labels of the tokens that a model reads.

    Attributes:
        name: What they are.
        labels: (B, T) long; −1: none.
        num_labels: L.
    """

    name: str
    labels: Tensor
    num_labels: int


@dataclass(frozen=True, kw_only=True)
class CodebookScores:
    """How well one codebook stands for concepts, beside the best neurons at its recall.

    Attributes:
        place: Of the bottleneck.
        head: Which of its codebooks.
        num_used: Codes that occur.
        codes: Of each concept.
        neurons: Of the channels that the feed-forward parts of the dense model give, large values,
            as the paper has it.
        strong_neurons: Of these and of those within, large values or small ones.
    """

    place: Place
    head: int
    num_used: int
    codes: ConceptScores
    neurons: ConceptScores
    strong_neurons: ConceptScores


def label_states(machine: StateMachine, texts: Tensor) -> Concepts:
    """The state that is complete at each token of (B, 1 + 2 n) texts; labels are (B, 2 n): the
    last token is read by nobody.
    """
    states = machine.read_states(texts)  # (B, n)
    labels = torch.full(texts.shape, -1, dtype=torch.long)
    labels[:, DIGITS::DIGITS] = states
    return Concepts(name="states", labels=labels[:, :-1], num_labels=machine.num_states)


def label_state_digits(machine: StateMachine, texts: Tensor) -> Concepts:
    """The last state and the digit after it, at that digit; only those that can be."""
    states = machine.read_states(texts)
    pairs = states[:, :-1] * machine.base + texts[:, 1 + DIGITS :: DIGITS]
    numbers = torch.full((machine.num_states * machine.base,), -1, dtype=torch.long)
    possible = machine.list_first_digits()[:, : machine.base].flatten().nonzero().flatten()
    numbers[possible] = torch.arange(len(possible), dtype=torch.long)
    labels = torch.full(texts.shape, -1, dtype=torch.long)
    labels[:, 1 + DIGITS :: DIGITS] = numbers[pairs]
    return Concepts(name="states with a digit", labels=labels[:, :-1], num_labels=len(possible))


@torch.no_grad()
def read_codes(model: TokenModel, texts: Tensor) -> dict[Place, Tensor]:
    """Codes of all tokens, (B, T, G, k) on the CPU, by place."""
    parts: dict[Place, list[Tensor]] = {}

    def receive(place: Place, output: BottleneckOutput) -> None:
        parts.setdefault(place, []).append(output.codes.cpu())

    with capture_codes(model, receive):
        for batch in texts[:, :-1].split(_BATCH):
            model(batch.to(model.positions.device))
    return {place: torch.cat(codes) for place, codes in parts.items()}


@torch.no_grad()
def read_neurons(model: TokenModel, texts: Tensor) -> tuple[Tensor, Tensor]:
    """What the feed-forward parts of all layers give, (N, L D) float32 on the CPU, N = B T; and
    what they compute within, (N, 4 L D).
    """
    given, within = [], []
    for batch in texts[:, :-1].split(_BATCH):
        with _capture_feed_forward(model) as (outputs, inner):
            model(batch.to(model.positions.device))
        given.append(torch.cat(outputs, -1).flatten(0, 1).cpu())
        within.append(torch.cat(inner, -1).flatten(0, 1).cpu())
    return torch.cat(given), torch.cat(within)


@contextmanager
def _capture_feed_forward(model: TokenModel) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    outputs: list[Tensor] = []
    inner: list[Tensor] = []

    def keep_inner(module: nn.Module, args: tuple[Tensor]) -> None:
        inner.append(args[0])

    def keep_output(module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        outputs.append(output)

    handles = []
    for layer in list_layers(model):
        handles.append(layer.feed_forward.output.register_forward_pre_hook(keep_inner))
        handles.append(layer.feed_forward.register_forward_hook(keep_output))
    try:
        yield outputs, inner
    finally:
        for handle in handles:
            handle.remove()


def score_codebooks(
    model: TokenModel,
    dense: TokenModel,
    texts: tuple[Tensor, Tensor],
    concepts: tuple[Concepts, Concepts],
    *,
    min_recall: float,
) -> list[CodebookScores]:
    """Scores every codebook, and the best neurons of the dense model at the same recalls.

    Args:
        model: Has the codebooks.
        dense: Has none.
        texts: (B, 1 + T) for choosing codes and neurons, and for measuring them.
        concepts: Of both.
        min_recall: See `find_best_codes`.

    Returns:
        By place and head, of the concepts that occur in both texts.
    """
    codes = [read_codes(model, part) for part in texts]
    labels = [one.labels.flatten() for one in concepts]
    num_labels = concepts[0].num_labels
    tables, strong = zip(
        *(
            _create_tables(read_neurons(dense, part), own, num_labels)
            for part, own in zip(texts, labels, strict=True)
        ),
        strict=True,
    )
    found = []
    for place, bottleneck in list_bottlenecks(model).items():
        for head in range(bottleneck.num_codebooks):
            choosing, measuring = (
                count_concepts(
                    part[place][:, :, head].flatten(0, 1),
                    own,
                    num_codes=bottleneck.codebook_size,
                    num_labels=num_labels,
                )
                for part, own in zip(codes, labels, strict=True)
            )
            chosen = find_best_codes(choosing, min_recall=min_recall)
            first, scores = (score_codes(counts, chosen) for counts in (choosing, measuring))
            recalls = (first.recall, scores.recall)
            found.append(
                CodebookScores(
                    place=place,
                    head=head,
                    num_used=int((measuring.codes > 0).sum()),
                    codes=scores,
                    neurons=score_neurons(tables[0], tables[1], recalls=recalls),
                    strong_neurons=score_neurons(strong[0], strong[1], recalls=recalls),
                )
            )
    return found


def _create_tables(
    neurons: tuple[Tensor, Tensor], labels: Tensor, num_labels: int
) -> tuple[NeuronTable, NeuronTable]:
    return (
        NeuronTable(neurons[0], labels, num_labels, both_signs=False),
        NeuronTable(torch.cat(neurons, 1), labels, num_labels),
    )
