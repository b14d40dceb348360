import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechvq.data.text import NORMALIZER_NAMES
from speechvq.decoding.spelling_variants import IDENTIFIER, is_tolerant_of, write_tolerantly

ZWJ, ZWNJ = "\u200d", "\u200c"

SAME = [
    ("hin_Deva", "हिन्दी", "हिंदी"),
    ("hin_Deva", "सम्बन्ध", "संबंध"),
    ("hin_Deva", "ज़मीन", "जमीन"),
    ("hin_Deva", "\u0958लम", "कलम"),
    ("hin_Deva", "हाँ", "हां"),
    ("hin_Deva", "गये", "गए"),
    ("hin_Deva", "गयीं", "गईं"),
    ("hin_Deva", "१९", "19"),
    ("hin_Deva", f"पक्{ZWNJ}का", "पक्का"),
    ("mar_Deva", f"दर्{ZWJ}या", "दऱ्या"),
    ("ben_Beng", "অঙ্ক", "অংক"),
    ("ben_Beng", f"উত্{ZWJ}", "উৎ"),
    ("pan_Guru", "ਪੰਜ", "ਪਂਜ"),
    ("ory_Orya", "ଅଙ୍କ", "ଅଂକ"),
    ("kan_Knda", "ಅಙ್ಕ", "ಅಂಕ"),
    ("mal_Mlym", f"അവന്{ZWJ}", "അവൻ"),
    ("mal_Mlym", "എൻറെ", "എന്റെ"),
    ("tam_Taml", "ஸ்ரீ", "ஶ்ரீ"),
]
DIFFERENT = [
    ("hin_Deva", "कि", "की"),
    ("hin_Deva", "पढ़", "पढ"),
    ("hin_Deva", "अन्न", "अंन"),
    ("hin_Deva", "ये", "ए"),
    ("mar_Deva", "गये", "गए"),
    ("mar_Deva", "दर्या", "दऱ्या"),
    ("ben_Beng", "কি", "কী"),
    ("ben_Beng", "চাঁদ", "চাংদ"),
    ("ben_Beng", "অন্ত", "অংত"),
    ("pan_Guru", "ਸ਼ੇਰ", "ਸੇਰ"),
    ("tam_Taml", "கல்", "கால்"),
    ("mal_Mlym", "കല", "കള"),
    ("urd_Arab", "ہے", "ھے"),
]


@pytest.mark.parametrize(("language", "one", "other"), SAME)
def test_spellings_that_are_used_side_by_side_are_one(language, one, other):
    assert unicodedata.normalize("NFC", one) != unicodedata.normalize("NFC", other)
    assert write_tolerantly(one, language) == write_tolerantly(other, language)


@pytest.mark.parametrize(("language", "one", "other"), DIFFERENT)
def test_other_words_stay_apart(language, one, other):
    assert write_tolerantly(one, language) != write_tolerantly(other, language)


@given(st.text(alphabet="कनतमहयेीँं़्र 1१\u200d\u200c", max_size=12))
def test_spaces_stay_and_twice_is_once(text):
    once = write_tolerantly(unicodedata.normalize("NFC", text), "mar_Deva")
    assert once.count(" ") == text.count(" ")
    assert write_tolerantly(once, "mar_Deva") == once


def test_other_scripts_are_left_alone():
    assert not is_tolerant_of("eng_Latn")
    assert not is_tolerant_of("unknown")
    assert write_tolerantly("naïve Ω १", "eng_Latn") == "naïve Ω १"


def test_no_corpus_can_be_prepared_with_it_and_no_score_be_headed_by_it():
    assert IDENTIFIER == "tolerant-1"
    assert "tolerant" not in NORMALIZER_NAMES
