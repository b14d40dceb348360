"""What a report says about sharing, from tables whose answer is known."""

from __future__ import annotations

import json

import numpy as np

from speechvq.analysis.probes import ProbeSettings
from speechvq.analysis.section import Section
from speechvq.analysis.sharing_rule import SharingRule
from speechvq.analysis.sharing_section import create_sharing_section
from speechvq.reporting.page import Page
from tests.support.code_tables import (
    Assign,
    assign_by_language,
    assign_by_source,
    assign_shared,
    create_counts,
)

NAMES, SOURCES = ["hin_Deva", "kan_Knda"], ["radio", "phone"]
RULE = SharingRule(num_resamples=30, num_permutations=19, num_splits=2)
PROBES = ProbeSettings(num_permutations=3, num_resamples=50)
ONE = {name: {"radio": 6} for name in NAMES}
CROSSED = {NAMES[0]: {"radio": 16, "phone": 4}, NAMES[1]: {"radio": 4, "phone": 16}}


def create(languages: dict[str, dict[str, int]], assign: Assign) -> Section:
    counts = create_counts(np.random.default_rng(0), languages, assign, num_phones=4)
    return create_sharing_section({"codebook 1": counts}, 1, rule=RULE, probes=PROBES)


def render(section: Section) -> str:
    page = Page("Analysis")
    section.add_to(page)
    assert json.loads(json.dumps(section.numbers))
    return page.render()


def test_sharing_is_said_with_null_and_n() -> None:
    section = create(ONE, assign_shared())
    assert section.warnings == []
    first = section.findings[0]
    assert first.startswith(
        "Of 4 comparisons of a phone in two languages (1 pairs of languages), 4"
    )
    assert "paired at random" in first
    assert "n = 6 and 6 speakers" in first
    assert any("16 of 16 codes are used by two languages" in text for text in section.findings)
    page = render(section)
    assert "hin_Deva–kan_Knda" in page
    assert "<svg" in page


def test_absence_is_said_too() -> None:
    first = create(ONE, assign_by_language(NAMES)).findings[0]
    assert "0 say that codes are shared, 4 that they are not" in first


def test_source_comes_first_where_it_may_be_the_reason() -> None:
    section = create(CROSSED, assign_by_source(SOURCES))
    assert section.findings[0].startswith("Source is as readable as language")
    assert section.warnings
    assert any(text.startswith("Source is as readable") for text in section.limits)
    inside = [text for text in section.findings if text.startswith("Within the source")]
    assert len(inside) == 2
    render(section)


def test_what_cannot_be_made_says_why() -> None:
    assert "no quantiser" in str(create_sharing_section({}, 1).missing)
    alone = create({"hin_Deva": {"radio": 2}}, assign_shared())
    assert alone.missing == "there is one language only, hin_Deva."
    counts = create_counts(np.random.default_rng(0), ONE, assign_shared(), num_phones=1)
    few = create_sharing_section({"codebook 1": counts}, 1, rule=RULE, probes=PROBES)
    assert "1 cannot be told" in few.findings[0]
    render(few)


def test_one_utterance_of_each_language_leaves_the_rest_of_the_section() -> None:
    counts = create_counts(
        np.random.default_rng(0), {one: {"x": 1} for one in NAMES}, assign_shared(), utterances=1
    )
    section = create_sharing_section({"codebook 0": counts}, 1, rule=RULE, probes=PROBES)
    assert "0 say that codes are shared" in section.findings[0]
    assert section.figures == []
    assert any("hin_Deva, kan_Knda are from other languages" in text for text in section.limits)
    render(section)


def test_the_codebook_of_the_findings_is_named() -> None:
    counts = create_counts(np.random.default_rng(0), ONE, assign_shared(), num_phones=3)
    tables = {"codebook 0": counts, "codebook 1": counts}
    section = create_sharing_section(tables, 1, rule=RULE, probes=PROBES)
    assert section.findings[0].endswith("This and what follows is codebook 0, the first of 2.")
