"""What dev tells before anything is switched: how frequent codes are, means of concepts, and which
letters write which phones.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor

from speechvq.analysis.concept_files import ConceptKind
from speechvq.models.ctc_model import CTCModel
from speechvq.nn.bottleneck import BottleneckOutput
from speechvq.nn.bottleneck_sites import list_bottlenecks
from speechvq.nn.places import Place
from speechvq.steering.material import AlignedUtterance

_POOL_SIZE = 10
"""A random code is one of so many whose frequency is nearest."""
Concept = tuple[ConceptKind, str]


class DevStatistics:
    """Sums over frames of dev; memory does not grow with the frames.

    Args:
        model: With bottlenecks.
    """

    def __init__(self, model: CTCModel) -> None:
        self._bottlenecks = list_bottlenecks(model)
        self.num_frames = 0
        self.code_counts: dict[Place, Tensor] = {
            place: torch.zeros(one.num_codebooks, one.codebook_size, dtype=torch.long)
            for place, one in self._bottlenecks.items()
        }
        """(G, V) long by place: frames that have the code."""
        self.phone_labels: dict[tuple[str, str], Tensor] = {}
        """By head and phone: (N,) long, frames of each label during the phone."""
        self._totals: dict[Place, Tensor] = {}
        self._sums: dict[tuple[Place, Concept], Tensor] = {}
        self.concept_frames: dict[Concept, int] = {}
        """Frames of each concept."""

    def add(
        self,
        outputs: dict[Place, BottleneckOutput],
        aligned: AlignedUtterance,
        labels: tuple[str, ...],
        phones: list[str | None] | None,
    ) -> None:
        """Adds one utterance.

        Args:
            outputs: What each bottleneck made of it, (1, T, …).
            aligned: When its letters are said.
            labels: N texts, of its head.
            phones: T phones, None where unknown or for all of them.
        """
        frames: dict[Concept, Tensor] = {}
        num_frames = len(aligned.path)
        spoken = torch.zeros(num_frames, dtype=torch.long)
        for span in (one for one in aligned.spans if one.label in aligned.letters):
            concept = (ConceptKind.letter, labels[span.label])
            mask = frames.setdefault(concept, torch.zeros(num_frames, dtype=torch.bool))
            mask[span.begin_frame : span.end_frame] = True
            spoken[span.begin_frame : span.end_frame] = span.label
        for frame, phone in enumerate(phones or []):
            if phone is not None:
                key = (ConceptKind.phone, phone)
                frames.setdefault(key, torch.zeros(num_frames, dtype=torch.bool))[frame] = True
                if spoken[frame]:
                    table = self.phone_labels.setdefault(
                        (aligned.head, phone), torch.zeros(len(labels), dtype=torch.long)
                    )
                    table[spoken[frame]] += 1
        self.num_frames += num_frames
        for key, mask in frames.items():
            self.concept_frames[key] = self.concept_frames.get(key, 0) + int(mask.sum())
        for place, output in outputs.items():
            self._add_codes(place, output.codes[0].cpu())
            vectors = output.vectors[0].double().cpu()  # (T, D)
            self._totals[place] = self._totals.get(place, 0.0) + vectors.sum(0)
            for key, mask in frames.items():
                known = self._sums.get((place, key), torch.zeros(1, dtype=torch.float64))
                self._sums[place, key] = known + vectors[mask].sum(0)

    def _add_codes(self, place: Place, codes: Tensor) -> None:
        """Counts the codes (T, G, k) of one place."""
        for head in range(codes.size(1)):
            self.code_counts[place][head] += torch.bincount(
                codes[:, head].flatten(), minlength=self.code_counts[place].size(1)
            )

    def find_direction(self, place: Place, head: int, concept: Concept) -> Tensor | None:
        """(d,) float32 of length 1: mean of a codebook's output in frames of a concept minus its
        mean in all others; None where there are no such frames.
        """
        num = self.concept_frames.get(concept, 0)
        if not 0 < num < self.num_frames:
            return None
        own = self._sums[place, concept]
        rest = (self._totals[place] - own) / (self.num_frames - num)
        dim = self._bottlenecks[place].code_dim
        difference = (own / num - rest)[head * dim : (head + 1) * dim]
        norm = float(difference.norm())
        return (difference / norm).float() if norm > 0 else None


def draw_matched(
    counts: Tensor, code: int, excluded: Collection[int], generator: torch.Generator
) -> int | None:
    """Draws a code that is about as frequent as another.

    Args:
        counts: (V,) frames of each code.
        code: Whose frequency is wanted.
        excluded: Codes that are not drawn; `code` never is.
        generator: Of the draw, on the CPU.

    Returns:
        One of the ten codes nearest in the logarithm of frequency; None where all are excluded.
    """
    logs = (counts.double() + 0.5).log()
    distance = (logs - logs[code]).abs()
    distance[torch.tensor(sorted({code, *excluded}), dtype=torch.long)] = math.inf
    size = min(_POOL_SIZE, int(distance.isfinite().sum()))
    if not size:
        return None
    pool = distance.topk(size, largest=False).indices
    drawn = torch.randint(size, (), generator=generator, dtype=torch.long, device="cpu")
    return int(pool[drawn])
