"""Measures what codes mean on real speech; writes `docs/results/27-…`, `28-…` and `29-….json`.

    python docs/measure_analysis.py --corpus CORPUS --model SIMVQ --gumbel GUMBEL --early EARLY \
        --recognizer HINDI --data DATA --work DIRECTORY --machine '…'

CORPUS is what `prepare` makes of the five sources of `../shared/DATA.md`; the models are pretrained
on its speech (`docs/results.md`), HINDI is a recogniser finetuned on an hour of it. Phones of
Mboshi are those that come with the corpus; their lag is measured on dev and taken out on test.
Hindi, Malayalam and Kannada are aligned by one recogniser of the three, which starts from HINDI and
learns from the very utterances that it aligns. Runs are resumable, an analysis that stands is read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from measuring import create_parser, parse_path, run_recipe, write_result

from speechvq.deploy.analysis_comparison import compare_analyses
from speechvq.models.build import create_pretrain_model
from speechvq.models.config import SimVQConfig
from speechvq.models.directory import load_pretrain_model, save_model

COMMAND = (
    "python docs/measure_analysis.py --corpus corpus --model simvq2400/model --gumbel "
    "gumbel2400/model --early gumbel500/model --recognizer hin_60m/model --data data --work work "
    "--machine '…'"
)
ALIGNER = [
    "language=[hin_Deva,mal_Mlym,kan_Knda]", "dev_split=train", "steps=3600", "freeze_steps=60",
    "mask_prob=0.3", "validate_every=1200", "checkpoint_every=400", "max_dev_seconds=240",
    "optimizer.lr=0.001", "precision=fp32", "log_every=50", "tensorboard=false",
]  # fmt: skip
PAIRED = ("hin_Deva", "mal_Mlym", "kan_Knda", "mdw_Latn")
UTTERANCES = 400
"""Of each language, the first of the corpus."""
MBOSHI_IPA = dict(zip("AIOEUNBMLDSYWGKTRHPZVF", "aioeunbmldsjwɡktrhpzvf", strict=True)) | {
    "Á": "a", "Ω": "ɔ", "Ώ": "ɔ", "Ε": "ɛ", "Έ": "ɛ",
}  # fmt: skip
"""Labels of the alignments that come with the corpus; tones are left out."""


class Measurement:
    """All analyses.

    Args:
        options: Of the command line.
    """

    def __init__(self, options: Any) -> None:
        self.options = options
        self.work: Path = options.work
        self.work.mkdir(parents=True, exist_ok=True)
        phones = self.work / "mboshi_ipa.tsv"
        rows = [f"{label}\t{ipa}\tmdw_Latn\n" for label, ipa in MBOSHI_IPA.items()]
        phones.write_text("phone\tipa\tlanguage\n" + "".join(rows), encoding="utf-8")
        self.mboshi = [
            f"alignments=[{options.data / 'mboshi' / 'phones.tsv'}]", f"phone_map={phones}"
        ]  # fmt: skip
        self.models = {
            "untrained": self._create_untrained(),
            "Gumbel, 500 updates": options.early,
            "Gumbel, 2,400 updates": options.gumbel,
            "SimVQ, 2,400 updates": options.model,
        }

    def _create_untrained(self) -> Path:
        """The architecture of the model with random weights."""
        directory = self.work / "untrained"
        if not directory.exists():
            config = load_pretrain_model(self.options.model).config
            assert isinstance(config.quantizer, SimVQConfig)
            save_model(directory, create_pretrain_model(config))
        return directory

    def analyze(self, name: str, model: Path, *keys: str) -> dict[str, Any]:
        """The sections of an analysis, made now or before."""
        output = self.work / "analyses" / name
        file = output / "analysis.json"
        if not file.exists():
            run_recipe("analyze", self.options.corpus, output, [f"model={model}", *keys])
        sections: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["sections"]
        return sections

    def find_lags(self) -> dict[str, float]:
        """Milliseconds by which Mboshi's alignments lag behind codes of the model and the controls,
        on dev.
        """
        dev = self.analyze(
            "mboshi_dev", self.options.model, "language=[mdw_Latn]", "split=[dev]",
            "num_sampled_frames=0", "num_attention_utterances=0", *self.mboshi,
        )  # fmt: skip
        lags: dict[str, float] = dev["phones"]["shift"]["best_milliseconds"]
        return lags

    def measure_phones(self, shift: str, lags: dict[str, float]) -> None:
        """Codes and phones on Mboshi's test split."""
        rows: list[list[object]] = []
        kept = [f"num_sampled_frames={0}", "num_attention_utterances=0"]
        for place, (name, model) in enumerate(self.models.items()):
            found = self.analyze(
                f"mboshi_{place}", model, "language=[mdw_Latn]", "split=[test]", shift, *kept,
                *self.mboshi,
            )["phones"]  # fmt: skip
            scores = found["scores"]
            own = [*_choose(scores, "model, codebook"), *_choose(scores, "model, all codebooks")]
            rows += [_score_row(one["name"].replace("model", name), one) for one in own]
        for title in ("k-means of MFCC", "random projection of MFCC"):
            rows += [_score_row(one["name"], one) for one in _choose(scores, f"{title}, codebook")]
        names = list(self.models)
        close = found["neighbours_0"] + found["neighbours_1"]
        write_result(
            "27-codes-phones.json",
            title="Codes and phones of Mboshi, against codes that learned nothing",
            machine=self.options.machine,
            command=COMMAND,
            columns=["codes", "perplexity", "PNMI (95 %)", "permuted", "above permuted",
                     "phone purity", "one code"],
            rows=rows,
            notes=[
                f"Test split of Mboshi ({scores[0]['num_frames']:,} frames of 40 ms, "
                f"{scores[0]['num_phones']} phones with silence; intervals over utterances, as the "
                "three speakers are too few). All codebooks have 320 entries. “Permuted”: mean "
                "PNMI when codes are dealt out at random. “One code”: purity of naming the most "
                "frequent phone.",
                "The alignments that come with the corpus lag behind the audio: on dev, codes of "
                f"MFCC fit best what they name {lags['kmeans']:.0f} ms later, SimVQ's "
                f"{lags['group']:.0f} ms. Here `{shift}` moves them.",
                "SimVQ, codes that lie together in the codebook and like phones: Spearman's ρ "
                + ", ".join(f"{one['rho']:.2f} ({one['measure']})" for one in close) + ".",
                _compare_with_controls(rows),
                "Best codebooks compared (`speechvq compare`), PNMI, and PNMI at equal perplexity: "
                + "; ".join(
                    f"{names[after]} less {names[before]} {self.compare(before, after)}"
                    for before, after in ((1, 2), (2, 3))
                ) + ".",
            ],
        )  # fmt: skip

    def compare(self, before: int, after: int) -> str:
        """Differences between the best codebooks of two models on Mboshi, with intervals."""
        directories = [self.work / "analyses" / f"mboshi_{place}" for place in (before, after)]
        codes = compare_analyses(directories).paired[1]
        differences = [codes.own["pnmi"].difference, codes.equal["pnmi"].difference]
        return ", ".join(
            f"{one.value:+.3f} ({one.low:+.3f} – {one.high:+.3f})" for one in differences
        )

    def align(self) -> Path:
        """A recogniser of three languages that has learned what it is to align."""
        run_recipe(
            "finetune", self.options.corpus, self.work / "aligner",
            [f"model={self.options.recognizer}", *ALIGNER],
        )  # fmt: skip
        return self.work / "aligner" / "model"

    def measure_sharing(self, shift: str) -> dict[str, dict[str, Any]]:
        """Sharing over four languages of three families."""
        keys = [
            f"language=[{','.join(PAIRED)}]", "split=[train]", f"limit={UTTERANCES}", shift,
            f"recognizer={self.align()}", *self.mboshi,
        ]  # fmt: skip
        sections = {
            name: self.analyze(f"sharing_{place}", self.models[name], *keys)
            for place, name in ((0, "untrained"), (3, "SimVQ, 2,400 updates"))
        }
        rows = [
            [name, "–".join(one[:3] for one in pair["languages"]), *_pair_row(pair)]
            for name, found in sections.items()
            for pair in found["sharing"]["pairs"]["codebook 0"]
        ]
        own = sections["SimVQ, 2,400 updates"]
        forced = own["data"]["forced_alignment"]["languages"]
        write_result(
            "28-codes-sharing.json",
            title="Are codes shared across languages?",
            machine=self.options.machine,
            command=COMMAND,
            columns=["model", "languages", "phones: shared / not / cannot be told",
                     "index (95 %)", "pair", "bits, same phones", "bits, paired at random", "p"],
            rows=rows,
            notes=[
                f"{UTTERANCES} utterances of each language; frames of 40 ms. Index: 0 as far as "
                "another phone of the same languages, 1 as near as two halves of one language; a "
                "pair or a phone is shared where its interval lies above 0.5, not shared where "
                "below. First codebook; the second stands in the report.",
                "Mboshi's phones come with the corpus; the others are forced alignments by letters "
                "and epitran, kept above a confidence of 0.5: " + "; ".join(
                    f"{code} {one['words_kept']:,} of {one['words']:,} words (mean confidence "
                    f"{one['mean_confidence']:.2f})" for code, one in forced.items()
                ) + ". Other languages have minutes of transcripts only, no recogniser to align "
                "them, or no rules (Assamese, English without flite), and are left out.",
                f"SimVQ: {own['sharing']['findings'][0]}",
                *(f"SimVQ: {text}" for text in own["sharing"]["findings"][1:]),
            ],
        )  # fmt: skip
        return sections

    def measure_claims(self, sharing: dict[str, dict[str, Any]]) -> None:
        """Layers and attention on one source with many speakers, and the three claims."""
        keys = ["split=[train]", "where='source=common_voice'"]
        found = {
            name: self.analyze(f"voices_{place}", self.models[name], *keys)
            for place, name in ((0, "untrained"), (3, "SimVQ, 2,400 updates"))
        }
        rows = [
            _probe_row(name, target, sections["layers"])
            for target in ("language", "family", "speaker")
            for name, sections in found.items()
        ]
        own = found["SimVQ, 2,400 updates"]
        write_result(
            "29-layers-attention.json",
            title="Layers and attention on 16 languages of one source",
            machine=self.options.machine,
            command=COMMAND,
            columns=["target", "model", "classes", "layer 0", "best layer (95 %)", "last layer",
                     "chance", "highest of permuted"],
            rows=rows,
            notes=[
                "Common Voice's clips of 16 languages, all of one source: mean recall of a linear "
                "probe on means over utterances; folds share no speaker (speakers: no utterance). "
                "Layer 0 is the input of the first layer.",
                *(f"{name}: {' '.join(one['attention']['findings'])}"
                  for name, one in found.items()),
                f"SimVQ: {own['sharing']['findings'][-1]}",
                *_judge(sharing, found),
            ],
        )  # fmt: skip

    def measure(self) -> None:
        """Do everything and write it down."""
        lags = self.find_lags()
        shift = f"alignment_shift={-round(lags['kmeans'] / 5) * 5 / 1000:g}"
        self.measure_phones(shift, lags)
        self.measure_claims(self.measure_sharing(shift))


