from __future__ import annotations

import pytest

from speechvq.analysis.articulation import load_articulation

pytest.importorskip("panphon")


def test_phones_have_the_features_of_their_segments():
    found = load_articulation(["p", "b", "tʃ", "sil", "A", "x1"])
    assert set(found.features) == {"p", "b", "tʃ"}
    assert found.unknown == ("A", "x1")
    voice = found.names.index("voi")
    assert (found.features["p"][voice], found.features["b"][voice]) == (-1, 1)
    different = found.features["p"] != found.features["b"]
    assert [found.names[i] for i in different.nonzero()[0]] == ["voi"]
    assert found.features["tʃ"][found.names.index("cont")] == 0  # a stop, then a fricative
