"""Transcripts: Indic spelling by golden files, numbers, foreign letters, impossible speed."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechvq.data.numbers import expand_numbers
from speechvq.data.records import Flag
from speechvq.data.text import get_normalizer
from speechvq.data.transcripts import (
    check_text_dependencies,
    find_mixed_letters,
    find_transcript_flags,
    has_foreign_script,
    spell_transcript,
)
from speechvq.data.vocabulary import count_characters, format_vocabulary
from speechvq.errors import MissingDependencyError

ZWNJ, ZWJ = "\u200c", "\u200d"
BASIC = get_normalizer("basic")
_GOLDEN = (Path(__file__).parent / "goldens" / "indic_text.tsv").read_text(encoding="utf-8")
ROWS = [tuple(line.split("\t")) for line in _GOLDEN.split("\n")[1:] if line]


def test_the_golden_file_has_every_script_and_joiners() -> None:
    scripts = {language.split("_")[1] for language, _, _ in ROWS}
    assert scripts == {"Deva", "Beng", "Guru", "Gujr", "Orya", "Taml", "Telu", "Knda", "Mlym"}
    for joiner in (ZWNJ, ZWJ):
        kept = {language for language, text, result in ROWS if joiner in text and joiner in result}
        assert len(kept) >= 5


@pytest.mark.parametrize(("language", "text", "expected"), ROWS)
def test_indic_spelling(language: str, text: str, expected: str) -> None:
    pytest.importorskip("indicnlp")
    normalizer = get_normalizer("indic-1")
    assert normalizer(text, language) == expected
    assert normalizer(expected, language) == expected


def test_indic_spelling_makes_two_ways_of_writing_one() -> None:
    pytest.importorskip("indicnlp")
    normalizer = get_normalizer("indic")
    pairs = [
        ("mal_Mlym", f"അവന്{ZWJ}", "അവൻ"),
        ("tam_Taml", "க\u0bc6\u0bbe", "கொ"),
        ("ben_Beng", "ক\u09c7\u09be", "কো"),
        ("pan_Guru", "ਅ\u0a3e", "ਆ"),
        ("kan_Knda", "ಕ\u0cc6\u0cc2", "ಕೊ"),
    ]
    for language, first, second in pairs:
        assert normalizer(first, language) == unicodedata.normalize("NFC", second)


@given(st.text(st.sampled_from(f"नमस्तेक़{ZWJ}{ZWNJ}അവന്\u0d7b \ue00c\ue00d।|:aZ1'"), max_size=20))
def test_indic_spelling_leaves_other_languages_alone_and_is_idempotent(text: str) -> None:
    pytest.importorskip("indicnlp")
    normalizer = get_normalizer("indic")
    for language in (None, "eng_Latn", "urd_Arab"):
        assert normalizer(text, language) == BASIC(text, language)
    for language in ("hin_Deva", "mal_Mlym"):
        once = normalizer(text, language)
        assert normalizer(once, language) == once


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("उसने 25 किताबें।", "hin_Deva", "उसने पच्चीस किताबें।"),
        ("१,२३,४५६ रुपये", "hin_Deva", "एक लाख तेईस हज़ार चार सौ छप्पन रुपये"),
        ("I have 21 apples, 1,000.", "eng_Latn", "I have twenty-one apples, one thousand."),
        ("2019 में", "hin_Deva", "2019 में"),
        ("3.5 और 10:30, 007", "hin_Deva", "3.5 और 10:30, 007"),
        ("call +91 98 now", "eng_Latn", "call +91 98 now"),
        ("5वां 12-13 50%", "hin_Deva", "5वां 12-13 50%"),
        ("1234567890", "eng_Latn", "1234567890"),
        ("21 abc", "mdw_Latn", "21 abc"),
        ("no digits", "eng_Latn", "no digits"),
    ],
)
def test_numbers_are_spelled_out_where_that_is_clear(
    text: str, language: str, expected: str
) -> None:
    pytest.importorskip("indic_numtowords")
    assert expand_numbers(text, language) == expected


@pytest.mark.parametrize(
    ("digits", "text", "flags"),
    [
        ("flag", "सात 7 और 2019", [Flag.DIGITS]),
        ("keep", "सात 7 और 2019", []),
        ("expand", "सात सात और 2019", [Flag.DIGITS, Flag.NUMBERS_EXPANDED]),
    ],
)
def test_policies_for_digits(digits: str, text: str, flags: list[Flag]) -> None:
    pytest.importorskip("indic_numtowords")
    raw = "सात 7 और 2019"
    measured = [str(flag) for flag in find_transcript_flags(raw, "hin_Deva")]
    assert spell_transcript(raw, "hin_Deva", measured, BASIC, digits=digits) == (text, flags)
    seven = spell_transcript("7", "hin_Deva", ["digits", "pipe"], BASIC, digits="expand")
    assert seven == ("सात", [Flag.PIPE, Flag.NUMBERS_EXPANDED])
    assert spell_transcript("?!", "hin_Deva", [], BASIC, digits=digits) == (None, [])


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("indicnlp.normalize.indic_normalize", "indic_numtowords", "num2words"):
        monkeypatch.setitem(__import__("sys").modules, package, None)
    from speechvq.data import indic_text

    indic_text._load_normalizer.cache_clear()
    with pytest.raises(MissingDependencyError, match=r"speechvq\[indic\]"):
        get_normalizer("indic")("क", "hin_Deva")
    for normalizer, digits in (("indic-1", "flag"), ("basic", "expand")):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(MissingDependencyError, match=r"speechvq\[indic\]"):
            check_text_dependencies(normalizer, digits)
    check_text_dependencies("basic", "flag")
    for language in ("hin_Deva", "eng_Latn"):
        with pytest.raises(MissingDependencyError, match=r"speechvq\[indic\]"):
            expand_numbers("7", language)


@pytest.mark.parametrize(
    ("text", "language", "is_foreign"),
    [
        ("नमस्ते दुनिया", "hin_Deva", False),
        ("नमस्ते world", "hin_Deva", True),
        (f"र{ZWJ}्यাব २० '", "hin_Deva", True),
        ("हरिॐ ॥ १२", "hin_Deva", False),
        ("wó twεrε", "mdw_Latn", True),  # the Greek epsilon, not the Latin one
        ("wó twɛrɛ", "mdw_Latn", False),
        ("東京タワーへ", "jpn_Jpan", False),
        ("東京", "cmn_Hans", False),
        ("한국 韓", "kor_Kore", False),
        ("anything", "abc_Zzzz", False),
        ("anything", "abc_Qabc", False),
    ],
)
def test_letters_of_another_script(text: str, language: str, is_foreign: bool) -> None:
    assert has_foreign_script(text, language) is is_foreign


def test_letters_amid_a_language_s_own_are_told_from_foreign_words() -> None:
    assert find_mixed_letters("pyέbhi itsωώ ε", "mdw_Latn") == {"ε", "ω"}
    assert find_mixed_letters("मैं computer और λόγος", "hin_Deva") == set()
    assert not has_foreign_script("pyέbhi ε", "mdw_Latn", "εω")
    assert has_foreign_script("pyέbhi д", "mdw_Latn", "εω")


def test_flags_of_a_transcript() -> None:
    assert find_transcript_flags("नमस्ते | 5% off", "hin_Deva") == [
        Flag.DIGITS,
        Flag.PIPE,
        Flag.SYMBOLS,
        Flag.FOREIGN_SCRIPT,
    ]


def test_vocabulary() -> None:
    counts = count_characters("hin_Deva", ["कक क", "क" * 5 + "ख" * 5, f"ज{ZWJ}", "कх"])
    assert [(c.character, c.count, c.num_utterances, c.is_rare) for c in counts] == [
        ("क", 9, 3, False),
        ("ख", 5, 1, False),
        ("х", 1, 1, True),
        ("ज", 1, 1, True),
        (ZWJ, 1, 1, True),
    ]
    lines = format_vocabulary(counts).split("\n")
    assert lines[0].split("\t")[:3] == ["language", "character", "code_point"]
    assert lines[3].split("\t") == [
        *("hin_Deva", "х", "U+0445", "CYRILLIC SMALL LETTER HA", "Ll", "1", "1", "yes")
    ]
    assert lines[5].split("\t")[2:4] == ["U+200D", "ZERO WIDTH JOINER"]
    many = count_characters("eng_Latn", ["a" * 10**6, "b" * 9])
    assert [(c.character, c.is_rare) for c in many] == [("a", False), ("b", True)]
