"""What a report says about layers and attention."""

from __future__ import annotations

import json

import numpy as np
import torch

from speechvq.analysis.attention import AttentionTally
from speechvq.analysis.attention_section import create_attention_section
from speechvq.analysis.layer_section import (
    add_bottlenecks,
    create_layer_section,
    measure_likeness,
)
from speechvq.analysis.probes import ProbeResult, ProbeSettings, run_probe
from speechvq.analysis.section import Section
from speechvq.models.bottlenecks import BottleneckConfig
from speechvq.nn.places import Site
from speechvq.reporting.page import Page

QUICK = ProbeSettings(num_permutations=3, num_resamples=50)


def render(section: Section) -> str:
    page = Page("Analysis")
    section.add_to(page)
    assert json.loads(json.dumps(section.numbers))
    return page.render()


def run_layer_probes(
    layers, labels, groups, seed: int, settings: ProbeSettings
) -> list[ProbeResult]:
    return [
        run_probe(layer, labels, groups, np.random.default_rng(seed), settings) for layer in layers
    ]


def test_layers() -> None:
    rng = np.random.default_rng(0)
    languages = np.repeat(["hin_Deva", "kan_Knda", "mal_Mlym"], 12)
    speakers = np.array([f"{name}-{row % 4}" for row, name in enumerate(languages)])
    noise = rng.normal(size=(36, 8))
    told = noise + 8 * np.eye(8)[np.repeat([0, 1, 1], 12)]
    told[24:, 2] += 3
    phones = np.array(["a", "e", "i", "o", "u", "sil"] * 6)
    likeness = measure_likeness(told, languages, told, languages, phones)
    assert likeness.phones == ["a", "e", "i", "o", "u"]
    assert likeness.dendrogram.order == [0, 1, 2]
    assert likeness.cka is not None
    section = create_layer_section(
        [0, 6],
        {
            "language": run_layer_probes([noise, told], languages, speakers, 0, QUICK),
            "source": run_layer_probes([noise, told], ["x"] * 36, speakers, 0, QUICK),
        },
        {6: likeness},
    )
    assert section.findings[0].startswith("A probe reads the language best from layer 6")
    assert "n = 12 groups" in section.findings[0]
    assert "No probe for source: 1 classes have 2 groups, 2 are needed." in section.limits
    assert len(section.figures) == 4
    assert "kan_Knda" in render(section)


def test_layers_that_were_not_kept() -> None:
    assert create_layer_section([], {}, {}).missing == "no representations were kept."


def test_local_heads_are_counted() -> None:
    size = 60
    places = torch.arange(size, dtype=torch.float64)
    near = (-(places[:, None] - places).abs()).softmax(-1)
    uniform = torch.full((size, size), 1 / size, dtype=torch.float64)
    one_key = torch.zeros(size, size, dtype=torch.float64)
    one_key[:, 30] = 1.0
    tally = AttentionTally()
    for layer in (0, 1):
        tally.add(layer, torch.stack([near, uniform, one_key])[None].repeat(2, 1, 1, 1), [60, 60])
    section = create_attention_section(tally, 0.02)
    assert section.findings[0].startswith("2 of 6 heads put more than half")
    assert "within 200 ms" in section.findings[0]
    assert "n = 2 utterances" in section.findings[0]
    assert section.numbers["num_local_heads"] == 2
    assert len(section.figures) == 4
    assert "diagonality" in render(section)


def test_one_utterance_has_no_interval() -> None:
    tally = AttentionTally()
    tally.add(0, torch.eye(60, dtype=torch.float64)[None, None], [60])
    section = create_attention_section(tally, 0.02)
    assert section.numbers["num_local_heads"] == 0
    assert "no interval" in section.warnings[0]
    render(section)


def test_short_utterances_say_why() -> None:
    assert "no utterance has 21 frames" in str(
        create_attention_section(AttentionTally(), 0.02).missing
    )


def test_a_probe_that_reads_nothing_is_not_said_to_read() -> None:
    rng = np.random.default_rng(1)
    languages = np.tile(["hin_Deva", "kan_Knda"], 20)
    speakers = np.array([f"s{row // 2}-{row % 2}" for row in range(40)])
    found = run_layer_probes([rng.normal(size=(40, 4))], languages, speakers, 0, QUICK)
    section = create_layer_section([0], {"language": found}, {})
    assert section.findings[0].startswith("That a probe can read the language from any layer is")


def test_attention_of_long_utterances_is_said_to_be_missing() -> None:
    tally = AttentionTally()
    assert "3 utterances are longer than 40 s" in str(
        create_attention_section(tally, 0.02, num_too_long=3).missing
    )
    tally.add(0, torch.eye(60, dtype=torch.float64)[None, None].repeat(2, 1, 1, 1), [60, 60])
    section = create_attention_section(tally, 0.02, num_too_long=3)
    assert any("3 utterances are longer than 40 s" in text for text in section.limits)
    assert section.numbers["layers"] == [1]


def test_layers_that_diverged_are_named() -> None:
    rng = np.random.default_rng(0)
    languages = np.repeat(["hin_Deva", "kan_Knda"], 8)
    features = rng.normal(size=(16, 3)) + 9 * (languages == "hin_Deva")[:, None]
    speakers = np.arange(16).astype(str)
    found = run_layer_probes([features, features * np.nan], languages, speakers, 0, QUICK)
    section = create_layer_section([0, 1], {"language": found}, {})
    assert section.warnings == ["Layers 1 hold what is no number: did the model diverge?"]
    render(section)
    tally = AttentionTally()
    whole = torch.eye(60, dtype=torch.float64)[None, None].repeat(2, 1, 1, 1)
    tally.add(0, whole, [60, 60])
    tally.add(1, whole * float("nan"), [60, 60])
    section = create_attention_section(tally, 0.02)
    assert section.warnings == ["Layers 2 hold what is no number: did the model diverge?"]
    assert section.numbers["num_local_heads"] == section.numbers["num_heads"] == 1
    render(section)


def test_uniform_heads_of_short_utterances_are_not_local() -> None:
    """Within ten frames to each side lies most of a second of 25 frames, wherever one looks."""
    tally = AttentionTally()
    tally.add(0, torch.full((2, 1, 25, 25), 1 / 25, dtype=torch.float64), [25, 25])
    assert tally.get_means(0).local[0, -1] > 0.6
    assert create_attention_section(tally, 0.02).numbers["num_local_heads"] == 0


def test_layers_say_which_codes_they_have() -> None:
    section = Section(title="Layers")
    add_bottlenecks(section, [])
    assert not section.tables
    one = BottleneckConfig(
        layer=2, site=Site.heads, num_codebooks=4, codebook_size=256, num_active=8
    )
    add_bottlenecks(section, [one])
    assert section.tables[0].rows == [[3, "heads", 4, 256, 8]]
    assert section.numbers["bottlenecks"][0]["codebook_size"] == 256
    assert "Bottlenecks of codes" in render(section)
