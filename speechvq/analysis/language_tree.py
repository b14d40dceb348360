"""Families and branches of languages, to compare with what a model makes of them.

Families are those of `speechvq/languages.tsv`; branches of the families that speechvq meets most
often follow Glottolog 5 (Hammarström et al., glottolog.org). A language that is not listed has no
branch: then only its family counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechvq.languages import parse_language

_BRANCHES = {
    "Indo-Aryan": "asm ben bho bpy doi gom guj hin kas mag mai mar npi ori ory pan rom sin snd urd"
    " hne raj ckm san bgc",
    "Iranian": "ckb glk kmr oss pbt pes tgk bal",
    "Germanic": "afr dan deu eng fao frr isl ltz nld nob nno swe yid",
    "Romance": "arg ast cat fra glg ita lij oci por roh ron spa srd",
    "Slavic": "bel bos bul ces hrv hsb mkd pol rus slk slv srp ukr",
    "Baltic": "lav ltg lit",
    "Celtic": "bre cym gle gla",
    "South Dravidian": "kan mal tam tcy",
    "South-Central Dravidian": "tel gon",
    "Semitic": "amh arb heb mlt tir",
    "Sinitic": "cmn yue nan hak",
    "Bantu": "kin lug mdw swh xho zul",
}
"""Branch, ISO 639-3 codes."""
_BRANCH_OF = {iso: branch for branch, codes in _BRANCHES.items() for iso in codes.split()}
_FAMILY_OF = {"mdw": "Atlantic-Congo"}
"""Of languages that the table lacks; Mboshi: Glottolog mbos1242."""
MAX_DISTANCE = 3
_MAX_EXACT = 7  # 5,040 permutations


@dataclass(frozen=True, kw_only=True)
class TreeComparison:
    """How far distances of languages follow their families.

    Attributes:
        correlation: Of distances with steps in the tree, over pairs of languages; NaN where the
            tree does not tell the languages apart.
        p_value: Share of ways to exchange the languages that correlate as well (Mantel's test).
        num_pairs: Pairs of languages.
        same_family: Mean distance of languages of one family; NaN without such.
        other_family: Mean distance of languages of different families; NaN without such.
    """

    correlation: float
    p_value: float
    num_pairs: int
    same_family: float
    other_family: float


def get_family(language: str) -> str | None:
    """Returns the family of `hin_Deva`; None where it is not known.

    Args:
        language: Its code.
    """
    parsed = parse_language(language)
    return parsed.family or _FAMILY_OF.get(parsed.iso)


def get_branch(language: str) -> str | None:
    """Returns the branch, such as "Indo-Aryan"; None where it is not known.

    Args:
        language: Its code.
    """
    return _BRANCH_OF.get(parse_language(language).iso)


def compute_tree_distances(languages: Sequence[str]) -> NDArray[np.float64]:
    """Steps between languages: 0 the same, 1 one branch, 2 one family, 3 neither. A language of
    unknown family is 3 from all.

    Args:
        languages: J codes.

    Returns:
        (J, J).
    """
    families = [get_family(language) for language in languages]
    branches = [get_branch(language) for language in languages]
    matrix = np.zeros((len(languages), len(languages)))
    for row in range(len(languages)):
        for column in range(row):
            steps = MAX_DISTANCE
            if families[row] is not None and families[row] == families[column]:
                alike = branches[row] is not None and branches[row] == branches[column]
                steps = 1 if alike else 2
            matrix[row, column] = matrix[column, row] = steps
    return matrix


def compare_with_tree(
    distances: ArrayLike,
    languages: Sequence[str],
    rng: np.random.Generator,
    num_permutations: int = 2000,
) -> TreeComparison:
    """Correlates distances of languages with the tree (Mantel 1967).

    Args:
        distances: (J, J), symmetric.
        languages: J codes.
        rng: Source of permutations; up to 7 languages all permutations are taken instead.
        num_permutations: Otherwise.
    """
    matrix, tree = np.asarray(distances, dtype=np.float64), compute_tree_distances(languages)
    size = len(languages)
    pairs = np.triu_indices(size, 1)
    known, steps = matrix[pairs], tree[pairs]
    correlation = p_value = float("nan")
    if len(known) > 2 and np.ptp(steps) > 0 and np.ptp(known) > 0:
        orders = (
            np.array(list(permutations(range(size))))
            if size <= _MAX_EXACT
            else rng.random((num_permutations, size)).argsort(1)
        )
        null = np.array(
            [np.corrcoef(known, tree[np.ix_(order, order)][pairs])[0, 1] for order in orders]
        )
        correlation = float(np.corrcoef(known, steps)[0, 1])
        extra = 0 if size <= _MAX_EXACT else 1  # all permutations hold the observed one
        above = int((null >= correlation - 1e-12).sum())
        p_value = (extra + above) / (extra + len(null))
    same = steps < MAX_DISTANCE
    return TreeComparison(
        correlation=correlation,
        p_value=p_value,
        num_pairs=len(known),
        same_family=float(known[same].mean()) if same.any() else float("nan"),
        other_family=float(known[~same].mean()) if (~same).any() else float("nan"),
    )
