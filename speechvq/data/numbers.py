"""Numbers as words, where there is only one way to read them.

Whole numbers that stand alone are spelled out by indic-numtowords or num2words; years, times,
decimals, telephone numbers and whatever else can be read in several ways is left as it is. Even so
a reading is a guess, so transcripts that were changed are flagged.
"""

from __future__ import annotations

import importlib
import unicodedata
from typing import Any

import regex

from speechvq.errors import MissingDependencyError
from speechvq.languages import parse_language

_INDIC = ("as", "bn", "gu", "hi", "ml", "mr", "or", "pa", "ta", "te", "kn", "ur")
_MAX_DIGITS = 9
# Digits with nothing beside them but white space and the end of a clause, and no digits in the
# words beside them (a telephone number); groups by commas are one number.
_ALONE = regex.compile(
    r"""(?<![^\s("'“‘])(?<!\p{Nd}\S*\s+)"""
    r"(?:\p{Nd}{1,3}(?:,\p{Nd}{2,3})*,\p{Nd}{3}|\p{Nd}+)"
    r"""(?=[\s.,;:!?।॥)"'”’]*(?:\s|$))(?!\S*\s+\S*\p{Nd})"""
)
_YEARS = range(1100, 2100)
"""Read as years or as numbers: left as they are."""


def expand_numbers(text: str, language: str) -> str:
    """Spells out whole numbers that stand alone.

    Args:
        text: A transcript.
        language: `hin_Deva`.

    Returns:
        The text; the same where the language has no number words here, or no number fits.

    Raises:
        MissingDependencyError: If neither library for the language is installed.
    """
    if not any(letter.isdecimal() for letter in text):
        return text
    alias = parse_language(language).alias

    def expand(match: regex.Match[str]) -> str:
        digits = "".join(str(unicodedata.digit(c)) for c in match[0] if c != ",")
        is_clear = len(digits) <= _MAX_DIGITS and (digits == "0" or digits[0] != "0")
        if alias is None or not is_clear or ("," not in match[0] and int(digits) in _YEARS):
            return match[0]
        return _spell(int(digits), alias) or match[0]

    return str(_ALONE.sub(expand, text))


def _spell(number: int, alias: str) -> str | None:
    """Returns the words of a number; None where the library does not know."""
    package = "indic_numtowords" if alias in _INDIC else "num2words"
    try:
        library: Any = importlib.import_module(package)
    except ImportError:
        raise MissingDependencyError(package, "indic", "spell out numbers") from None
    try:
        words = library.num2words(number, lang=alias)
    except (NotImplementedError, KeyError, IndexError, ValueError, OverflowError):
        return None
    return " ".join(str(words).split()) or None