def _choose(scores: list[dict[str, Any]], label: str) -> list[dict[str, Any]]:
    return [
        one
        for one in scores
        if one["name"].startswith(label) and "without silence" not in one["name"]
    ]


def _score_row(title: str, score: dict[str, Any]) -> list[object]:
    return [
        title, f"{score['perplexity']:,.0f}",
        f"{score['pnmi']:.3f} ({score['pnmi_low']:.3f} – {score['pnmi_high']:.3f})",
        f"{score['pnmi_chance']:.3f}", f"{score['pnmi_adjusted']:.3f}",
        f"{score['phone_purity']:.3f}", f"{score['phone_purity_chance']:.3f}",
    ]  # fmt: skip


def _compare_with_controls(rows: list[list[object]]) -> str:
    """Whether each of SimVQ's codebooks knows more than those that learned nothing."""
    makers = "SimVQ, 2,400", "random projection", "k-means", "untrained", "Gumbel, 500"
    single = [row for row in rows if "all codebooks" not in str(row[0])]
    own, *rivals = (
        [float(str(row[4])) for row in single if str(row[0]).startswith(name)] for name in makers
    )
    beaten = [name for name, one in zip(makers[1:], rivals, strict=True) if min(own) > max(one)]
    better = [name for name, one in zip(makers[1:], rivals, strict=True) if max(own) < min(one)]
    more, less = (", ".join(names) or "no other" for names in (beaten, better))
    return (
        "By what is above permuted, each of SimVQ's codebooks knows more than each of "
        f"{more}, and less than each of {less}. K-means is fitted on this split's audio itself, "
        "which the models have not heard."
    )


