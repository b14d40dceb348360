"""Languages by ISO 639-3 code and ISO 15924 script: `hin_Deva`.

The table beside this file (`languages.tsv`) gives names and families of some 150 languages; any
other well-formed code works too and is its own name. Lowest row of the package: imports nothing but
the standard library.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

from speechvq.errors import DataError

_PATTERN = re.compile(r"([a-z]{3})_([A-Z][a-z]{3})")


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
