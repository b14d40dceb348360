"""A transcript as training sees it: normalised, with what makes it doubtful as flags.

Standing: preparation calls `prepare_transcript` for each transcribed clip.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import regex

from speechvq.data.numbers import expand_numbers
from speechvq.data.records import Flag
from speechvq.data.text import TextNormalizer, find_text_flags
from speechvq.languages import parse_language

DIGIT_POLICIES = ("keep", "flag", "expand")
_LETTER = regex.compile(r"[\p{L}\p{M}]")
_NOTHING = regex.compile(r"(?!)")
_SCRIPTS = {
    "Hans": ("Han",),
    "Hant": ("Han",),
    "Jpan": ("Han", "Hiragana", "Katakana"),
    "Kore": ("Hangul", "Han"),
    "Aran": ("Arab",),
}
"""Scripts of ISO 15924 that Unicode counts as several, or under another name."""
_SYLLABIC = frozenset({"Hans", "Hant", "Jpan", "Kore", "Ethi", "Yiii", "Cher"})
"""Scripts whose letters are syllables or words."""
_SYLLABLE_LETTERS = 2.5
"""So many letters of an alphabet a syllable takes."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """A prepared transcript.

    Attributes:
        text: Normalised; None where nothing is left.
        flags: What makes it doubtful.
    """

    text: str | None
    flags: list[Flag]


def prepare_transcript(
    raw: str,
    language: str,
    num_seconds: float,
    normalizer: TextNormalizer,
    *,
    digits: str = "flag",
    max_letters_per_second: float = 25.0,
) -> Transcript:
    """Normalises a transcript and finds what is doubtful about it.

    Args:
        raw: The transcript as it came.
        language: `hin_Deva`.
        num_seconds: Length of the audio.
        normalizer: The spelling.
        digits: `keep` digits without a word, `flag` them, or `expand` numbers that can be read in
            one way only and flag both those and the rest.
        max_letters_per_second: A transcript with more letters is too fast to be true; scripts
            whose letters are syllables are weighed accordingly.

    Returns:
        The text and its flags.
    """
    expanded = expand_numbers(raw, language) if digits == "expand" else raw
    flags = find_text_flags(expanded)
    if digits == "keep" and Flag.DIGITS in flags:
        flags.remove(Flag.DIGITS)
    if expanded != raw:
        flags.append(Flag.NUMBERS_EXPANDED)
    text = normalizer(expanded, language)
    if has_foreign_script(text, language):
        flags.append(Flag.FOREIGN_SCRIPT)
    if compute_letters_per_second(text, language, num_seconds) > max_letters_per_second:
        flags.append(Flag.TOO_FAST)
    return Transcript(text or None, flags)


def has_foreign_script(text: str, language: str) -> bool:
    """Returns whether a text holds letters of a script that its language is not written in."""
    return _compile_foreign(parse_language(language).script).search(text) is not None


def compute_letters_per_second(text: str, language: str, num_seconds: float) -> float:
    """Returns how fast a text would have been spoken, in letters and vowel signs a second."""
    script = parse_language(language).script
    weight = _SYLLABLE_LETTERS if script in _SYLLABIC else 1.0
    return weight * len(_LETTER.findall(text)) / max(num_seconds, 1e-3)


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