def _pair_row(pair: dict[str, Any]) -> list[object]:
    decisions = [one["decision"] for one in pair["phones"]]
    counts = [decisions.count(name) for name in ("shared", "not shared", "cannot be told")]
    index = pair["index"]
    known = index["value"] is not None
    return [
        " / ".join(map(str, counts)),
        f"{index['value']:.2f} ({index['low']:.2f} – {index['high']:.2f})" if known else "–",
        pair["decision"],
        *(
            "–" if pair[key] is None else f"{pair[key]:.3g}"
            for key in ("matching_bits", "matching_null", "matching_p_value")
        ),
    ]


def _probe_row(name: str, target: str, layers: dict[str, Any]) -> list[object]:
    probes = layers["probes"][target]
    values = [one["accuracy"]["value"] for one in probes]
    best = values.index(max(values))
    found = probes[best]["accuracy"]
    interval = f"{found['value']:.2f} ({found['low']:.2f} – {found['high']:.2f})"
    return [
        target, name, len(probes[best]["classes"]), f"{values[0]:.2f}",
        f"{layers['layers'][best]}: {interval}", f"{values[-1]:.2f}",
        f"{1 / len(probes[best]['classes']):.2f}", f"{probes[best]['null_high']:.2f}",
    ]  # fmt: skip


