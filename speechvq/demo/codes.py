"""Which codes each language uses, and how alike two languages are in that.

Counts codes on the dev and test splits, whose speakers training never heard. A language's
utterances are dealt into two halves, so that the likeness of two languages can be compared with
that of a language with itself: the ceiling that sampling and speakers allow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speechvq.analysis.divergence import compute_divergence

NUM_HALVES = 2


@dataclass(frozen=True, kw_only=True)
class CodeCounts:
    """How often each code stands in the speech of each language.

    Attributes:
        languages: N codes of languages.
        counts: (N, 2, G, V) frames by language, half of the utterances, codebook and entry.
    """

    languages: Sequence[str]
    counts: NDArray[np.int64]

    def compute_usage(self) -> NDArray[np.float64]:
        """Share of each entry in a language's frames.

        Returns:
            (N, G, V), each row sums to 1 over V; to 0 without frames.
        """
        counts = self.counts.sum(axis=1)
        return np.asarray(counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1))

    def compute_similarity(self) -> NDArray[np.float64]:
        """Likeness of the code usage of languages: 1 − Jensen–Shannon divergence in bits.

        Always between different halves of the utterances: the diagonal says how alike a language
        is to itself, which is the most that others can reach.

        Returns:
            (N, N), symmetric, 0 (no code in common) to 1 (same shares), mean over codebooks; NaN
            where a half has no frames.
        """
        first, second = (self.counts[:, half] for half in range(NUM_HALVES))
        divergence = compute_divergence(first[:, None], second[None, :]).mean(axis=-1)  # (N, N)
        return np.asarray(1 - (divergence + divergence.T) / 2)


def count_codes_of_languages(
    model_directory: Path,
    corpus: Path,
    languages: Sequence[str],
    *,
    report: Callable[[str], None] | None = None,
) -> CodeCounts:
    """Run the pretrained model over the dev and test splits.

    Args:
        model_directory: A model directory of kind ``pretrain``.
        corpus: A prepared corpus.
        languages: Languages to count.
        report: Told which language comes next.

    Returns:
        The counts.
    """
    import torch

    from speechvq.data.audio import decode_flac
    from speechvq.data.corpus import read_utterances
    from speechvq.models.directory import load_pretrain_model

    model = load_pretrain_model(model_directory).eval()

    def extract(language: str) -> Iterable[NDArray[np.int64]]:
        rows = read_utterances(
            corpus, splits=["dev", "test"], languages=[language], columns=["id", "audio"]
        )
        for row in rows:
            waveform = torch.from_numpy(decode_flac(row.audio))[None]  # (1, S)
            with torch.inference_mode():
                codes, _ = model.extract_codes(waveform, torch.tensor([waveform.shape[1]]))
            yield codes[0].numpy()  # (T, G)

    size = model.quantizer.codebook_size
    counts = []
    for language in languages:
        if report is not None:
            report(language)
        counts.append(count_halves(extract(language), model.quantizer.num_codebooks, size))
    return CodeCounts(languages=list(languages), counts=np.stack(counts))


def count_halves(
    utterances: Iterable[NDArray[np.int64]], num_codebooks: int, codebook_size: int
) -> NDArray[np.int64]:
    """Count codes, every other utterance in the second half.

    Args:
        utterances: (T, G) codes of each utterance.
        num_codebooks: G.
        codebook_size: V.

    Returns:
        (2, G, V).
    """
    counts = np.zeros((NUM_HALVES, num_codebooks, codebook_size), dtype=np.int64)
    for number, codes in enumerate(utterances):
        for group in range(num_codebooks):
            counts[number % NUM_HALVES, group] += np.bincount(
                codes[:, group], minlength=codebook_size
            )
    return counts


def write_code_counts(path: Path, counts: CodeCounts) -> None:
    """Save counts as JSON."""
    content = {"languages": list(counts.languages), "counts": counts.counts.tolist()}
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_code_counts(path: Path) -> CodeCounts:
    """Read what `write_code_counts` saved."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return CodeCounts(
        languages=content["languages"], counts=np.array(content["counts"], dtype=np.int64)
    )
