"""What a user may set in the experiment of the machine of states. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from speechvq.nn.places import Site

MISSING_VALUE = "???"
"""What OmegaConf takes for "must be given"."""


class CodeInit(StrEnum):
    """Where the model with codebooks begins."""

    kmeans = "kmeans"
    """From the dense model, with codes at the centres of its activations."""
    random = "random"
    """From random weights and codes, as in the paper."""


@dataclass(kw_only=True)
class TokfsmConfig:
    """Keys of `speechvq tokfsm`."""

    output: str = MISSING_VALUE
    """Directory for `metrics.json` and `report.html`."""
    num_states: int = 36
    """States of the machine, two digits each; at most `base` × `base`."""
    num_edges: int = 6
    """States that can be reached from each."""
    base: int = 6
    """Digits."""
    num_digits: int = 32
    """Digits of a text, an even number: twice the states that it visits."""
    num_layers: int = 2
    """Layers of the models."""
    model_dim: int = 64
    """Width of the models."""
    num_heads: int = 4
    """Attention heads."""
    batch_size: int = 64
    """Texts in a batch."""
    dense_steps: int = 800
    """Steps of the dense model."""
    steps: int = 900
    """Steps of the model with codebooks."""
    lr: float = 0.006
    """Learning rate of the dense model; of the model with codebooks if it begins at random."""
    codebook_lr: float = 0.008
    """Learning rate of the model with codebooks if it goes on from the dense one."""
    decays: bool = True
    """Whether the rate falls to zero, after a warm-up; false: constant, as in the paper."""
    sites: list[Site] = field(default_factory=lambda: list(Site))
    """Where every layer has codebooks: heads, feed_forward or both."""
    codebook_size: int = 300
    """Codes of a codebook (V)."""
    num_active: int = 1
    """Codes that stand for a token (k)."""
    loss_weight: float = 1.0
    """Weight of the auxiliary loss (λ)."""
    code_init: CodeInit = CodeInit.kmeans
    """`kmeans`: goes on from the dense model; `random`: from random weights, as in the paper."""
    restart_every: int = 40
    """Steps after which codes that nothing chose are put on tokens, in the first 60 % of the steps;
    0: never."""
    num_eval_texts: int = 1500
    """Texts on which codes are chosen, and as many on which they are measured."""
    num_pairs: int = 400
    """Pairs of texts whose codes are exchanged."""
    min_recall: float = 0.1
    """The code of a state has at least this recall, where one has."""
    seed: int = 1
    """Of the machine, the weights and the texts."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, …; `auto` takes a GPU where there is one."""

    def validate(self) -> list[str]:
        """One sentence for every value that cannot work."""
        problems = []
        if self.output in ("", MISSING_VALUE):
            problems.append("`output` must be given: `output=DIR`, where the report goes.")
        for key in _POSITIVE:
            if getattr(self, key) < 1:
                problems.append(f"`{key}` must be at least 1, but is {getattr(self, key)}.")
        for key in ("restart_every", "seed", "loss_weight"):
            if getattr(self, key) < 0:
                problems.append(f"`{key}` must not be negative, but is {getattr(self, key)}.")
        for key in ("lr", "codebook_lr"):
            if not getattr(self, key) > 0:
                problems.append(f"`{key}` must be above 0, but is {getattr(self, key)}.")
        if not 2 <= self.num_states <= self.base**2:
            problems.append(
                f"`num_states` must be from 2 to `base` × `base` ({self.base**2}), but is "
                f"{self.num_states}."
            )
        if self.num_edges > self.num_states:
            problems.append(
                f"`num_edges` must be at most `num_states` ({self.num_states}), but is "
                f"{self.num_edges}."
            )
        if self.num_digits % 2 or self.num_digits < 4:
            problems.append(f"`num_digits` must be even, from 4, but is {self.num_digits}.")
        if self.num_heads >= 1 and self.model_dim % self.num_heads:
            problems.append(
                f"`model_dim` must be a multiple of `num_heads` ({self.num_heads}), but is "
                f"{self.model_dim}."
            )
        if self.num_active > self.codebook_size:
            problems.append(
                f"`num_active` must be at most `codebook_size` ({self.codebook_size}), but is "
                f"{self.num_active}."
            )
        if not self.sites or len(set(self.sites)) != len(self.sites):
            problems.append("`sites` must name heads, feed_forward or both, each once.")
        if not 0 <= self.min_recall <= 1:
            problems.append(f"`min_recall` must be from 0 to 1, but is {self.min_recall}.")
        return problems


_POSITIVE = (
    *("num_edges", "base", "num_layers", "model_dim", "num_heads", "batch_size", "dense_steps"),
    *("steps", "codebook_size", "num_active", "num_eval_texts", "num_pairs"),
)

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {
        "num_states": 25,
        "num_edges": 5,
        "base": 5,
        "num_digits": 16,
        "model_dim": 32,
        "dense_steps": 500,
        "steps": 500,
        "lr": 0.008,
        "codebook_lr": 0.01,
        "codebook_size": 200,
        "num_eval_texts": 600,
    },
    "mini": {},
    "paper": {
        "num_states": 100,
        "num_edges": 10,
        "base": 10,
        "num_digits": 128,
        "num_layers": 4,
        "model_dim": 128,
        "batch_size": 512,
        "dense_steps": 20000,
        "steps": 20000,
        "lr": 0.001,
        "decays": False,
        "codebook_size": 10000,
        "code_init": "random",
        "restart_every": 0,
        "num_eval_texts": 400,
    },
}
"""`tiny`: half a minute, what the tests run; `mini`: minutes on two cores; `paper`: the sizes,
rates and steps of the paper's section 4 (attention and MLP, k = 1, C = 10k), for a GPU."""
