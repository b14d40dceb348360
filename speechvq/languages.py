"""Languages by ISO 639-3 code and ISO 15924 script: `hin_Deva`.

The table beside this file (`languages.tsv`) gives names and families of some 150 languages; any
other well-formed code works too and is its own name. Lowest row of the package: imports nothing but
the standard library.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources

from speechvq.errors import DataError

_PATTERN = re.compile(r"([a-z]{3})_([A-Z][a-z]{3})")
_LOCALES = {
    **{"zh_tw": "cmn_Hant", "zh_hk": "yue_Hant", "yue": "yue_Hant", "yue_hant_hk": "yue_Hant"},
    **{"oriya": "ory_Orya", "odia": "ory_Orya", "punjabi": "pan_Guru", "panjabi": "pan_Guru"},
    **{"arabic": "arb_Arab", "persian": "pes_Arab", "swahili": "swh_Latn", "urdu": "urd_Arab"},
}
"""Names that the table does not decide."""


@dataclass(frozen=True, slots=True)
class Language:
    """A language in a script.

    Attributes:
        code: `hin_Deva`.
        iso: ISO 639-3 code, `hin`.
        script: ISO 15924 code, `Deva`.
        name: English name; the code where the table lacks the language.
        family: English name of the family; None where the table lacks the language.
        alias: Short code by which others call the language (ISO 639-1, espeak-ng), or None.
    """

    code: str
    iso: str
    script: str
    name: str
    family: str | None = None
    alias: str | None = None

    @property
    def is_listed(self) -> bool:
        """Whether the table has the language."""
        return self.family is not None


def parse_language(code: str) -> Language:
    """Returns the language of a code.

    Args:
        code: ISO 639-3, underscore, ISO 15924, such as `hin_Deva`.

    Raises:
        DataError: If the code is malformed; the message names the code that was probably meant.
    """
    listed = _load_table().get(code)
    if listed is not None:
        return listed
    match = _PATTERN.fullmatch(code)
    if match is None:
        guesses = suggest_languages(code)
        hint = f" Did you mean {' or '.join(guesses)}?" if guesses else ""
        raise DataError(
            "A language must be an ISO 639-3 code and an ISO 15924 script, like `hin_Deva`, but is"
            f" {code!r}.{hint}"
        )
    return Language(code, match[1], match[2], name=code)


def list_languages() -> list[Language]:
    """Returns the languages of the table, by code."""
    return list(_load_table().values())


def suggest_languages(code: str) -> list[str]:
    """Returns codes of the table that a malformed code may mean: `hi`, `HIN`, `hin-deva`,
    `Hindi`.
    """
    wanted = code.strip().lower().replace("-", "_")
    return [
        language.code
        for language in list_languages()
        if wanted in (language.code.lower(), language.iso, language.alias, language.name.lower())
        or (language.alias is not None and wanted.startswith(language.alias + "_"))
    ]


@lru_cache(maxsize=4096)
def find_language(name: str) -> str | None:
    """Returns the code for what others call a language: `hi`, `pa-IN`, `hi_in`, `cmn_hans_cn`,
    `hindi`; None where that is unknown or may mean several.
    """
    name = name.strip()
    if name in _load_table() or _PATTERN.fullmatch(name):
        return name
    wanted = name.lower().replace("-", "_")
    if wanted in _LOCALES:
        return _LOCALES[wanted]
    stem, _, rest = wanted.partition("_")
    second = rest.partition("_")[0]  # a region of two letters or a script of four
    is_locale = len(second) in (2, 4)
    candidates = []
    for language in list_languages():
        codes = (language.iso, language.alias)
        names = (*codes, language.name.lower().partition(",")[0])
        if wanted in names or (is_locale and stem in codes):
            candidates.append(language)
    matching = [one for one in candidates if one.script == second.capitalize()] or candidates
    if len(matching) > 1:
        matching = [one for one in matching if one.alias is not None]
    return matching[0].code if len(matching) == 1 else None


@cache
def _load_table() -> dict[str, Language]:
    table = {}
    text = resources.files("speechvq").joinpath("languages.tsv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE):
        iso, script = row["code"].split("_")
        table[row["code"]] = Language(
            row["code"], iso, script, row["name"], row["family"], row["alias"] or None
        )
    return table
