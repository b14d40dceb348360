"""The section "Codes and phones" of an analysis: scores, pictures and tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from speechvq.analysis.articulation import Articulation, load_articulation
from speechvq.analysis.code_phones import (
    MAKER_NAMES,
    CodePhoneScores,
    NeighbourScore,
    compare_distances,
    compute_code_given_phone,
    compute_mean_features,
    compute_phone_given_code,
    score_codes,
    score_features,
)
from speechvq.analysis.code_table import MODEL, CodeTable
from speechvq.analysis.config import AnalyzeConfig
from speechvq.analysis.phone_counts import PhoneCounts, count_phones, has_more_combinations
from speechvq.analysis.section import Figure, Section, Table
from speechvq.analysis.time_shift import add_shift
from speechvq.errors import MissingDependencyError
from speechvq.nn.quantizer import Quantizer
from speechvq.reporting.cells import Cell, Value
from speechvq.reporting.charts import draw_heat_map

TITLE = "Codes and phones"
_MUCH_CHANCE = 0.2
MAX_COMBINATIONS = 200_000
"""Of codes; more are not scored together, which takes phones × combinations numbers."""
_MAX_CODES = 160
_MAX_ROWS = 60
_FEATURE_SHOWN = 0.75


def create_phone_section(
    config: AnalyzeConfig,
    table: CodeTable,
    quantizer: Quantizer | None,
    *,
    frame_seconds: float,
    languages: Sequence[str],
) -> Section:
    """Compares codes with phones.

    Args:
        config: Smallest numbers of frames, seed.
        table: The code table.
        quantizer: The model's, None where it has none.
        frame_seconds: From one frame to the next.
        languages: Languages of the table.

    Returns:
        The section; it says why where there are no phones or no codes.
    """
    scores = list(score_table(table, languages, config.seed))
    if not scores:
        return Section(
            title=TITLE,
            missing="no frame has a phone. Give files with `alignments=`, or a recogniser of these "
            "languages with `recognizer=`, whose alignments need transcripts.",
        )
    if scores[0].num_phones < 2:
        return Section(title=TITLE, missing="there is one phone only, so nothing to be told apart.")
    score_tables = [_create_score_table(scores)]
    numbers: dict[str, Any] = {"scores": [score.to_json() for score in scores]}
    limits = [
        "PNMI and purities compare codes with these alignments; where the alignments are wrong, so "
        "are they. Chance removes all order of frames, so that even codes without meaning that "
        "stay the same for some frames can lie a little above it: the controls are the fairer "
        "measure."
    ]
    if quantizer is None:
        return Section(
            title=TITLE,
            missing="the model is a recogniser, which has no quantiser and so no codes of its own; "
            "give the pretrained model. The controls' scores are below.",
            tables=score_tables,
            limits=limits,
            numbers=numbers,
        )
    columns = table.list_columns()
    parts = [_Group(column, config, table) for column in columns]
    section = Section(
        title=TITLE,
        findings=[_describe(scores)],
        warnings=_warn_sparse(scores),
        tables=score_tables,
        limits=limits,
        numbers=numbers,
    )
    errors = [one.pnmi_error for one in scores if one.name.startswith(f"{MAKER_NAMES[MODEL]}, c")]
    add_shift(section, table, frame_seconds, max(errors))
    for group in parts:
        section.figures.append(group.draw())
    articulation = _find_articulation(section, parts[0].counts.phones)
    for place, group in enumerate(parts):
        group.add_articulation(section, articulation)
        group.add_neighbours(section, decode_codebook(quantizer, place), articulation)
        section.tables.append(group.create_code_table(articulation))
        section.tables.append(group.create_phone_table())
    return section


def score_table(table: CodeTable, languages: Sequence[str], seed: int) -> list[CodePhoneScores]:
    """Scores the codes of the model and the controls, each codebook and all together.

    Args:
        table: The code table.
        languages: Its languages; with several, the model's codes are scored in each of them too.
        seed: Of chance and intervals.

    Returns:
        Scores named such as "model, all codebooks"; none where no frame has a phone. Where there
        are too many combinations of codes, codebooks are scored one by one only.
    """
    scores = []
    for maker in table.groups:
        columns = table.list_columns(maker)
        sets = [(f"{MAKER_NAMES[maker]}, codebook {g}", [one]) for g, one in enumerate(columns)]
        if len(columns) > 1 and not has_more_combinations(table, columns, MAX_COMBINATIONS):
            sets.insert(0, (f"{MAKER_NAMES[maker]}, all codebooks", columns))
        for number, (name, chosen) in enumerate(sets):
            counts = count_phones(table, chosen)
            if counts is None:
                return []
            scores.append(score_codes(name, counts, seed=seed))
            speech = counts.without_silence()
            if number == 0 and 1 < len(speech.phones) < len(counts.phones):
                scores.append(score_codes(f"{name}, without silence", speech, seed=seed))
        if maker == MODEL and len(languages) > 1:
            for language in languages:
                found = count_phones(table, sets[0][1], languages=[language])
                if found is not None:
                    scores.append(score_codes(f"{sets[0][0]}, {language}", found, seed=seed))
    return scores


@torch.inference_mode()
def decode_codebook(quantizer: Quantizer, group: int) -> NDArray[np.float64]:
    """Returns (V, C / G): the entries of one codebook in its own space.

    Args:
        quantizer: In evaluation mode.
        group: Number of the codebook, from 0.
    """
    device = next((t.device for t in quantizer.state_dict().values()), torch.device("cpu"))
    size = quantizer.codebook_size
    codes = torch.arange(size, dtype=torch.long, device=device)[None, :, None]
    vectors = quantizer.decode(codes.expand(1, size, quantizer.num_codebooks))[0]  # (V, C)
    width = vectors.size(1) // quantizer.num_codebooks
    part = vectors[:, group * width : (group + 1) * width]
    return np.asarray(part.double().cpu().numpy(), dtype=np.float64)


class _Group:
    """One codebook of the model: its pictures and tables."""

    def __init__(self, column: str, config: AnalyzeConfig, table: CodeTable) -> None:
        self.number = int(column.rpartition("_")[2])
        self._config = config
        counts = count_phones(table, [column])
        assert counts is not None
        self.counts: PhoneCounts = counts
        self._frames = counts.counts.sum(0)  # (V,)
        self._common = np.flatnonzero(self._frames >= max(1, config.min_frames))

    def draw(self) -> Figure:
        """P(phone | code), codes ordered by their likeliest phone (wav2vec 2.0, appendix D)."""
        shares = compute_phone_given_code(self.counts.counts)
        chosen = self._common[np.argsort(-self._frames[self._common], kind="stable")][:_MAX_CODES]
        best = shares[:, chosen].argmax(0)
        order = chosen[np.lexsort((-shares[best, chosen], best))]
        phones = self.counts.phones[:_MAX_ROWS]
        picture = draw_heat_map(
            shares[: len(phones), order],
            row_labels=phones,
            x_label=f"{len(order)} codes of codebook {self.number}, by likeliest phone",
            y_label="phone, the most frequent first",
            color_label="P(phone | code)",
            value_range=(0.0, 1.0),
            annotate=False,
            size=(8.0, min(1.4 + 0.17 * len(phones), 10.0)),
        )
        rare = len(self.counts.codes) - len(self._common)
        caption = (
            f"Codebook {self.number}: how likely each phone is where a code stands. "
            f"{len(order)} of {len(self.counts.codes)} codes that occur are shown; {rare} have "
            f"fewer than {self._config.min_frames} frames."
        )
        return Figure(picture=picture, caption=caption)

    def add_articulation(self, section: Section, articulation: Articulation | None) -> None:
        """How much of each articulatory feature the codes know."""
        if articulation is None:
            return
        found = score_features(
            self.counts, articulation.names, articulation.features, seed=self._config.seed
        )
        key = f"features_{self.number}"
        section.numbers[key] = [asdict(score) for score in found]
        if found:
            section.tables.append(
                Table(
                    columns=["feature", "share of variance known (η²)", "chance", "frames"],
                    rows=[[one.name, one.share, one.chance, one.num_frames] for one in found],
                    caption=f"Codebook {self.number}: articulatory features (panphon)",
                )
            )

    def add_neighbours(
        self,
        section: Section,
        vectors: NDArray[np.float64],
        articulation: Articulation | None,
    ) -> None:
        """Whether codes that lie together sound alike."""
        used = self.counts.codes[self._common, 0]
        shares = compute_phone_given_code(self.counts.counts)[:, self._common]
        spaces = {"phones": np.sqrt(shares.T)}
        keep = {"phones": np.arange(len(used))}
        if articulation is not None and articulation.features:
            means, totals = compute_mean_features(self.counts, articulation.features)
            known = np.flatnonzero(totals[self._common] >= max(1, self._config.min_frames))
            spaces["articulation"] = means[self._common[known]]
            keep["articulation"] = known
        scores: list[NeighbourScore] = []
        for measure, sounds in spaces.items():
            chosen = vectors[used[keep[measure]]]
            name = f"codebook {self.number}"
            one = compare_distances(name, measure, chosen, sounds, seed=self._config.seed)
            scores += [] if one is None else [one]
        section.numbers[f"neighbours_{self.number}"] = [asdict(score) for score in scores]
        for score in scores:
            verdict = "do" if score.rho > 0 and score.p_value < 0.05 else "are not shown to"
            section.findings.append(
                f"Codebook {self.number}: codes that lie together {verdict} stand for like "
                f"{score.measure}: Spearman's ρ of the distances is {score.rho:.3f} (shuffled "
                f"codes reach {score.null_high:.3f}; p = {score.p_value:.3f}; {score.num_codes} "
                f"codes with at least {self._config.min_frames} frames)."
            )

    def create_code_table(self, articulation: Articulation | None) -> Table:
        """The most frequent codes, with their phones and articulation."""
        shares = compute_phone_given_code(self.counts.counts)
        means = totals = None
        if articulation is not None and articulation.features:
            means, totals = compute_mean_features(self.counts, articulation.features)
        rows: list[list[Cell | Value]] = []
        for place in np.argsort(-self._frames, kind="stable")[:_MAX_ROWS].tolist():
            best = np.argsort(-shares[:, place], kind="stable")[:3]
            named = ", ".join(
                f"{self.counts.phones[p]} {shares[p, place]:.2f}" for p in best if shares[p, place]
            )
            sound = ""
            if articulation is not None and means is not None and totals is not None:
                sound = _describe_features(articulation.names, means[place], int(totals[place]))
            code = int(self.counts.codes[place, 0])
            rows.append([code, int(self._frames[place]), named, sound])
        return Table(
            columns=["code", "frames", "P(phone | code)", "articulation"],
            rows=rows,
            caption=f"Codebook {self.number}: the {len(rows)} most frequent codes",
        )

    def create_phone_table(self) -> Table:
        """All phones with their likeliest codes."""
        shares = compute_code_given_phone(self.counts.counts)
        rows: list[list[Cell | Value]] = []
        for place, phone in enumerate(self.counts.phones):
            frames = int(self.counts.counts[place].sum())
            best = np.argsort(-shares[place], kind="stable")[:3]
            named = ", ".join(
                f"{int(self.counts.codes[code, 0])} {shares[place, code]:.2f}"
                for code in best
                if shares[place, code]
            )
            note = "few frames" if frames < self._config.min_frames else ""
            rows.append([phone, frames, named, note])
        return Table(
            columns=["phone", "frames", "P(code | phone)", "note"],
            rows=rows,
            caption=f"Codebook {self.number}: phones and their likeliest codes",
        )


def _describe_features(names: Sequence[str], means: NDArray[np.float64], frames: int) -> str:
    if not frames:
        return ""
    shown = [
        f"{'+' if mean > 0 else '−'}{name}"
        for name, mean in zip(names, means.tolist(), strict=True)
        if abs(mean) >= _FEATURE_SHOWN
    ]
    return " ".join(shown)


def _create_score_table(scores: Sequence[CodePhoneScores]) -> Table:
    columns = ["codes", "frames", "phones", "codes used", "perplexity", "PNMI", "95 %", "chance"]
    columns += ["above chance", "phone purity", "one code", "cluster purity", "drawn"]
    rows: list[list[Cell | Value]] = [
        [
            *(score.name, score.num_frames, score.num_phones, score.num_codes, score.perplexity),
            *(score.pnmi, _show_interval(score), score.pnmi_chance),
            *(score.pnmi_adjusted, score.phone_purity, score.phone_purity_chance),
            *(score.cluster_purity, f"{score.num_units} {score.unit}s"),
        ]
        for score in scores
    ]
    caption = (
        "What codes tell about phones. Compare codebooks of unlike size or perplexity by the "
        "column “above chance”, (PNMI − chance) / (1 − chance)."
    )
    return Table(columns=columns, rows=rows, caption=caption)


def _show_interval(score: CodePhoneScores) -> str:
    known = math.isfinite(score.pnmi_error)
    return f"{score.pnmi_low:.3f}–{score.pnmi_high:.3f}" if known else ""


def _describe(scores: Sequence[CodePhoneScores]) -> str:
    """The best codebook against the best of each control, all of one size."""
    best = {name: _find_best(scores, title) for name, title in MAKER_NAMES.items()}
    own = best[MODEL]
    assert own is not None
    rivals = [
        f"{MAKER_NAMES[name]} of the same size {100 * one.pnmi_adjusted:.1f} %"
        for name in ("kmeans", "random")
        if (one := best.get(name)) is not None
    ]
    verdict = ""
    if (rival := best.get("kmeans")) is not None:
        difference = own.pnmi_adjusted - rival.pnmi_adjusted
        errors = [one.pnmi_error / (1 - one.pnmi_chance) for one in (own, rival)]
        verdict = " That it tells more or less than k-means is not shown."
        if abs(difference) > 1.96 * math.hypot(*errors):
            verdict = f" It tells {'more' if difference > 0 else 'less'} than k-means does."
    interval = "no interval"
    if math.isfinite(own.pnmi_error):
        interval = f"95 % {100 * own.pnmi_low:.1f}–{100 * own.pnmi_high:.1f}"
    return (
        f"The model's best codebook takes away {100 * own.pnmi:.1f} % of the uncertainty about the "
        f"phone (PNMI; {interval} over {own.num_units} {own.unit}s; chance "
        f"{100 * own.pnmi_chance:.1f} %; n = "
        f"{own.num_frames:,} frames, {own.num_phones} phones, code perplexity "
        f"{own.perplexity:.0f}); above chance that is {100 * own.pnmi_adjusted:.1f} %"
        f"{''.join(f', {rival}' for rival in rivals)}.{verdict}"
    )


def _find_best(scores: Sequence[CodePhoneScores], title: str) -> CodePhoneScores | None:
    single = [one for one in scores if one.name.startswith(f"{title}, codebook")]
    return max(single, key=lambda one: one.pnmi_adjusted, default=None)


def _warn_sparse(scores: Sequence[CodePhoneScores]) -> list[str]:
    sparse = [one for one in scores if one.pnmi_chance > _MUCH_CHANCE]
    if not sparse:
        return []
    return [
        f"{len(sparse)} rows of the first table have a chance above {100 * _MUCH_CHANCE:.0f} %: "
        "there are too few frames for so many codes or combinations. Read the column “above "
        "chance” there, or analyse more audio."
    ]


def _find_articulation(section: Section, phones: Sequence[str]) -> Articulation | None:
    try:
        articulation = load_articulation(phones)
    except MissingDependencyError as error:
        section.warnings.append(f"Articulation is left out: {error}")
        return None
    if articulation.unknown:
        section.warnings.append(
            f"{len(articulation.unknown)} labels are no IPA that panphon knows and are left out of "
            f"articulation: {', '.join(articulation.unknown[:20])}. `phone_map=` renames them."
        )
    return articulation
