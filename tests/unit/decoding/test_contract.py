import pytest

from speechvq.decoding.contract import compare_with_vocabulary
from speechvq.decoding.language_model import load_language_model
from speechvq.errors import ModelError
from speechvq.models.vocabulary import CharacterVocabulary, GraphemeVocabulary

MBOSHI = CharacterVocabulary("ab")


def compare(directory, vocabulary=MBOSHI, language="mdw_Latn", separator_id=2):
    model = load_language_model(directory)
    contract = compare_with_vocabulary(
        model, vocabulary, language=language, separator_id=separator_id
    )
    return model, contract


def test_what_fits_has_neither_problems_nor_remarks(write_model):
    model, contract = compare(write_model())
    contract.check(model)
    assert contract.lexicon == {"a": [3], "ab": [3, 4], "bb": [4, 4]}
    model, letters = compare(write_model("letters", unit="character"))
    letters.check(model)
    assert not contract.remarks
    assert not letters.remarks
    assert not letters.lexicon


@pytest.mark.parametrize("unit", ["word", "character"])
def test_another_script_is_refused(write_model, unit):
    model, contract = compare(
        write_model(unit=unit), CharacterVocabulary("नमसत"), language="hin_Deva"
    )
    with pytest.raises(ModelError, match=r"mdw_Latn.*hin_Deva.*Latn instead of Deva") as refused:
        contract.check(model)
    assert "vocabulary" in str(refused.value)
    assert str(refused.value).count("\n- ") >= 2


def test_every_mismatch_is_named_at_once(write_model):
    directory = write_model(language="swh_Latn", word_separator="_")
    (directory / "lm.arpa").write_text(
        (directory / "lm.arpa").read_text("utf-8").replace("-1.1", "-1.2"), "utf-8"
    )
    model, contract = compare(directory)
    assert len(contract.problems) == 3
    assert "swh_Latn" in contract.problems[0]
    assert "train it again" in contract.problems[1]
    assert "'|' between words, the language model '_'" in contract.problems[2]
    with pytest.raises(ModelError, match=r"(?s)swh_Latn.*train it again.*between words"):
        contract.check(model)


def test_words_that_cannot_be_written_are_left_out_and_told(write_model):
    lexicon = ["a\ta |", "ab\ta b |", "bb\tb b |", "ax\ta x |"]
    _, contract = compare(write_model(lexicon=lexicon))
    assert not contract.problems
    assert list(contract.lexicon) == ["a", "ab", "bb"]
    assert "1 of the lexicon's 4 words" in contract.remarks[0]
    assert "(x): ax" in contract.remarks[0]


def test_words_that_the_model_does_not_know_are_left_out_and_told(write_model):
    _, contract = compare(write_model(lexicon=["a\ta |", "ab\ta b |", "ba\tb a |"]))
    assert list(contract.lexicon) == ["a", "ab"]
    assert "not in the language model: ba" in contract.remarks[0]
    _, contract = compare(write_model("other", lexicon=["ba\tb a |", "bab\tb a b |"]))
    assert "2 of the lexicon's 2 words" in contract.problems[0]


def test_other_spellings_and_empty_lexicons_are_refused(write_model):
    _, contract = compare(write_model(lexicon=["a\ta |", "ab\tb a |"]))
    assert "spelled otherwise" in contract.problems[0]
    _, contract = compare(write_model("empty", lexicon=[]))
    assert "no word" in contract.problems[0]


def test_models_of_characters_need_a_vocabulary_of_characters(write_model):
    _, contract = compare(write_model(unit="character"), separator_id=None)
    assert "`unit=word`" in contract.problems[0]


def test_letters_of_one_side_only_are_told(write_model):
    _, contract = compare(write_model(unit="character"), CharacterVocabulary("abc"))
    assert not contract.problems
    assert "(c" not in contract.remarks[0]
    assert contract.remarks[0].endswith("written: c.")


def test_clusters_fit_models_of_words_and_no_models_of_characters(write_model):
    clusters = GraphemeVocabulary(["a", "ab", "b"])  # one label of two code points
    vocabulary = GraphemeVocabulary(["a", "b", "b\u0301"])
    _, contract = compare(write_model(lexicon=["a\ta |", "ab\ta b |"]), clusters)
    assert not contract.problems
    _, letters = compare(write_model("letters", unit="character"), vocabulary)
    assert "grapheme clusters" in letters.problems[0]
    assert "`unit=word`" in letters.problems[0]
