"""Families and branches of languages, to compare with what a model makes of them.

Families are those of `speechvq/languages.tsv`. Branches are nodes of Glottolog 5.1 (Hammarström et
al. 2024, glottolog.org, CC BY 4.0), each language looked up by its ISO code; macrolanguages and
dialects, which Glottolog has no node of the tree for, stand with their members or their language
(Oromo, Rajasthani, Estonian; Bosnian, Croatian, Serbian, Bokmål, Latgalian, Standard Latvian). A
language that is not listed (Albanian, Lepcha, creoles) has no branch: then only its family counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechvq.languages import list_languages, parse_language

BRANCHES = {
    "Indo-Aryan": "asm ben bho bpy dgo div gju gom guj hin hne kas mai mar npi ory pan phr pnb raj"
    " san sin snd spv urd",
    "Iranian": "kmr pes pus",
    "Germanic": "afr dan deu eng fao isl ltz nld nob swe",
    "Italic": "arg cat fra ita lat por ron spa",
    "Slavic": "bel bos bul ces hrv mkd pol rus slk slv srp ukr",
    "Eastern Baltic": "lit ltg lvs",
    "Celtic": "cym gla gle",
    "Greek": "ell grc",
    "Armenic": "hye hyw",
    "South Dravidian I": "kan mal tam",
    "South Dravidian II": "tel",
    "Semitic": "amh arb heb mlt tir",
    "Cushitic": "orm",
    "Sinitic": "cmn hak yue",
    "Bodic": "bft lbj sip",
    "Brahmaputran": "brx grt trp",
    "Kuki-Chin-Naga": "lus mjw mni",
    "Burmo-Qiangic": "mya",
    "Narrow Bantu": "mdw swh tsn",
    "Khasi-Palaung": "kha pbv",
    "Mundaic": "sat",
    "Vietic": "vie",
    "Khmeric": "khm",
    "Oghuz": "azj tuk tur",
    "Kipchak": "bak kaa kaz kir nog tat",
    "Turkestan": "uig uzn",
    "Bolgar": "chv",
    "Finnic": "est fin",
    "Hungaric": "hun",
    "Saami": "smj",
}
"""Branch, ISO 639-3 codes."""
_BRANCH_OF = {iso: branch for branch, codes in BRANCHES.items() for iso in codes.split()}
_FAMILY_OF = {language.iso: language.family for language in list_languages()}
"""Of a language in whatever script."""
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
    return _FAMILY_OF.get(parse_language(language).iso)


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
