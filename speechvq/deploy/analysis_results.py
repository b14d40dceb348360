"""What one analysis found, read from its directory and laid out as measurements.

Reads `analysis.json` (`speechvq.analysis.report`) without torch. Sections that were not made have
no measurements.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechvq.analysis.code_phones import MAKER_NAMES
from speechvq.analysis.code_table import CODES_FILE, MODEL, CodeTable, open_code_table
from speechvq.analysis.intervals import Estimate
from speechvq.analysis.report import ANALYSIS_FILE, KIND
from speechvq.errors import DataError

CODES, SHARING, LAYERS, ATTENTION = "Codes and phones", "Sharing", "Layers", "Attention"
BEST = "best codebook"
_Z = 1.96
Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One number, or word, of one model.

    Attributes:
        section: `CODES`, `SHARING`, `LAYERS` or `ATTENTION`.
        item: Of what: "best codebook", "hin_Deva–kan_Knda, codebook 1", "phone probe".
        measure: What is measured: "PNMI", "index".
        estimate: The number with its 95 % interval, NaN where it has none.
        text: A word instead of a number; "" where there is a number.
        is_compared: Whether a difference between two models says something.
    """

    section: str
    item: str
    measure: str
    estimate: Estimate
    text: str = ""
    is_compared: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """What is the same for all models."""
        return self.section, self.item, self.measure


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """An analysis as its directory tells it.

    Attributes:
        path: The directory.
        name: What it is called beside others.
        document: `analysis.json`.
    """

    path: Path
    name: str
    document: Json

    @property
    def config(self) -> Json:
        """What was analysed, and how."""
        config: Json = self.document["config"]
        return config

    def get_section(self, key: str) -> Json:
        """Numbers of a section; empty where it is lacking."""
        section = self.document["sections"].get(key)
        return section if isinstance(section, dict) else {}

    def describe_missing(self, key: str) -> str | None:
        """Why a section was not made; None where it was."""
        section = self.get_section(key)
        if not section:
            return "this analysis does not have it"
        missing = section.get("missing")
        return None if missing is None else str(missing)

    def list_scores(self, maker: str = MODEL) -> list[Json]:
        """Scores of each codebook of one maker of codes, one by one."""
        pattern = re.compile(re.escape(MAKER_NAMES[maker]) + r", codebook \d+")
        scores = self.get_section("phones").get("scores") or []
        return [one for one in scores if pattern.fullmatch(str(one.get("name")))]

    def find_score(self, name: str) -> Json | None:
        """The score of a name."""
        scores = self.get_section("phones").get("scores") or []
        return next((one for one in scores if one.get("name") == name), None)

    def find_best(self, maker: str = MODEL) -> Json | None:
        """The codebook that tells most about phones above chance."""
        return max(self.list_scores(maker), key=get_adjusted, default=None)

    def find_column(self) -> str | None:
        """Column of the code table of the best codebook."""
        best = self.find_best()
        return None if best is None else f"{MODEL}_{str(best['name']).rpartition(' ')[2]}"

    def open_table(self) -> CodeTable:
        """Opens the code table.

        Raises:
            DataError: It cannot be read.
        """
        return open_code_table(self.path / CODES_FILE)

    def read_quantizer(self) -> tuple[str, int, int] | None:
        """Kind, number and size of the codebooks, from the model's directory; None where that is
        gone.
        """
        try:
            text = (Path(str(self.config.get("model"))) / "config.json").read_text(encoding="utf-8")
            found = json.loads(text)["model"]["quantizer"]
            return str(found["kind"]), int(found["num_codebooks"]), int(found["codebook_size"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def read_analysis(path: Path, name: str) -> Analysis:
    """Reads an analysis.

    Args:
        path: Its directory.
        name: What it is called beside others.

    Raises:
        DataError: `analysis.json` is damaged.
    """
    file = path / ANALYSIS_FILE
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}.") from None
    if (
        not isinstance(document, dict)
        or document.get("kind") != KIND
        or not isinstance(document.get("config"), dict)
        or not isinstance(document.get("sections"), dict)
    ):
        raise DataError(f"{file} is no analysis. Run `speechvq analyze` again.")
    return Analysis(path=path, name=name, document=document)


def is_analysis(path: Path) -> bool:
    """Tells whether a directory holds an analysis."""
    return (path / ANALYSIS_FILE).is_file()


def measure_analysis(analysis: Analysis) -> list[Measurement]:
    """Lays out all that can be compared.

    Raises:
        DataError: A section lacks what this version writes.
    """
    try:
        return [
            *_measure_codes(analysis),
            *_measure_sharing(analysis.get_section("sharing")),
            *_measure_layers(analysis.get_section("layers")),
            *_measure_attention(analysis.get_section("attention")),
        ]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(
            f"{analysis.path / ANALYSIS_FILE} lacks numbers that this version compares "
            f"({type(error).__name__}: {error}). Run `speechvq analyze` again."
        ) from None


def get_skill(probe: Mapping[str, Any]) -> Estimate:
    """Accuracy of a probe on a scale from chance (0) to always right (1)."""
    classes = len(probe["classes"])
    if classes < 2:
        return Estimate()
    accuracy = _read_estimate(probe["accuracy"])
    low, value, high = (
        (one - 1 / classes) / (1 - 1 / classes)
        for one in (accuracy.low, accuracy.value, accuracy.high)
    )
    return Estimate(value=value, low=low, high=high)


def get_adjusted(score: Mapping[str, Any]) -> float:
    """PNMI above chance, to find the best by; −∞ where it is not known."""
    value = _get(score, "pnmi_adjusted")
    return value if math.isfinite(value) else -math.inf


def get_local_shares(attention: Mapping[str, Any]) -> list[float]:
    """Mean share of weight within the widest window, layer by layer."""
    return [_average([head[-1] for head in layer["local"]]) for layer in attention["means"]]


def _measure_codes(analysis: Analysis) -> Iterator[Measurement]:
    quantizer = analysis.read_quantizer()
    if quantizer is not None:
        kind, number, size = quantizer
        yield _word(CODES, "quantiser", "kind and size", f"{kind} {number} × {size}")
    sets = {
        BEST: analysis.find_best(),
        "all codebooks": analysis.find_score(f"{MAKER_NAMES[MODEL]}, all codebooks"),
        **{MAKER_NAMES[one]: analysis.find_best(one) for one in ("kmeans", "random")},
    }
    for item, score in sets.items():
        if score is None:
            continue
        if item == BEST:
            yield _word(CODES, item, "which", str(score["name"]).rpartition(", ")[2])
            yield _number(CODES, item, "frames with phone", score["num_frames"])
        yield _number(CODES, item, "codes used", score["num_codes"])
        yield _number(CODES, item, "perplexity", score["perplexity"])
        pnmi, chance = _get(score, "pnmi"), _get(score, "pnmi_chance")
        low, high = _get(score, "pnmi_low"), _get(score, "pnmi_high")
        compared = item == BEST
        yield Measurement(
            section=CODES,
            item=item,
            measure="PNMI",
            estimate=Estimate(value=pnmi, low=low, high=high),
            is_compared=compared,
        )
        yield _number(CODES, item, "chance", chance)
        scale = 1 - chance
        yield Measurement(
            section=CODES,
            item=item,
            measure="above chance",
            estimate=Estimate(
                value=_get(score, "pnmi_adjusted"),
                low=(low - chance) / scale if scale else math.nan,
                high=(high - chance) / scale if scale else math.nan,
            ),
            is_compared=compared,
        )
        yield _number(CODES, item, "phone purity", score["phone_purity"], is_compared=compared)
        yield _number(CODES, item, "cluster purity", score["cluster_purity"])


def _measure_sharing(section: Mapping[str, Any]) -> Iterator[Measurement]:
    if not section.get("pairs"):
        return
    yield _word(SHARING, "source", "verdict", str(section["source"]["verdict"]))
    for codebook, pairs in section["pairs"].items():
        for pair in pairs:
            item = f"{'–'.join(pair['languages'])}, {codebook}"
            index = _read_estimate(pair["index"])
            if math.isfinite(index.value):
                yield Measurement(
                    section=SHARING, item=item, measure="index", estimate=index, is_compared=True
                )
            yield _word(SHARING, item, "decision", str(pair["decision"]))
    usage = section.get("usage") or {}
    if usage:
        used = _get(usage, "num_used")
        shared = _get(usage, "num_shared") / used if used else math.nan
        yield _number(SHARING, "codes of two languages or more", "share of used codes", shared)
        yield _number(SHARING, "family tree", "correlation", _get(usage["tree"], "correlation"))


def _measure_layers(section: Mapping[str, Any]) -> Iterator[Measurement]:
    for name, probes in (section.get("probes") or {}).items():
        skills = [get_skill(one) for one in probes]
        known = [place for place, one in enumerate(skills) if math.isfinite(one.value)]
        if not known:
            continue
        best = max(known, key=lambda place: skills[place].value)
        item = f"{name} probe"
        yield _number(LAYERS, item, "best layer", section["layers"][best])
        yield Measurement(
            section=LAYERS, item=item, measure="skill", estimate=skills[best], is_compared=True
        )
        probe = probes[best]
        permuted = {**probe, "accuracy": {"value": probe["null_mean"]}}
        yield _number(LAYERS, item, "skill, permuted", get_skill(permuted).value)
        yield _number(LAYERS, item, "skill of last layer", skills[-1].value)


def _measure_attention(section: Mapping[str, Any]) -> Iterator[Measurement]:
    """Means over heads; their errors are the heads' mean error, as if heads went up and down
    together, which is the most that it can be.
    """
    if not section.get("means"):
        return
    means, errors = section["means"], section["standard_errors"]
    window = section["windows"][-1]
    scale = 1000 * section["frame_seconds"]
    item = "all heads"
    local, heads = section["num_local_heads"], section["num_heads"]
    yield _word(ATTENTION, item, "local heads", f"{local} of {heads}")
    for measure, values, spreads, null in (
        (
            f"mean share within ±{window} frames",
            [head[-1] for layer in means for head in layer["local"]],
            [head[-1] for layer in errors for head in layer["local"]],
            [head[-1] for layer in means for head in layer["shuffled_local"]],
        ),
        (
            "mean distance, ms",
            [scale * head for layer in means for head in layer["distance"]],
            [scale * head for layer in errors for head in layer["distance"]],
            [scale * head for layer in means for head in layer["shuffled_distance"]],
        ),
    ):
        value, reach = _average(values), _Z * _average(spreads)
        yield Measurement(
            section=ATTENTION,
            item=item,
            measure=measure,
            estimate=Estimate(value=value, low=value - reach, high=value + reach),
            is_compared=True,
        )
        yield _number(ATTENTION, item, f"{measure}, shuffled", _average(null))


def _word(section: str, item: str, measure: str, text: str) -> Measurement:
    return Measurement(section=section, item=item, measure=measure, estimate=Estimate(), text=text)


def _number(
    section: str, item: str, measure: str, value: float | None, *, is_compared: bool = False
) -> Measurement:
    estimate = Estimate(value=math.nan if value is None else value)
    return Measurement(
        section=section, item=item, measure=measure, estimate=estimate, is_compared=is_compared
    )


def _read_estimate(values: Mapping[str, Any]) -> Estimate:
    return Estimate(value=_get(values, "value"), low=_get(values, "low"), high=_get(values, "high"))


def _get(values: Mapping[str, Any], key: str) -> float:
    value = values.get(key)
    return math.nan if value is None else float(value)


def _average(values: list[Any]) -> float:
    numbers = [float(one) for one in values if one is not None]
    return sum(numbers) / len(numbers) if numbers else math.nan
