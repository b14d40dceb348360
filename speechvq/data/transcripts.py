"""A transcript as training sees it: normalised, numbers spelled out or flagged, foreign letters
found.

Standing: measuring asks `find_transcript_flags`, writing calls `spell_transcript`, so that another
policy or spelling needs no audio.
"""

from __future__ import annotations

import functools
import importlib.util
import unicodedata

import regex

from speechvq.data.numbers import expand_numbers
from speechvq.data.records import Flag
from speechvq.data.text import TextNormalizer, find_text_flags
from speechvq.errors import MissingDependencyError
from speechvq.languages import parse_language

_DIGIT = regex.compile(r"\p{N}")
_LETTER = regex.compile(r"\p{L}")
_WORD = regex.compile(r"[\p{L}\p{M}]+")
_NOTHING = regex.compile(r"(?!)")
_SCRIPTS = {
    "Hans": ("Han",),
    "Hant": ("Han",),
    "Jpan": ("Han", "Hiragana", "Katakana"),
    "Kore": ("Hangul", "Han"),
    "Aran": ("Arab",),
}
"""Scripts of ISO 15924 that Unicode counts as several, or under another name."""


def find_transcript_flags(raw: str, language: str) -> list[Flag]:
    """Returns what about a transcript (before normalisation) makes it doubtful as a training
    target.

    Args:
        raw: The transcript as it came.
        language: `hin_Deva`.
    """
    flags = find_text_flags(raw)
    if has_foreign_script(raw, language):
        flags.append(Flag.FOREIGN_SCRIPT)
    return flags


def spell_transcript(
    raw: str, language: str, flags: list[str], normalizer: TextNormalizer, *, digits: str
) -> tuple[str | None, list[str]]:
    """Normalises a transcript under a policy for digits.

    Args:
        raw: The transcript as it came.
        language: `hin_Deva`.
        flags: What `find_transcript_flags` and others found.
        normalizer: The spelling.
        digits: `flag` transcripts with digits, `keep` them without a word, or `expand` numbers
            that can be read in one way only and flag both those and the rest.

    Returns:
        The text, None where nothing is left of it, and the flags under that policy.
    """
    text = expand_numbers(raw, language) if digits == "expand" else raw
    if digits == "keep" or (text != raw and not _DIGIT.search(text)):
        flags = [flag for flag in flags if flag != Flag.DIGITS]
    if text != raw:
        flags = [*flags, str(Flag.NUMBERS_EXPANDED)]
    return normalizer(text, language) or None, flags


def check_text_dependencies(normalizer: str, digits: str) -> None:
    """Says what is missing at once, not after an hour.

    Raises:
        MissingDependencyError: If the spelling or the policy needs a package that is not
            installed.
    """
    needs = {"indicnlp": "normalise the spelling of Indic scripts"}
    needs = needs if normalizer.partition("-")[0] == "indic" else {}
    if digits == "expand":
        needs |= dict.fromkeys(("indic_numtowords", "num2words"), "spell out numbers")
    for package, purpose in needs.items():
        if importlib.util.find_spec(package) is None:
            raise MissingDependencyError(package, "indic", purpose)


def has_foreign_script(text: str, language: str, own_letters: str = "") -> bool:
    """Returns whether a text holds letters of a script that its language is not written in.

    Args:
        text: A transcript.
        language: `hin_Deva`.
        own_letters: Letters of other scripts that belong to the language's spelling all the same,
            as `find_mixed_letters` gives them.
    """
    foreign = _compile_foreign(parse_language(language).script).findall(text)
    return any(_get_base(letter) not in own_letters for letter in foreign)


def find_mixed_letters(text: str, language: str) -> set[str]:
    """Returns the letters of another script that stand amid letters of the language's own in one
    word, without accents and in lower case: the ε of a Latin alphabet, not a foreign word.
    """
    pattern = _compile_foreign(parse_language(language).script)
    found: set[str] = set()
    for word in _WORD.findall(text):
        foreign = pattern.findall(word)
        if foreign and len(foreign) < len(_LETTER.findall(word)):
            found |= {_get_base(letter) for letter in foreign}
    return found


def _get_base(letter: str) -> str:
    return unicodedata.normalize("NFD", letter)[0].lower()


@functools.cache
def _compile_foreign(script: str) -> regex.Pattern[str]:
    if script.startswith("Z"):  # codes for "unknown", "unwritten" and the like
        return _NOTHING
    names = (*_SCRIPTS.get(script, (script,)), "Common", "Inherited")
    try:
        own = "".join(rf"\p{{Script_Extensions={name}}}" for name in names)
        return regex.compile(rf"[\p{{L}}--[{own}]]", regex.V1)
    except regex.error:  # a script that Unicode does not know: nothing can be said
        return _NOTHING