def _judge(sharing: dict[str, dict[str, Any]], found: dict[str, dict[str, Any]]) -> list[str]:
    """The paper's three claims, each upheld or not by a rule that is said."""
    pairs = {name: sections["sharing"]["pairs"]["codebook 0"] for name, sections in sharing.items()}
    shared = {
        name: ["–".join(pair["languages"]) for pair in measured if pair["decision"] == "shared"]
        for name, measured in pairs.items()
    }
    trained = pairs["SimVQ, 2,400 updates"]
    nearer = sum((pair["matching_p_value"] or 1) < 0.05 for pair in trained)
    best = {
        name: max(sections["layers"]["probes"]["family"], key=lambda one: one["accuracy"]["value"])
        for name, sections in found.items()
    }
    own, random = best["SimVQ, 2,400 updates"]["accuracy"], best["untrained"]["accuracy"]
    heads = found["SimVQ, 2,400 updates"]["attention"]
    highest = best["SimVQ, 2,400 updates"]["null_high"]
    told = own["low"] > highest
    learned = own["low"] > random["value"]
    own_pairs = ", ".join(shared["SimVQ, 2,400 updates"])
    verdict = f"upheld for {own_pairs}" if own_pairs else "not upheld"
    return [
        f"Claim 1, similar sounds share codes across languages: {verdict} (of {len(trained)} "
        f"pairs, decided as in the table before); in {nearer} pairs the same phones lie nearer "
        "than phones paired at random (p < 0.05). Untrained codes are shared for "
        f"{', '.join(shared['untrained']) or 'no pair'}. Language and source travel together "
        "there.",
        f"Claim 2, layers tell families apart: {'upheld' if told else 'not upheld'} (best layer "
        f"{own['value']:.2f}, 95 % {own['low']:.2f} – {own['high']:.2f}; highest of permuted "
        f"{highest:.2f}); that pretraining brought it about is "
        f"{'shown' if learned else 'not shown'}: the untrained model reaches "
        f"{random['value']:.2f}.",
        f"Claim 3, heads look at short windows: "
        f"{'upheld' if 2 * heads['num_local_heads'] > heads['num_heads'] else 'not upheld'} "
        f"({heads['num_local_heads']} of {heads['num_heads']} heads have more than half of their "
        "weight within ±10 frames).",
    ]


def main() -> None:
    """Measure."""
    parser = create_parser(__doc__, "corpus", "work")
    for name, text in (
        ("model", "pretrained model with SimVQ"),
        ("gumbel", "pretrained model with Gumbel-softmax"),
        ("early", "the same after few updates"),
        ("recognizer", "recogniser of Hindi"),
        ("data", "directory of the sources"),
    ):
        parser.add_argument(f"--{name}", type=parse_path, required=True, help=text)
    Measurement(parser.parse_args()).measure()


if __name__ == "__main__":
    main()
