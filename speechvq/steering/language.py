"""Forces a language's codes in all frames: which alphabet does a recogniser of several then write?

This needs a head whose labels cover several alphabets. A head that has one language's letters can
write no others, whatever codes are forced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from speechvq.analysis.concept_files import ConceptRow
from speechvq.analysis.intervals import Estimate
from speechvq.nn.code_edits import Edit, EditMode
from speechvq.steering.dev_statistics import DevStatistics, draw_matched
from speechvq.steering.estimates import estimate_ratios
from speechvq.steering.material import AlignedUtterance, UtterancePass
from speechvq.steering.measures import collapse, count_label_edits
from speechvq.steering.necessity import AblationKind as CodeKind
from speechvq.steering.recall import IntArray, count_own, find_letters, find_own_labels
from speechvq.steering.targets import Target


@dataclass(frozen=True, kw_only=True)
class ForcedLanguage:
    """One utterance with a language's codes in all frames.

    Attributes:
        target: Whose codes, or codes as frequent.
        source: What is spoken.
        utterance: Id.
        kind: Which codes.
        mode: How they are forced.
        own_before: Labels of the target's own alphabet, written without an edit.
        own_after: The same with it.
        total_before: All letters written.
        total_after: The same with the edit.
        errors_before: Edit distance to the reference, in labels.
        errors_after: The same with the edit.
        num_reference: Labels of the reference.
    """

    target: str
    source: str
    utterance: str
    kind: CodeKind
    mode: EditMode
    own_before: int
    own_after: int
    total_before: int
    total_after: int
    errors_before: int
    errors_after: int
    num_reference: int


@dataclass(frozen=True, kw_only=True)
class LanguageSummary:
    """Shares over utterances, with intervals of a bootstrap over them.

    Attributes:
        target: Language whose codes were forced.
        source: Language that was spoken.
        kind: Which codes.
        mode: How.
        num_utterances: How many.
        share_before: Of letters in the target's own alphabet.
        share_after: The same with the edit; NaN where nothing is written any more.
        cer_before: Label errors over the reference.
        cer_after: The same with the edit.
    """

    target: str
    source: str
    kind: CodeKind
    mode: EditMode
    num_utterances: int
    share_before: Estimate
    share_after: Estimate
    cer_before: Estimate
    cer_after: Estimate


def find_alphabets(
    label_texts: Sequence[str], alphabets: Mapping[str, frozenset[str]], source: str
) -> dict[str, frozenset[int]]:
    """By language, the labels of a head that write it and never the language that is spoken.

    Args:
        label_texts: N labels.
        alphabets: Characters of each language.
        source: The language that is spoken; it must be among these.

    Returns:
        Languages without such labels are left out.
    """
    spoken = alphabets.get(source, frozenset())
    found = {
        language: find_own_labels(label_texts, letters, spoken)
        for language, letters in alphabets.items()
        if language != source
    }
    return {language: own for language, own in found.items() if own}


def explain_missing(heads: Mapping[str, Sequence[str]], languages: Sequence[str]) -> str:
    """Why no language can be forced.

    Args:
        heads: Labels of each head.
        languages: Whose codes are known.
    """
    if not languages:
        return (
            "`concepts` has no codes of languages: they need a corpus of several, see `speechvq "
            "concepts`."
        )
    names = ", ".join(heads)
    return (
        f"No head of the model ({names}) has labels of one language's alphabet beside those of "
        "another: a head for each language can write no other letters, whatever is forced. "
        "Languages can be forced in a recogniser with joint labels, by `head=NAME`."
    )


def force_language(
    utterance: UtterancePass,
    aligned: AlignedUtterance,
    targets: Sequence[tuple[Target, frozenset[int]]],
    *,
    modes: Sequence[EditMode],
    num_places: int,
    statistics: DevStatistics,
    generator: torch.Generator,
    advance: Callable[[int], None],
) -> list[ForcedLanguage]:
    """Forces languages in one utterance.

    Args:
        utterance: In the model.
        aligned: Its labels.
        targets: Languages, and the labels that are theirs alone.
        modes: How codes are forced.
        num_places: In how many codebooks, the best.
        statistics: Of dev.
        generator: Draws the control's codes, on the CPU.
        advance: Called after each batch with its rows.
    """
    letters = find_letters(aligned.label_texts)
    before = collapse(aligned.best_path.clone())
    span = (0, utterance.num_frames)
    made = []
    for target, own in targets:
        rows = target.rows[:num_places]
        jobs = [(kind, mode) for kind in CodeKind for mode in modes]
        codes: dict[CodeKind, list[tuple[ConceptRow, int]]] = {
            CodeKind.codes: [(row, row.code) for row in rows],
            CodeKind.random: [],
        }
        for row in rows:
            counts = statistics.code_counts[row.place][row.head]
            drawn = draw_matched(counts, row.code, row.codes, generator)
            if drawn is not None:
                codes[CodeKind.random].append((row, drawn))
        jobs = [(kind, mode) for kind, mode in jobs if codes[kind]]
        edits = [
            Edit(
                layer=row.layer,
                site=row.site,
                head=row.head,
                span=span,
                code=code,
                mode=mode,
                row=number,
            )
            for number, (kind, mode) in enumerate(jobs)
            for row, code in codes[kind]
        ]
        paths = utterance.run(len(jobs), edits).argmax(-1)
        for (kind, mode), path in zip(jobs, paths, strict=True):
            made.append(_measure(aligned, target.name, kind, mode, before, path, own, letters))
        advance(len(jobs))
    return made


def _measure(
    aligned: AlignedUtterance,
    target: str,
    kind: CodeKind,
    mode: EditMode,
    before: list[int],
    path: torch.Tensor,
    own: frozenset[int],
    letters: IntArray,
) -> ForcedLanguage:
    after = collapse(path)
    (own_before, total_before), (own_after, total_after) = (
        count_own(labels, own, letters) for labels in (before, after)
    )
    return ForcedLanguage(
        target=target,
        source=aligned.utterance.language,
        utterance=aligned.utterance.id,
        kind=kind,
        mode=mode,
        own_before=own_before,
        own_after=own_after,
        total_before=total_before,
        total_after=total_after,
        errors_before=count_label_edits(aligned.labels, before),
        errors_after=count_label_edits(aligned.labels, after),
        num_reference=len(aligned.labels),
    )


def summarize_languages(made: Sequence[ForcedLanguage], *, seed: int) -> list[LanguageSummary]:
    """Sums up by language, kind of codes and mode."""
    groups: dict[tuple[str, str, CodeKind, EditMode], list[ForcedLanguage]] = {}
    for one in made:
        groups.setdefault((one.target, one.source, one.kind, one.mode), []).append(one)
    summaries = []
    for (target, source, kind, mode), group in sorted(groups.items()):
        names = [one.utterance for one in group]
        estimates = [
            estimate_ratios([(above,) for above in tops], bottoms, names, seed=seed)[0]
            for tops, bottoms in (
                ([one.own_before for one in group], [one.total_before for one in group]),
                ([one.own_after for one in group], [one.total_after for one in group]),
                ([one.errors_before for one in group], [one.num_reference for one in group]),
                ([one.errors_after for one in group], [one.num_reference for one in group]),
            )
        ]
        summaries.append(
            LanguageSummary(
                target=target,
                source=source,
                kind=kind,
                mode=mode,
                num_utterances=len(set(names)),
                share_before=estimates[0],
                share_after=estimates[1],
                cer_before=estimates[2],
                cer_after=estimates[3],
            )
        )
    return summaries
