"""TokFSM: a random machine of states, told in digits.

A state is two digits. From each state a few others can be reached, all with the same probability;
a text is a walk, and nothing but the state that it is in says which digits may come next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

DIGITS = 2
"""Digits of a state."""


@dataclass(frozen=True)
class StateMachine:
    """A machine of N states.

    Attributes:
        edges: (N, E) long, the states that can be reached from each, none twice.
        base: Digits 0 to `base` − 1; the token `base` begins a text.
    """

    edges: Tensor
    base: int

    @classmethod
    def create(cls, num_states: int, num_edges: int, base: int, generator: torch.Generator) -> Self:
        """Draws the edges."""
        order = torch.rand(num_states, num_states, generator=generator).argsort(1)
        return cls(order[:, :num_edges].sort(1).values, base)

    @property
    def num_states(self) -> int:
        """N."""
        return len(self.edges)

    @property
    def num_tokens(self) -> int:
        """Digits and the token that begins a text."""
        return self.base + 1

    def draw_texts(self, num_texts: int, num_digits: int, generator: torch.Generator) -> Tensor:
        """Walks from random states.

        Returns:
            (`num_texts`, 1 + `num_digits`) long: the beginning, then digits.
        """
        num_visited = num_digits // DIGITS
        states = torch.randint(self.num_states, (num_texts,), generator=generator)
        visited = [states]
        choices = torch.randint(
            self.edges.size(1), (num_visited - 1, num_texts), generator=generator
        )
        for choice in choices:
            states = self.edges[states, choice]
            visited.append(states)
        walk = torch.stack(visited, 1)  # (num_texts, visited)
        digits = torch.stack([walk // self.base, walk % self.base], 2).flatten(1)
        begin = torch.full((num_texts, 1), self.base, dtype=torch.long)
        return torch.cat([begin, digits], 1)

    def read_states(self, texts: Tensor) -> Tensor:
        """States that are complete at each token: (B, 1 + 2 n) → (B, n); −1 where digits are none
        of a state.
        """
        pairs = texts[:, 1:].unflatten(1, (-1, DIGITS))
        states = pairs[..., 0] * self.base + pairs[..., 1]
        is_state = (pairs < self.base).all(-1) & (states < self.num_states)
        found: Tensor = states.masked_fill(~is_state, -1)
        return found

    def find_legal(self, texts: Tensor) -> Tensor:
        """Whether each transition is one of the machine: (B, 1 + 2 n) → (B, n − 1) bool."""
        states = self.read_states(texts)
        before, after = states[:, :-1], states[:, 1:]
        reached = self.edges[before.clamp(min=0)]  # (B, n - 1, E)
        is_legal: Tensor = reached.eq(after[..., None]).any(-1) & (before >= 0)
        return is_legal

    def list_first_digits(self) -> Tensor:
        """Shares of the first digit of the next state, by state: (N, `num_tokens`) float32."""
        digits = self.edges // self.base
        shares = torch.zeros(self.num_states, self.num_tokens, dtype=torch.float32)
        ones = torch.full(digits.shape, 1 / digits.size(1), dtype=torch.float32)
        return shares.scatter_add_(1, digits, ones)
