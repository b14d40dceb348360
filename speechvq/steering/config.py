"""What a user may set when codes of a recogniser are switched. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, field

from speechvq.analysis.config import MISSING_VALUE, list_missing

MODES = ("one", "all", "append")
"""How a code is forced (`speechvq.nn.code_edits.EditMode`); `ablate` besides for one recording."""
SITES = ("heads", "feed_forward")
KINDS = ("letter", "phone", "language")
"""Kinds of concepts whose effect on what is written can be measured."""


@dataclass(kw_only=True)
class EditConfig:
    """One code, switched between two times of a recording."""

    layer: int = -1
    """Layer of the bottleneck, from 0."""
    site: str = "heads"
    """`heads` or `feed_forward`: which bottleneck of the layer."""
    head: int = 0
    """Which of its codebooks, from 0."""
    start: float = -1.0
    """Begin of the span, seconds."""
    end: float = -1.0
    """End of the span, seconds."""
    code: int | None = None
    """Which code; null with `mode: ablate`: all."""
    mode: str = "all"
    """`one`: in place of the least similar; `all`: of all; `append`: beside them; `ablate`: taken
    out."""

    def validate(self, name: str) -> list[str]:
        """One sentence for every value that cannot work.

        Args:
            name: Of the edit in messages.
        """
        problems = []
        for key in ("layer", "head"):
            if getattr(self, key) < 0:
                problems.append(f"`{name}.{key}` must be given, from 0.")
        if self.site not in SITES:
            problems.append(f"`{name}.site` must be heads or feed_forward, but is {self.site!r}.")
        if self.mode not in (*MODES, "ablate"):
            problems.append(
                f"`{name}.mode` must be one of {', '.join(MODES)}, ablate, but is {self.mode!r}."
            )
        if self.code is None and self.mode != "ablate":
            problems.append(f"`{name}.code` must be given; only `mode: ablate` has none.")
        if self.code is not None and self.code < 0:
            problems.append(f"`{name}.code` must be 0 or more, but is {self.code}.")
        return problems + _check_times(f"{name}.start", f"{name}.end", self.start, self.end)


@dataclass(kw_only=True)
class SteerConfig:
    """Keys of `speechvq steer`: one recording with `audio`, the experiment with `corpus`."""

    model: str = MISSING_VALUE
    """Directory of a recogniser with bottlenecks."""
    output: str = MISSING_VALUE
    """Directory for `steering.json` and `report.html`."""
    concepts: str | None = None
    """What `speechvq concepts` left of this model: which codes stand for what."""
    concept: list[str] = field(default_factory=list)
    """Concepts such as `letter:a`. One recording: the one that is forced; a corpus: only these."""
    audio: str | None = None
    """One recording, any format that `prepare` reads."""
    edits: list[EditConfig] = field(default_factory=list)
    """What is switched in it: `[{layer: 3, head: 1, start: 1.2, end: 1.5, code: 17}]`."""
    start: float | None = None
    """Begin of the span in which `concept` is forced, seconds."""
    end: float | None = None
    """End of that span, seconds."""
    mode: str = "all"
    """How `concept` is forced: `one`, `all`, `append`, or `ablate` to take its codes out."""
    corpus: str | None = None
    """Directory of a corpus, for the experiment."""
    language: list[str] = field(default_factory=list)
    """Languages of the corpus; empty for all that the model can read. One recording: its head."""
    head: str | None = None
    """The one head through which all languages go, of a recogniser with joint labels; null: each
    language has its own."""
    split: str = "test"
    """Split on which is measured."""
    dev_split: str = "dev"
    """Split of frequencies of codes, means of concepts, and letters of phones."""
    where: str | None = None
    """Only rows with these values: `source=noa_hindi,speaker=x`."""
    limit: int = 0
    """At most this many utterances of each language and split, the first of the corpus; 0: all."""
    max_seconds: float = 12.0
    """Longer utterances of `split` are left out: each is computed anew for every edit."""
    kinds: list[str] = field(default_factory=lambda: list(KINDS))
    """Kinds of concepts: letter, phone, language."""
    modes: list[str] = field(default_factory=lambda: list(MODES))
    """How codes are forced: one, all, append."""
    places: int = 0
    """Codebooks in which a concept is forced at once, the most precise on dev; 0 for all. The best
    four and the best one are measured too."""
    min_recall: float = 0.1
    """Codebooks whose code has less recall on dev come after all others."""
    num_spans: int = 20
    """Spans of each concept."""
    window: int = 2
    """Frames to each side of a span that are patched and measured with it."""
    off_distance: int = 5
    """Frames farther than this from a span should not change."""
    num_utterances: int = 20
    """Utterances of each concept in which its codes are taken out, or a language is forced."""
    alignments: list[str] = field(default_factory=list)
    """Files of phones with times, as for `analyze`; empty: rules from letters to phones (epitran,
    the extra `phones`)."""
    tier: str | None = None
    """Tier of the phones in alignment files."""
    phone_map: str | None = None
    """Table with the columns phone, ipa and maybe language, which renames phones."""
    num_examples: int = 4
    """Edits that the report shows with posteriors and players."""
    batch_seconds: float = 240.0
    """Seconds of audio in a batch. Changes speed and memory, not the result."""
    seed: int = 1
    """Of what is drawn: spans, control codes, bootstrap samples."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, …; `auto` takes a GPU where there is one."""

    def validate(self) -> list[str]:
        """One sentence for every value that cannot work."""
        problems = list_missing(
            self,
            {
                "model": "`model=DIR`, a recogniser with bottlenecks",
                "output": "`output=DIR`, where the report goes",
            },
        )
        if (self.audio is None) == (self.corpus is None):
            problems.append(
                "Either `audio=FILE` (one recording) or `corpus=DIR` (experiment) must be given."
            )
        elif self.audio is not None:
            problems += self._validate_recording()
        else:
            problems += self._validate_experiment()
        problems += [
            f"`{key}` must be at least {least}, but is {getattr(self, key)}."
            for key, least in _LEAST.items()
            if getattr(self, key) < least
        ]
        for key, known in (("kinds", KINDS), ("modes", MODES)):
            values = getattr(self, key)
            if not values or len(set(values)) != len(values) or set(values) - set(known):
                problems.append(
                    f"`{key}` must name some of {', '.join(known)}, each once, but is {values}."
                )
        for name in self.concept:
            kind, mark, rest = name.partition(":")
            if not mark or not rest or kind not in KINDS:
                problems.append(
                    f"`concept` must be a kind ({', '.join(KINDS)}) and a name, such as letter:a, "
                    f"but is {name!r}."
                )
        problems += [
            f"`{key}` must be above 0, but is {getattr(self, key)}."
            for key in ("batch_seconds", "max_seconds")
            if not getattr(self, key) > 0
        ]
        return problems

    def _validate_recording(self) -> list[str]:
        problems = []
        if bool(self.edits) == bool(self.concept):
            problems.append(
                "With `audio`, either `edits=[…]` or `concept=letter:a` must say what is switched."
            )
        for number, edit in enumerate(self.edits):
            problems += edit.validate(f"edits[{number}]")
        if self.concept:
            if len(self.concept) > 1:
                problems.append(f"With `audio`, `concept` must be one, but is {self.concept}.")
            if self.concepts is None:
                problems.append("`concept` needs `concepts=DIR`, which says what its codes are.")
            if self.mode not in (*MODES, "ablate"):
                problems.append(
                    f"`mode` must be one of {', '.join(MODES)}, ablate, but is {self.mode!r}."
                )
            if self.start is None or self.end is None:
                problems.append("`start` and `end` must be given: seconds between which it acts.")
            else:
                problems += _check_times("start", "end", self.start, self.end)
        if len(self.language) > 1:
            problems.append(f"With `audio`, `language` must be one, but is {self.language}.")
        return problems

    def _validate_experiment(self) -> list[str]:
        problems = []
        if self.concepts is None:
            problems.append("`corpus` needs `concepts=DIR`, what `speechvq concepts` left.")
        if self.edits or self.start is not None or self.end is not None:
            problems.append("`edits`, `start` and `end` are for one recording: give `audio=FILE`.")
        left_out = [one for one in self.concept if one.partition(":")[0] not in self.kinds]
        if left_out:
            problems.append(
                f"`concept` must be of the `kinds` ({', '.join(self.kinds)}), but is "
                f"{', '.join(left_out)}."
            )
        if self.off_distance < self.window:
            problems.append(
                f"`off_distance` must be at least `window` ({self.window}), or frames that are "
                f"patched would count as off the span, but is {self.off_distance}."
            )
        if self.split == self.dev_split:
            problems.append(
                "`split` and `dev_split` must differ: what is chosen on dev is measured elsewhere."
            )
        return problems


_LEAST = {
    **{"limit": 0, "places": 0, "num_spans": 1, "window": 0, "off_distance": 1},
    **{"num_utterances": 0, "num_examples": 0, "seed": 0, "min_recall": 0},
}


def _check_times(first: str, last: str, start: float, end: float) -> list[str]:
    if 0 <= start < end:
        return []
    return [
        f"`{first}` and `{last}` must be seconds from 0, the second later, but are {start:g} and "
        f"{end:g}."
    ]
