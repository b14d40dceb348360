"""Transcripts in one spelling: named, versioned normalisers that leave every script readable (D9 of
the design).

`basic` keeps letters, combining marks and digits. Removing marks, as normalisers made for English
do, turns नमस्ते into नमसत and makes word error rates look better than they are (Manohar et al.,
arXiv:2409.02449). A change of any rule needs a new version: scores record it.
"""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Protocol

import regex

from speechvq.data.indic_text import normalize_indic
from speechvq.data.records import Flag
from speechvq.errors import DataError

_ZWNJ, _ZWJ = "\u200c", "\u200d"

# fmt: off
_JOINING_SCRIPTS = (
    "Deva", "Beng", "Guru", "Gujr", "Orya", "Taml", "Telu", "Knda", "Mlym", "Sinh", "Tibt", "Mymr",
    "Khmr", "Newa", "Limb", "Lepc", "Sylo", "Mtei", "Cakm", "Sund", "Java", "Bali", "Arab", "Syrc",
    "Mong", "Nkoo", "Adlm", "Rohg",
)
# fmt: on
_JOINS = "".join(rf"\p{{Script_Extensions={name}}}" for name in _JOINING_SCRIPTS)
_CURSIVE = r"\p{Script_Extensions=Arab}\p{Script_Extensions=Syrc}"

_APOSTROPHES = regex.compile("[\u2018\u2019\uff07`\u00b4]")
# A joiner means something only after a letter or mark of a script that joins.
_IDLE_JOINER = regex.compile(rf"(?<![{_JOINS}&&[\p{{L}}\p{{M}}]])[{_ZWNJ}{_ZWJ}]+", regex.V1)
_REPEATED_JOINER = regex.compile(f"([{_ZWNJ}{_ZWJ}])[{_ZWNJ}{_ZWJ}]+")
# A final ZWNJ shows the virama or the half-u of an Indic script; in Arabic script it shows nothing.
_FINAL_JOINER = regex.compile(
    rf"(?<=[{_CURSIVE}])[{_ZWNJ}{_ZWJ}]+(?![\p{{L}}\p{{M}}\p{{N}}])", regex.V1
)
_INVISIBLE = regex.compile(
    rf"[[\p{{Cf}}\p{{Cn}}\p{{Co}}\p{{Cs}}]--[{_ZWNJ}{_ZWJ}\u200b\u2060]]+", regex.V1
)
_OTHER = regex.compile(rf"[^\p{{L}}\p{{M}}\p{{N}}'{_ZWNJ}{_ZWJ}]+")
_OUTER_APOSTROPHE = regex.compile(r"(?<![\p{L}\p{M}])'|'(?![\p{L}\p{M}])")
_DIGIT = regex.compile(r"\p{N}")
_LETTER = regex.compile(r"[\p{L}\p{N}]")
_SPOKEN_SYMBOL = regex.compile(r"[\p{Sc}%‰&+=@#°×÷~^<>§€]")

_DOTTED_CAPITAL_I = "İ"  # lower() makes two code points of it, i and a dot above
_DOTLESS_LANGUAGES = ("tur", "aze", "azj", "azb", "crh", "gag")


class TextNormalizer(Protocol):
    """A named and versioned spelling of transcripts."""

    @property
    def name(self) -> str:
        """The name by which a configuration chooses it."""

    @property
    def version(self) -> int:
        """Raised whenever the result for any text changes."""

    @property
    def identifier(self) -> str:
        """`<name>-<version>`, stored with every corpus and every score."""

    def __call__(self, text: str, language: str | None = None) -> str:
        """Returns the text in the normaliser's spelling.

        Args:
            text: Any text.
            language: `hin_Deva`; only scripts whose case depends on the language (Turkish i) need
                it.
        """


