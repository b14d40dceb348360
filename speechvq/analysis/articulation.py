"""Articulatory features of phones, by panphon (Mortensen et al., COLING 2016).

24 features of −1, 0 or 1 for every IPA segment, the same across languages.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speechvq.analysis.code_table import SILENCE
from speechvq.errors import MissingDependencyError


@dataclass(frozen=True, kw_only=True)
class Articulation:
    """Features of some phones.

    Attributes:
        names: F names, such as `syl`, `son`, `voi`.
        features: (F,) of each phone that panphon knows; of a phone of several segments (ts, ai)
            the mean.
        unknown: Phones that it does not know; `sil` is not among them.
    """

    names: tuple[str, ...]
    features: dict[str, NDArray[np.float64]]
    unknown: tuple[str, ...]


def load_articulation(phones: Iterable[str]) -> Articulation:
    """Looks phones up.

    Raises:
        MissingDependencyError: panphon is not installed.
    """
    try:
        import panphon
    except ImportError:
        raise MissingDependencyError("panphon", "phones", "compare phones") from None
    table = panphon.FeatureTable()
    features, unknown = {}, []
    for phone in phones:
        if phone == SILENCE:
            continue
        # A phone of which only a part is IPA would get the features of that part.
        is_ipa = "".join(table.ipa_segs(phone)) == table.normalize(phone)
        vectors = table.word_to_vector_list(phone, numeric=True) if is_ipa else []
        if vectors:
            features[phone] = np.asarray(vectors, dtype=np.float64).mean(axis=0)
        else:
            unknown.append(phone)
    return Articulation(names=tuple(table.names), features=features, unknown=tuple(unknown))
