"""Beam search in evaluations: its decoders, its n-best lists and how good they could have been.

`speechvq.deploy.evaluation` searches with these; `evaluation_files` writes `n_best.jsonl`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from speechvq.decoding.alignment import Unit, count_edits
from speechvq.decoding.config import BeamSettings, EvaluateConfig
from speechvq.decoding.hypotheses import (
    Hypothesis,
    choose_oracle,
    compute_posteriors,
    compute_word_confidences,
)
from speechvq.decoding.scoring import compute_error_rate
from speechvq.deploy.decoding_weights import read_tuned_settings
from speechvq.deploy.recognizer import Recognizer
from speechvq.deploy.text_decoder import (
    create_text_decoder,
    load_language_models,
    override_settings,
)
from speechvq.errors import ConfigError

N_BEST_FILE = "n_best.jsonl"
NBest = dict[str, list[Hypothesis]]
"""By utterance, best first."""


def add_decoders(
    recognizer: Recognizer, config: EvaluateConfig, languages: Sequence[str]
) -> dict[str, Any]:
    """Gives a recogniser the beam searches that an evaluation asks for.

    Args:
        recognizer: Gets a decoder for each language, unless decoding is greedy.
        config: Which search, language models and weights.
        languages: What will be scored.

    Returns:
        By language, what a score should say about the search; empty for greedy decoding.

    Raises:
        ConfigError: A language model is of none of these languages.
        ModelError: A language model does not fit.
    """
    kind = config.get_decoder()
    if kind == "greedy":
        return {}
    models = load_language_models(config.lm)
    for language, model in models.items():
        if language not in languages:
            raise ConfigError(
                [
                    f"`lm` must be of a language that is scored ({', '.join(languages)}), but "
                    f"{model.directory} is of {language}."
                ]
            )
    conditions = {}
    for language in languages:
        lm = models.get(language)
        tuned = lm and read_tuned_settings(Path(config.model), language, lm.digest)
        settings = override_settings(
            tuned or BeamSettings(),
            lm_weight=config.lm_weight,
            word_score=config.word_score,
            beam_size=config.beam_size,
            num_best=config.num_best,
        )
        decoder = create_text_decoder(
            recognizer.model.vocabularies[language],
            language,
            kind=kind,
            lm=lm,
            settings=settings,
        )
        recognizer.decoders[language] = decoder
        is_tuned = tuned is not None and config.lm_weight is None and config.word_score is None
        conditions[language] = decoder.describe() | {
            "tuned": is_tuned,
            "lexicon_size": len(lm.spellings) if lm and lm.unit == "word" else None,
            "remarks": decoder.remarks,
        }
    return conditions


def normalize_n_best(
    n_best: NBest, languages: Mapping[str, str], normalize: Callable[[str, str], str]
) -> NBest:
    """Returns the lists with normalised texts.

    Args:
        n_best: By utterance.
        languages: By utterance.
        normalize: Takes a text and its language.
    """
    return {
        name: [
            Hypothesis(
                text=normalize(one.text, languages[name]),
                score=one.score,
                language_score=one.language_score,
            )
            for one in found
        ]
        for name, found in n_best.items()
    }


def compute_oracle(
    references: Mapping[str, str], n_best: NBest, speakers: Mapping[str, str] | None = None
) -> dict[str, Any] | None:
    """Returns the error rates of always choosing the best of the n-best; None without lists.

    Args:
        references: By utterance, normalised.
        n_best: By utterance, normalised.
        speakers: By utterance; None where nobody is named.
    """
    names = [name for name in references if name in n_best]
    if not names:
        return None
    oracle: dict[str, Any] = {"num_best": max(len(n_best[name]) for name in names)}
    for key, unit in (("wer", Unit.WORD), ("cer", Unit.CHARACTER)):
        texts = []
        for name in names:
            candidates = [one.text for one in n_best[name]]
            texts.append(candidates[choose_oracle(references[name], candidates, unit)])
        counts = count_edits([references[name] for name in names], texts, unit)
        rate = compute_error_rate(counts, [speakers[name] for name in names] if speakers else None)
        oracle[key] = rate.rate
        oracle[f"{key}_interval"] = None if rate.low is None else [rate.low, rate.high]
    return oracle


def format_n_best(names: Iterable[str], n_best: NBest) -> str:
    """Returns `n_best.jsonl`: an object an utterance, in the order of the names.

    `posterior` is an alternative's share in the probability of those listed; `word_confidences`
    belong to the words of the first.
    """
    lines = []
    for name in names:
        found = n_best[name]
        posteriors = compute_posteriors(found)
        entry = {
            "id": name,
            "word_confidences": [round(value, 4) for value in compute_word_confidences(found)],
            "hypotheses": [
                {
                    "text": one.text,
                    "score": round(one.score, 4),
                    "language_score": round(one.language_score, 4),
                    "posterior": round(float(posterior), 6),
                }
                for one, posterior in zip(found, posteriors, strict=True)
            ],
        }
        lines.append(json.dumps(entry, ensure_ascii=False))
    return "".join(f"{line}\n" for line in lines)


def list_decoding_warnings(
    conditions: Mapping[str, Mapping[str, Any]], *, split: str, normalizer: str
) -> list[str]:
    """Returns sentences about what makes scores with a language model less than they seem."""
    warnings = []
    for language, found in conditions.items():
        warnings += [f"{language}: {remark}" for remark in found["remarks"]]
        if found["lm"] is None:
            continue
        if not found["tuned"]:
            warnings.append(
                f"{language}: the language model's weights ({found['lm_weight']}, "
                f"{found['word_score']}) were not tuned by `speechvq tune_lm`."
            )
        elif split == "dev":
            warnings.append(
                f"{language}: the language model's weights were tuned on dev, so that this score "
                "flatters; report another split."
            )
        if found["lm_normalizer"] != normalizer:
            warnings.append(
                f"{language}: the language model's text went through the normaliser "
                f"{found['lm_normalizer']}, the score uses {normalizer}."
            )
    return warnings