class BasicTextNormalizer:
    r"""NFC, then letters, marks and digits only, lower case where the script has case.

    In this order: NFC; lower case; invisible characters are dropped; curly apostrophes become `'`,
    which stays between letters only; everything but `\p{L}\p{M}\p{N}` becomes one space; ZWJ and
    ZWNJ stay after letters of scripts that join; NFC. Idempotent.
    """

    name = "basic"
    version = 1

    @property
    def identifier(self) -> str:
        """`basic-1`."""
        return f"{self.name}-{self.version}"

    def __call__(self, text: str, language: str | None = None) -> str:
        """Returns the normalised text; see `TextNormalizer`."""
        text = unicodedata.normalize("NFC", text)
        text = _lower(text, language)
        text = _INVISIBLE.sub("", text)
        text = _APOSTROPHES.sub("'", text)
        text = _OTHER.sub(" ", text)
        text = _REPEATED_JOINER.sub(r"\1", _IDLE_JOINER.sub("", text))
        text = _FINAL_JOINER.sub("", text)
        text = _OUTER_APOSTROPHE.sub(" ", text)
        return unicodedata.normalize("NFC", " ".join(text.split()))


def _lower(text: str, language: str | None) -> str:
    if language is not None and language.split("_")[0] in _DOTLESS_LANGUAGES:
        text = text.replace("I", "ı")
    return text.replace(_DOTTED_CAPITAL_I, "i").lower()


class VerbatimTextNormalizer:
    """Only NFC and single spaces: for text that was normalised elsewhere."""

    name = "verbatim"
    version = 1

    @property
    def identifier(self) -> str:
        """`verbatim-1`."""
        return f"{self.name}-{self.version}"

    def __call__(self, text: str, language: str | None = None) -> str:
        """Returns the normalised text; see `TextNormalizer`."""
        return " ".join(unicodedata.normalize("NFC", text).split())


class IndicTextNormalizer:
    """The spelling of Indic scripts by indic-nlp-library, joiners kept, then `basic`; other scripts
    as `basic` alone.
    """

    name = "indic"
    version = 1

    @property
    def identifier(self) -> str:
        """`indic-1`."""
        return f"{self.name}-{self.version}"

    def __call__(self, text: str, language: str | None = None) -> str:
        """Returns the normalised text; see `TextNormalizer`."""
        return _BASIC(normalize_indic(unicodedata.normalize("NFC", text), language), language)


_BASIC = BasicTextNormalizer()
NORMALIZER_NAMES = ("basic", "verbatim", "indic")


def get_normalizer(name: str) -> TextNormalizer:
    """Returns a normaliser by its name (`basic`) or its identifier (`basic-1`).

    Raises:
        DataError: If there is none of that name, or only of another version.
    """
    stem, _, version = name.partition("-")
    normalizer: TextNormalizer
    match stem:
        case "basic":
            normalizer = BasicTextNormalizer()
        case "verbatim":
            normalizer = VerbatimTextNormalizer()
        case "indic":
            normalizer = IndicTextNormalizer()
        case _:
            raise DataError(
                f"The text normaliser must be one of {', '.join(NORMALIZER_NAMES)}, but is"
                f" {name!r}."
            )
    if version and version != str(normalizer.version):
        raise DataError(
            f"The text normaliser {name!r} is not in this version of speechvq, which has"
            f" {normalizer.identifier!r}."
        )
    return normalizer


def find_text_flags(text: str) -> list[Flag]:
    """Returns what about a transcript (before normalisation) makes it doubtful as a training
    target.
    """
    flags = []
    if _DIGIT.search(text):
        flags.append(Flag.DIGITS)
    if "|" in text:
        flags.append(Flag.PIPE)
    if _SPOKEN_SYMBOL.search(text):
        flags.append(Flag.SYMBOLS)
    return flags


def count_letters(text: str) -> int:
    """Returns the number of letters and digits; combining marks are not counted."""
    return len(_LETTER.findall(text))


def digest_text(text: str, language: str) -> int | None:
    """Returns a number by which equal transcripts are found, whatever their case, spaces and
    punctuation; None where no letter is left.
    """
    letters = get_normalizer("basic")(text, language).replace(" ", "")
    if not letters:
        return None
    digest = hashlib.blake2b(letters.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
