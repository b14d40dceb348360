"""Edits of a recogniser whose every code writes one label: all effects are known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from speechvq.analysis.concept_files import ConceptKind
from speechvq.data.records import Utterance
from speechvq.nn.activation_additions import Addition, apply_additions
from speechvq.nn.bottleneck_sites import capture_codes, list_bottlenecks
from speechvq.nn.code_edits import Ablation, Edit, EditMode
from speechvq.nn.places import Place, Site
from speechvq.steering.dev_statistics import DevStatistics, draw_matched
from speechvq.steering.examples import choose_examples
from speechvq.steering.forcing import make_edits, summarize_arms
from speechvq.steering.language import force_language
from speechvq.steering.material import UtterancePass, align_utterance, widen_spans
from speechvq.steering.necessity import (
    AblationKind,
    create_ablations,
    draw_codes,
    make_ablations,
    summarize_ablations,
)
from speechvq.steering.plan import ArmKind, EditPlanner, list_arms
from speechvq.steering.targets import Target, find_phone_labels
from tests.support.steering import NEUTRAL, STRENGTH, create_row, spell

PLACE = Place(0, Site.feed_forward)
A, B, C, D = 3, 4, 5, 6
SPOKEN = [7, 7, 7, A, 7, 7, B, 7, 7, C, 7, 7, 7, B, 7, 7, 7, A, 7, 7]
NEUTRAL_EFFECT = STRENGTH - math.log(math.exp(STRENGTH) + 6) + math.log(7)
"""What a code changes in a frame whose seven labels were all as probable."""


def create_target(label: int, letter: str) -> Target:
    row = create_row(ConceptKind.letter, letter, PLACE, 0, label, (label,))
    return Target(
        kind=ConceptKind.letter,
        name=letter,
        rows=(row,),
        labels={"x": torch.tensor([label])},
    )


def create_edit(code: int, mode: EditMode = EditMode.all, span=(0, 2), row: int | None = None):
    return Edit(layer=0, site=PLACE.site, head=0, span=span, code=code, mode=mode, row=row)


@pytest.fixture
def spoken(planted):
    return UtterancePass(planted, spell(SPOKEN), "x")


@pytest.fixture
def aligned(planted, spoken):
    utterance = Utterance(id="u", language="x", text="abcba")
    return align_utterance(planted, utterance, spoken.log_probs, "x")


@pytest.fixture
def statistics(planted, aligned):
    found = {}
    with capture_codes(planted, found.__setitem__):
        UtterancePass(planted, spell(SPOKEN), "x")
    one = DevStatistics(planted)
    one.add(found, aligned, aligned.label_texts, None)
    return one


def test_the_planted_recogniser_hears_what_is_spelled(spoken, aligned):
    heard = [0 if label == NEUTRAL else label for label in SPOKEN]
    assert spoken.log_probs.argmax(-1).tolist() == heard
    assert [span.label for span in aligned.spans] == [A, B, C, B, A]


def test_a_forced_code_has_the_effect_that_was_planted(spoken):
    after = spoken.run(2, [create_edit(D, row=1)])
    assert torch.equal(after[0], spoken.log_probs)
    assert torch.equal(after[1, 2:], spoken.log_probs[2:])
    difference = after[1, :2, D] - spoken.log_probs[:2, D]
    assert difference.tolist() == pytest.approx([NEUTRAL_EFFECT] * 2, abs=1e-5)


def test_an_edit_of_what_is_there_changes_nothing(spoken):
    after = spoken.run(1, [create_edit(NEUTRAL)])
    assert torch.equal(after[0], spoken.log_probs)


def test_measured_effects_success_and_divergence_are_those_planted(
    planted, spoken, aligned, statistics
):
    targets = [create_target(D, "d"), create_target(A, "a")]
    arms = list_arms([EditMode.all], 1)
    planner = EditPlanner(targets, statistics, arms, torch.Generator().manual_seed(0))
    planned = [edit for edits in planner.plan(targets[0], [aligned], 9, 0) for edit in edits]
    steps = []
    made = make_edits(spoken, planned, window=0, off_distance=2, max_rows=4, advance=steps.append)
    assert sum(steps) == len(made) == len(planned)
    summaries = {one.arm.kind: one for one in summarize_arms(made, seed=1)}
    codes = summaries[ArmKind.codes]
    assert codes.num_edits == 5  # every letter is another one
    assert codes.success.value == 1.0
    assert codes.off_kl.value == 0.0
    assert codes.off_share == 0.0
    assert codes.rest_change.value == 0.0
    quiet, loud = 1 / 7, 1 / (math.exp(STRENGTH) + 6)
    for one in made:
        [setting] = one.planned.settings
        forced = {D: math.exp(STRENGTH) * loud, NEUTRAL: quiet}.get(setting.code, loud)
        length = one.planned.span[1] - one.planned.span[0]
        expected = math.log(length * forced / ((length - 1) * quiet + loud))
        assert one.measures.effect == pytest.approx(expected, abs=1e-4)
        assert one.measures.success == (setting.code == D)
    assert summaries[ArmKind.random].success.value == 0.0
    assert codes.effect.value > 2 > summaries[ArmKind.random].effect.value


def test_a_control_never_has_the_concept_s_own_code(spoken, aligned, statistics):
    row = create_row(ConceptKind.letter, "d", PLACE, 0, D, tuple(range(8)))
    labels = {"x": torch.tensor([D])}
    target = Target(kind=ConceptKind.letter, name="d", rows=(row,), labels=labels)
    generator = torch.Generator().manual_seed(0)
    planner = EditPlanner([target], statistics, list_arms([EditMode.all], 1), generator)
    planned = [edit for edits in planner.plan(target, [aligned], 9, 0) for edit in edits]
    assert {edit.arm.kind for edit in planned} == {ArmKind.codes}  # the union has all codes
    forced = force_language(
        spoken,
        aligned,
        [(target, frozenset({D}))],
        modes=[EditMode.all],
        num_places=1,
        statistics=statistics,
        generator=generator,
        advance=lambda rows: None,
    )
    assert [one.kind for one in forced] == [AblationKind.codes]
    assert forced[0].own_after == forced[0].total_after == 1


def test_examples_are_those_of_the_strongest_mode(spoken, aligned, statistics):
    target = create_target(D, "d")
    arms = list_arms([EditMode.one, EditMode.all], 1)
    planner = EditPlanner([target], statistics, arms, torch.Generator().manual_seed(0))
    planned = [edit for edits in planner.plan(target, [aligned], 9, 0) for edit in edits]
    made = make_edits(
        spoken, planned, window=0, off_distance=2, max_rows=9, advance=lambda rows: None
    )
    chosen = choose_examples(made, 9)
    assert [(one.planned.arm.kind, one.planned.arm.mode) for one in chosen] == [
        (ArmKind.codes, EditMode.all)
    ] * 5
    assert choose_examples([], 9) == []


def test_addition_moves_as_far_as_the_edit_and_along_the_direction(planted, spoken):
    direction = torch.zeros(16)
    direction[D] = 1.0
    edit = create_edit(D, span=(0, 2), row=0)
    after = spoken.run(1, [], [Addition(edit=edit, direction=direction)])
    length = STRENGTH * math.sqrt(2)  # from code 7 to code d, which are at right angles
    expected = length - math.log(math.exp(length) + 6) + math.log(7)
    difference = after[0, :2, D] - spoken.log_probs[:2, D]
    assert difference.tolist() == pytest.approx([expected] * 2, abs=1e-5)
    assert torch.equal(after[0, 2:], spoken.log_probs[2:])
    nothing = Addition(edit=create_edit(NEUTRAL, row=0), direction=direction)
    assert torch.equal(spoken.run(1, [], [nothing])[0], spoken.log_probs)


def test_additions_are_checked_and_leave_nothing_behind(planted):
    wrong = Addition(edit=create_edit(D), direction=torch.ones(3))
    with (
        pytest.raises(ValueError, match=r"`direction` must be \(16,\)"),
        apply_additions(planted, [wrong]),
    ):
        pass
    right = Addition(edit=create_edit(D), direction=torch.ones(16))
    with apply_additions(planted, [right]):
        assert list_bottlenecks(planted)[PLACE].attachment.additions
    assert not list_bottlenecks(planted)[PLACE].attachment.additions


def test_the_difference_of_means_points_to_the_concept(statistics):
    direction = statistics.find_direction(PLACE, 0, (ConceptKind.letter, "c"))
    assert direction.norm().item() == pytest.approx(1.0, abs=1e-6)
    assert int(direction.argmax()) == C
    assert statistics.find_direction(PLACE, 0, (ConceptKind.letter, "d")) is None


def test_code_frequencies_are_those_spoken(statistics):
    counts = statistics.code_counts[PLACE][0]
    assert counts.tolist() == np.bincount(SPOKEN, minlength=8).tolist()


def test_without_its_code_a_letter_is_lost_and_no_other(planted, spoken, aligned, statistics):
    made = make_ablations(
        planted,
        spoken,
        aligned,
        [create_target(B, "b")],
        num_places=1,
        statistics=statistics,
        generator=torch.Generator().manual_seed(0),
        max_rows=1,
        advance=lambda rows: None,
    )
    found = {one.kind: one for one in summarize_ablations(made, seed=1)}
    codes = found[AblationKind.codes]
    assert codes.own_total == 2
    assert (codes.own_before.value, codes.own_drop.value) == (1.0, 1.0)
    assert (codes.other_before.value, codes.other_drop.value) == (1.0, 0.0)
    assert found[AblationKind.random].own_drop.value == 0.0


def test_ablations_take_each_row_s_codes(planted, spoken):
    sets = [{(PLACE, 0): (A, B)}, {}, {(PLACE, 0): (C,)}]
    paths = spoken.run(3, create_ablations(planted, sets)).argmax(-1)
    heard = [sorted(set(path.tolist())) for path in paths]
    assert heard == [[0, C], [0, A, B, C], [0, A, B]]
    wrong = Ablation(layer=0, site=PLACE.site, is_ablated=torch.zeros(2, 1, 8, dtype=torch.bool))
    with pytest.raises(ValueError, match="of 3 utterances"):
        spoken.run(3, [wrong])


def test_random_codes_are_as_frequent_and_never_the_concept_s(statistics):
    generator = torch.Generator().manual_seed(0)
    counts = torch.tensor([1, 1, 1, 1, 50, 52, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000])
    drawn = {draw_matched(counts, 4, (5, 0), generator) for _ in range(200)}
    assert not drawn & {4, 5, 0}
    assert draw_matched(counts[4:6], 0, (), generator) == 1
    assert draw_matched(counts[4:6], 0, (1,), generator) is None
    many = torch.arange(1, 101)
    close = [draw_matched(many, 50, (), generator) for _ in range(100)]
    assert all(44 <= code <= 56 for code in close)
    control = draw_codes({(PLACE, 0): (A, B)}, statistics, generator)
    assert len(set(control[PLACE, 0]) - {A, B}) == 2


def test_append_edits_of_many_rows_share_one_slot(planted, spoken):
    edits = [create_edit(D, EditMode.append, row=row) for row in range(3)]
    seen = []
    with capture_codes(planted, lambda place, output: seen.append(output.codes.shape)):
        after = spoken.run(3, edits)
    assert seen[-1][-1] == 2
    assert torch.equal(after[0], after[2])
    half = STRENGTH / 2
    expected = half - math.log(math.exp(half) + 6) + math.log(7)
    assert float(after[1, 0, D] - spoken.log_probs[0, D]) == pytest.approx(expected, abs=1e-5)


def test_spans_meet_half_way_and_take_few_blanks(aligned):
    frames = [(span.begin_frame, span.end_frame) for span in widen_spans(aligned.spans, 20, 1)]
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(frames))
    assert all(begin < end for begin, end in frames)


def test_a_phone_is_written_by_letters_that_are_mostly_its_own():
    counts = {
        ("x", "k"): torch.tensor([0, 0, 0, 9, 1]),
        ("x", "\u0259"): torch.tensor([0, 0, 0, 4, 2]),  # within k's letter, and its own
        ("x", "t"): torch.tensor([0, 0, 0, 5, 0]),
    }
    assert find_phone_labels(counts, "k")["x"].tolist() == [3]
    assert find_phone_labels(counts, "\u0259")["x"].tolist() == [4]
    assert not find_phone_labels(counts, "t")
    assert not find_phone_labels(counts, "unheard")


def test_spaces_write_no_phone(planted, statistics):
    utterance = UtterancePass(planted, spell([A, 7, 2, 7, B]), "x")
    words = align_utterance(
        planted, Utterance(id="w", language="x", text="a b"), utterance.log_probs, "x"
    )
    statistics.add({}, words, words.label_texts, ["p"] * 5)
    counts = statistics.phone_labels["x", "p"]
    assert counts[2] == 0
    assert counts[A] > 0 < counts[B]
