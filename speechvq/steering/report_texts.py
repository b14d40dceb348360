"""What the report of steering says about its own numbers."""

from __future__ import annotations

from speechvq.steering.config import SteerConfig

LIMITS = (
    "The spans are placed by the recogniser itself, from its own transcripts: where it is wrong, "
    "they are. Codebooks are chosen by precision on dev, which says that a code reads a concept, "
    "not that anything goes by it; others may steer better. One model and one training say "
    "nothing about others: codes of another seed are other codes. A forced letter is a letter "
    "that no audio holds; what the model does with such a state need not be what it does with "
    "speech. Intervals are over utterances, not over speakers, and not corrected for the number "
    "of concepts."
)
EXPLAIN_ABLATION = (
    "A concept's codes (`codes` of concepts.json, the union of several) give nothing in any frame "
    "of utterances whose reference has the concept's letters: in its best codebooks, and in all. "
    "Recall is the share of a letter's occurrences in references that are recognised, by a best "
    "alignment of reference and greedy text. The control takes out as many codes, each about as "
    "frequent as one of the concept's."
)
EXPLAIN_LANGUAGE = (
    "A language's codes are forced in all frames. Its own letters are those that dev transcripts "
    "of it have and those of the spoken language have not; shares are of all letters written. The "
    "control forces codes as frequent in the same codebooks."
)


def explain_arms(config: SteerConfig) -> str:
    """What the columns mean, with the keys that they depend on."""
    return (
        f"Each span is a letter of forced alignment, in whose window (±{config.window} frames) the "
        "target is neither in the reference nor recognised; all of the window is patched. Effect: "
        "log Σ P(target | t) over the window, after minus before; once with P over all labels, "
        "once over all labels but the blank. Written: the best path has the target in the window. "
        "KL(before ‖ after) in nats a frame, within: over the window; off: over frames more than "
        f"{config.off_distance} from the span. Rest changed: edit distance of the greedy labels "
        "outside of the window, over those before. Random codes: in the same codebooks, each drawn "
        "from the ten codes nearest in frequency on dev; whatever disturbs the letter that is said "
        "leaves room for others, so that they are not always at 0. Another concept: its codes in "
        "the same codebooks. Difference of means: mean of the codebook's output in the concept's "
        "frames of "
        "dev minus that of all others, added in each frame with the length of the change that the "
        "same edit by codes would make there."
    )
