from __future__ import annotations

import numpy as np
import pytest

from speechvq.analysis.alignment_files import AlignmentFiles, load_alignments
from speechvq.analysis.phone_intervals import PhoneInterval, label_frames, name_phone
from speechvq.data.labels import write_labels
from speechvq.data.records import Utterance
from speechvq.data.timed_label import Label
from speechvq.errors import DataError

SECOND = np.zeros(16_000, dtype=np.float32)


def create_label(recording: str, text: str, begin: float, end: float, tier: str = "phones"):
    return Label(recording=recording, tier=tier, text=text, begin_seconds=begin, end_seconds=end)


def create_utterance(path: str, **fields):
    return Utterance(
        **{"id": f"s/{path}", "language": "mdw_Latn", "source": "s", "path": path} | fields
    )


def test_a_frame_has_the_phone_within_which_its_centre_lies():
    times = np.array([0.0125, 0.0325, 0.0525, 0.0725, 0.0925], dtype=np.float32)
    intervals = [
        PhoneInterval("a", -1.0, 0.0325),
        PhoneInterval("i", 0.0325, 0.06),
        PhoneInterval("u", 0.0726, 5.0),
    ]
    assert label_frames(intervals, times) == ["a", "i", "i", None, "u"]
    assert label_frames(intervals, times, gaps_are_silence=True)[3] == "sil"
    overlap = [PhoneInterval("a", 0.0, 1.0), PhoneInterval(None, 0.05, 0.08)]
    assert label_frames(overlap, times) == ["a", "a", None, None, "a"]
    assert label_frames([], times) == [None] * 5


def test_silences_have_one_name_and_noise_has_none():
    assert [name_phone(one) for one in ("SIL", "sp", "", "<eps>", "h#")] == ["sil"] * 5
    assert name_phone("spn") is None
    assert name_phone(" a\u0301 ") == "\u00e1"


@pytest.mark.parametrize("name", ["s/audio/x.ogg", "audio/x.ogg", "audio/x", "x.ogg", "x"])
def test_recordings_are_found_by_id_path_or_name(name):
    files = AlignmentFiles([create_label(name, "SIL", 0.0, 0.2), create_label(name, "A", 0.2, 0.4)])
    found = files.find(create_utterance("audio/x.ogg"), SECOND)
    assert found == [PhoneInterval("sil", 0.0, 0.2), PhoneInterval("A", 0.2, 0.4)]
    assert files.num_unmatched == 0
    assert files.find(create_utterance("audio/y.ogg"), SECOND) is None
    assert files.counts.num_unaligned == 1


def test_times_of_a_piece_count_from_the_begin_of_its_file():
    labels = [create_label("x.wav", "a", 0.0, 9.5), create_label("x.wav", "i", 9.5, 30.0)]
    files = AlignmentFiles(labels)
    piece = create_utterance("x.wav", id="s/x.wav#9.0-10.0", start_seconds=9.0, end_seconds=10.0)
    assert files.find(piece, SECOND) == [
        PhoneInterval("a", -9.0, 0.5),
        PhoneInterval("i", 0.5, 21.0),
    ]
    assert files.counts.num_outside == 0


def test_labels_outside_of_the_audio_are_counted_and_named():
    labels = [
        create_label("x.wav", "a", 0.0, 1.04),
        create_label("x.wav", "i", 1.04, 1.2),
        create_label("z.wav", "i", 0.0, 1.0),
    ]
    files = AlignmentFiles(labels)
    found = files.find(create_utterance("x.wav"), SECOND)
    assert [one.phone for one in found or ()] == ["a"]
    counts = files.counts.to_json(files.num_unmatched)
    assert counts["labels_outside_audio"] == 1
    assert counts["recordings_without_utterance"] == 1
    assert "s/x.wav: 'i' from 1.040 to 1.200 s, but the audio ends at 1.000 s" in str(counts)


def test_a_name_that_fits_two_files_is_refused():
    files = AlignmentFiles([create_label("x", "a", 0.0, 1.0)])
    files.find(create_utterance("one/x.wav"), SECOND)
    files.find(create_utterance("one/x.wav", id="again"), SECOND)
    with pytest.raises(DataError, match=r"s/one/x\.wav and s/two/x\.wav"):
        files.find(create_utterance("two/x.wav"), SECOND)


@pytest.mark.parametrize("suffix", [".tsv", ".TextGrid"])
def test_files_and_maps_are_read(tmp_path, suffix):
    labels = [create_label("x", "A", 0.0, 0.5), create_label("x", "SIL", 0.5, 1.0)]
    write_labels(labels, tmp_path / f"x{suffix}")
    (tmp_path / "map").write_text("phone\tipa\tlanguage\nA\ta\t\nA\tɑ\thin_Deva\n", "utf-8")
    files = load_alignments([str(tmp_path)], phone_map=str(tmp_path / "map"))
    expected = [PhoneInterval("a", 0.0, 0.5), PhoneInterval("sil", 0.5, 1.0)]
    assert files.find(create_utterance("x.wav"), SECOND) == expected
    other = files.find(create_utterance("x.wav", language="hin_Deva"), SECOND) or []
    assert other[0].phone == "ɑ"


def test_ctm_words_are_taken_as_phones(tmp_path):
    (tmp_path / "x.ctm").write_text("x 1 0.0 0.5 a\nx 1 0.5 0.5 sil\n", "utf-8")
    files = load_alignments([str(tmp_path / "x.ctm")])
    found = files.find(create_utterance("x.wav"), SECOND) or []
    assert [one.phone for one in found] == ["a", "sil"]


def test_of_several_tiers_the_phones_are_taken(tmp_path):
    labels = [create_label("x", "word", 0.0, 1.0, "words"), create_label("x", "a", 0.0, 1.0)]
    write_labels(labels, tmp_path / "x.TextGrid")
    files = load_alignments([str(tmp_path / "x.TextGrid")])
    assert files.find(create_utterance("x.wav"), SECOND) == [PhoneInterval("a", 0.0, 1.0)]
    with pytest.raises(DataError, match="'words', 'phones'; `tier` is 'nothing'"):
        load_alignments([str(tmp_path / "x.TextGrid")], tier="nothing")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("phone\tsound\nA\ta\n", "must have the columns `phone` and `ipa`"),
        ("phone\tipa\nA\ta\nA\tb\n", "line 3: 'A' has two names"),
    ],
)
def test_bad_maps_are_refused(tmp_path, text, message):
    (tmp_path / "map.txt").write_text(text, "utf-8")
    write_labels([create_label("x", "A", 0.0, 1.0)], tmp_path / "x.tsv")
    with pytest.raises(DataError, match=message):
        load_alignments([str(tmp_path / "x.tsv")], phone_map=str(tmp_path / "map.txt"))


def test_a_directory_without_alignments_is_refused(tmp_path):
    with pytest.raises(DataError, match="names no"):
        load_alignments([str(tmp_path)])
