from __future__ import annotations

import pytest

from speechvq.errors import DataError
from speechvq.languages import list_languages, parse_language, suggest_languages


def test_listed_language() -> None:
    language = parse_language("hin_Deva")
    assert (language.iso, language.script, language.name) == ("hin", "Deva", "Hindi")
    assert language.family == "Indo-European"
    assert language.is_listed


def test_unlisted_language_is_its_own_name() -> None:
    language = parse_language("abc_Latn")
    assert language.name == "abc_Latn"
    assert not language.is_listed


@pytest.mark.parametrize(
    "code", ["", "hi", "hin", "HIN_Deva", "hin-Deva", "hin_deva", "hin_Deva\n"]
)
def test_malformed_language_is_refused(code: str) -> None:
    with pytest.raises(DataError, match="ISO 639-3"):
        parse_language(code)


@pytest.mark.parametrize("code", ["hi", "Hindi", "hin", "hin-deva", "hi-IN"])
def test_message_names_what_was_meant(code: str) -> None:
    assert suggest_languages(code) == ["hin_Deva"]
    with pytest.raises(DataError, match="hin_Deva"):
        parse_language(code)


def test_table_is_sound() -> None:
    languages = list_languages()
    assert len({language.code for language in languages}) == len(languages) > 130
    assert [language.code for language in languages] == sorted(item.code for item in languages)
    aliases = [language.alias for language in languages if language.alias]
    assert len(set(aliases)) == len(aliases)
    assert all(language.name and language.family for language in languages)
    for needed in ("mdw_Latn", "div_Thaa", "sat_Olck", "brx_Deva", "lus_Latn", "mni_Mtei"):
        assert parse_language(needed).is_listed
