"""The text normaliser keeps every script readable."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechvq.data.records import Flag
from speechvq.data.text import find_text_flags, get_normalizer
from speechvq.errors import DataError

ZWNJ, ZWJ = "\u200c", "\u200d"
basic = get_normalizer("basic")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("नमस्ते, दुनिया!", "नमस्ते दुनिया"),
        ("क्या “यह” ठीक है?", "क्या यह ठीक है"),
        ("राम ने कहा।", "राम ने कहा"),
        (f"क्{ZWJ}ष और क्{ZWNJ}ष", f"क्{ZWJ}ष और क्{ZWNJ}ष"),
        (f"അവന{ZWNJ} വന്നു.", f"അവന{ZWNJ} വന്നു"),
        (f"അവന്{ZWJ} (വന്നു)", f"അവന്{ZWJ} വന്നു"),
        (f"র{ZWJ}্যাব", f"র{ZWJ}্যাব"),
        ("\u09af\u09bc", unicodedata.normalize("NFC", "\u09df")),
        (f"می{ZWNJ}روم{ZWNJ}.", f"می{ZWNJ}روم"),
        ("Don’t ‘quote’ rock 'n' roll", "don't quote rock n roll"),
        ("a\u00adb\ufeff c\u200bd", "ab c d"),
        (f"x{ZWJ}y {ZWNJ}z", "xy z"),
        ("12 apples | 3", "12 apples 3"),
        ("ΟΔΟΣ", "οδος" if "ΟΔΟΣ".lower() == "οδος" else "οδος"[:-1] + "ς"),
        ("wó twεrε ya", "wó twεrε ya"),
        (" - … ! ", ""),
    ],
)
def test_basic_normalizer(text: str, expected: str) -> None:
    assert basic(text) == unicodedata.normalize("NFC", expected)


def test_turkish_case_needs_the_language() -> None:
    assert basic("IŞIK İZ", "tur_Latn") == "ışık iz"
    assert basic("IŞIK İZ", "eng_Latn") == "işik iz"


_scripts = st.text(
    alphabet=st.one_of(
        st.characters(),
        st.sampled_from(f"'’{ZWJ}{ZWNJ}\u200bİIςΣ|्ാ് নমسی،۔। aZ1\u0307"),
    ),
    max_size=30,
)


@given(_scripts, st.sampled_from([None, "tur_Latn", "hin_Deva"]))
def test_basic_normalizer_is_idempotent(text: str, language: str | None) -> None:
    once = basic(text, language)
    assert basic(once, language) == once
    assert once == once.strip()
    assert "  " not in once
    assert "|" not in once


@given(_scripts)
def test_no_letter_or_mark_is_lost(text: str) -> None:
    def count(value: str) -> int:
        lowered = unicodedata.normalize("NFC", value).replace("İ", "i").lower()
        kept = unicodedata.normalize("NFD", lowered)
        return sum(unicodedata.category(c)[0] in "LMN" for c in kept)

    assert count(basic(text)) == count(text)


def test_flags() -> None:
    assert find_text_flags("सन् २०१९") == [Flag.DIGITS]
    assert find_text_flags("a | b 5%") == [Flag.DIGITS, Flag.PIPE, Flag.SYMBOLS]
    assert find_text_flags("नमस्ते, दुनिया!") == []


def test_normalizers_have_identifiers_and_versions() -> None:
    assert get_normalizer("basic-1").identifier == "basic-1"
    assert get_normalizer("verbatim")("A,  b!") == "A, b!"
    with pytest.raises(DataError, match="basic-99"):
        get_normalizer("basic-99")
    with pytest.raises(DataError, match="basic, verbatim"):
        get_normalizer("whisper")
