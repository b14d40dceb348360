"""The spelling of Indic scripts by indic-nlp-library, which AI4Bharat's evaluations use, with the
joiners kept that it drops.

Dormant since 2023: golden files per script notice any drift. Standing: one of the normalisers of
`speechvq.data.text`.
"""

from __future__ import annotations

import functools
from typing import Any

import regex

from speechvq.errors import MissingDependencyError
from speechvq.languages import find_language, parse_language

_CODES = {
    **{"Deva": "hi", "Beng": "bn", "Guru": "pa", "Gujr": "gu", "Orya": "or", "Taml": "ta"},
    **{"Telu": "te", "Knda": "kn", "Mlym": "ml"},
}
"""The library's language for a script, where it does not know the language itself."""
_JOINERS = {"\u200c": "\ue00c", "\u200d": "\ue00d"}
"""Joiners with what stands for them while the library works; private use, so that no rule fits."""
# In Malayalam these joiners spell chillus as before Unicode 5.1; the library writes the letters.
_OLD_CHILLU = regex.compile("(?<=[\u0d23\u0d28\u0d30\u0d32\u0d33\u0d15]\u0d4d)\u200d")
_KEPT = "\ue0ff"
_NO_STAND_INS = dict.fromkeys(map(ord, (*_JOINERS.values(), _KEPT)))


def normalize_indic(text: str, language: str | None) -> str:
    """Normalises the spelling of a text in one of nine Indic scripts; others stay as they are.

    Args:
        text: Any text.
        language: `hin_Deva`; without it nothing is changed.

    Raises:
        MissingDependencyError: If indic-nlp-library is not installed.
    """
    code = None if language is None else _find_code(language)
    if code is None:
        return text
    normalizer = _load_normalizer(code)
    text = text.translate(_NO_STAND_INS)
    if code == "ml":
        text = _OLD_CHILLU.sub(_KEPT, text)
    for joiner, stand_in in _JOINERS.items():
        text = text.replace(joiner, stand_in)
    text = str(normalizer.normalize(text.replace(_KEPT, "\u200d")))
    for joiner, stand_in in _JOINERS.items():
        text = text.replace(stand_in, joiner)
    return text


@functools.cache
def _find_code(language: str) -> str | None:
    parsed = parse_language(find_language(language) or language)
    return _CODES.get(parsed.script) and (
        parsed.alias if parsed.alias in ("mr", "ne", "sa", "as") else _CODES[parsed.script]
    )


@functools.cache
def _load_normalizer(code: str) -> Any:
    try:
        from indicnlp.normalize.indic_normalize import IndicNormalizerFactory
    except ImportError:
        raise MissingDependencyError(
            "indicnlp", "indic", "normalise the spelling of Indic scripts"
        ) from None
    return IndicNormalizerFactory().get_normalizer(code)
