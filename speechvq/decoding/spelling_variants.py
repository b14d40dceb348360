"""A second, tolerant spelling of Indic text, to see how much of an error rate is spelling.

Scores only: no corpus is prepared with it, and `speechvq.data.text` does not know it, so that it
cannot become what a score is headed by. It follows text that a normaliser has already brought into
its form, and joins spellings that writers of a script use side by side. After the options of
indic-nlp-library (nasals, nuktas, chillus, tippi), Lucene's HindiNormalizer (Larkey et al. 2003,
"Hindi CLIR in thirty days") and chapter 12 of the Unicode standard; what else varies, such as
compounds written apart and loan words, needs a list for each text (OIWER, arXiv:2603.00941).

Long and short vowels stay apart everywhere: कि and की, কি and কী are different words, and the
commonest confusions of recognisers among them.
"""

from __future__ import annotations

import functools
import unicodedata

import regex

from speechvq.errors import DataError
from speechvq.languages import parse_language

NAME, VERSION = "tolerant", 1
IDENTIFIER = f"{NAME}-{VERSION}"
_ZWNJ, _ZWJ = "\u200c", "\u200d"

_BLOCKS = {
    **{"Deva": 0x0900, "Beng": 0x0980, "Guru": 0x0A00, "Gujr": 0x0A80, "Orya": 0x0B00},
    **{"Taml": 0x0B80, "Telu": 0x0C00, "Knda": 0x0C80, "Mlym": 0x0D00, "Sinh": 0x0D80},
}
"""First code point of each script's block; nine of them have their letters in one order."""
_BORROWED = (0x15, 0x16, 0x17, 0x1C, 0x2B)
"""k, kh, g, j, ph: with a nukta q, x, ɣ, z, f of borrowed words, often written without."""
_VARGAS = ((0x19, 0x15), (0x1E, 0x1A), (0x23, 0x1F), (0x28, 0x24), (0x2E, 0x2A))
"""A nasal, and the first of the four stops of its place."""
_ANUSVARA, _CHANDRABINDU, _NUKTA, _VIRAMA = 0x02, 0x01, 0x3C, 0x4D

_NUKTA_SCRIPTS = ("Deva", "Guru", "Gujr", "Knda")
_NASAL_SCRIPTS = {"Deva": 5, "Gujr": 5, "Orya": 5, "Telu": 5, "Knda": 5, "Beng": 1}
"""How many places of articulation: Bengali ং is ŋ, so that it stands for ঙ only."""
_JOINED: dict[str, tuple[tuple[str, str], ...]] = {
    "Deva": ((f"र्{_ZWJ}", "ऱ्"),),
    "Beng": ((f"ত্{_ZWJ}", "ৎ"),),
    "Mlym": tuple(
        (f"{letter}്{_ZWJ}", chillu) for letter, chillu in zip("ണനരലളക", "ൺൻർൽൾൿ", strict=True)
    ),
}
"""Letters that are encoded in two ways, one of them with a joiner: the eyelash ra of Marathi and
Nepali, the final ta of Bengali, the chillus of Malayalam."""
_SPECIAL: dict[str, tuple[tuple[str, str], ...]] = {
    "Deva": (
        ("[ँ]", "ं"),
        ("अॅ|ऍ", "ॲ"),
    ),
    "Guru": (("ੰ", "ਂ"), (f"ਲ{chr(0x0A3C)}", "ਲ")),
    "Taml": (("ஸ்ரீ", "ஶ்ரீ"),),
    "Mlym": (
        ("ൻ്?റ", "ന്റ"),
        ("ൌ", "ൗ"),
        ("ു്", "്"),
    ),
}
_HINDI = (("(?<=[\\p{L}\\p{M}--्])ये(?=ं?(?!\\p{L}|\\p{M}))", "ए"),
          ("(?<=[\\p{L}\\p{M}--्])यी(?=ं?(?!\\p{L}|\\p{M}))", "ई"))  # fmt: skip
"""गये and गए, नयी and नई: both are taught; only at the end of a word."""


def is_tolerant_of(language: str) -> bool:
    """Whether there are rules for a language's script.

    Args:
        language: `hin_Deva`.
    """
    return _find_script(language) in _BLOCKS


def write_tolerantly(text: str, language: str) -> str:
    """Returns a text in which spellings that are used side by side are one.

    Nothing that it returns is for reading. Joiners are dropped after what they spell in Malayalam,
    Bengali and Marathi is kept; digits of a script become ASCII digits. Other scripts are returned
    as they are.

    Args:
        text: Normalised.
        language: `hin_Deva`.
    """
    script = _find_script(language)
    if script not in _BLOCKS:
        return text
    text = unicodedata.normalize("NFC", text)
    for pattern, replacement in _JOINED.get(script, ()):
        text = text.replace(pattern, replacement)
    text = text.replace(_ZWJ, "").replace(_ZWNJ, "")
    for rule, replacement in _compile_rules(script, language.split("_")[0]):
        text = rule.sub(replacement, text)
    return unicodedata.normalize("NFC", "".join(_to_ascii_digit(letter) for letter in text))


def _to_ascii_digit(letter: str) -> str:
    return str(unicodedata.digit(letter)) if unicodedata.category(letter) == "Nd" else letter


@functools.cache
def _find_script(language: str) -> str:
    try:
        return parse_language(language).script
    except DataError:
        return ""


@functools.cache
def _compile_rules(script: str, iso: str) -> tuple[tuple[regex.Pattern[str], str], ...]:
    base = _BLOCKS[script]
    rules = list(_SPECIAL.get(script, ()))
    if script in _NUKTA_SCRIPTS:
        letters = "".join(chr(base + offset) for offset in _BORROWED)
        rules.append((f"(?<=[{letters}]){chr(base + _NUKTA)}", ""))
    for nasal, first in _VARGAS[: _NASAL_SCRIPTS.get(script, 0)]:
        stops = f"[{chr(base + first)}-{chr(base + first + 3)}]"
        rules.append((f"{chr(base + nasal)}{chr(base + _VIRAMA)}(?={stops})",
                      chr(base + _ANUSVARA)))  # fmt: skip
    if iso == "hin":
        rules += _HINDI
    return tuple((regex.compile(pattern, regex.V1), new) for pattern, new in rules)
