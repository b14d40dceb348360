"""Measures what quantisers cost, and writes `docs/results/09-quantizer-cost.json`.

    python docs/measure_quantizer_cost.py --machine 'what it ran on'

Each case runs in a process of its own: forward and backward pass of the quantiser alone on 1,500
targets of 320 channels (a minute and a half of masked speech under `tiny`), one thread. Time is
that of the processor, so that what else runs counts less. Memory is what the process held at its
peak, beyond what it held before the first pass (Linux). A few minutes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

from measuring import (
    NO_MACHINE,
    create_parser,
    create_quantizer_config,
    read_memory,
    run_part,
    write_result,
)

INPUT_DIM, NUM_TARGETS = 320, 1500
SIZES = {
    320: {"num_codebooks": 2, "code_dim": 256},
    8192: {"num_codebooks": 1, "code_dim": 64},
    65536: {"num_codebooks": 1, "code_dim": 64},
}
KINDS = ("gumbel", "simvq", "vq", "vq, rotated", "ema", "fsq", "random")
NUM_PASSES = {320: 15, 8192: 7, 65536: 3}


def measure_case(kind: str, size: int) -> dict[str, float]:
    """Seconds of the processor for a pass, and the peak of memory in MiB."""
    import torch

    from speechvq.models.build import create_quantizer

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = create_quantizer_config(kind, size, **SIZES[size])
    assert config.validate() == []
    quantizer = create_quantizer(config, INPUT_DIM).train()
    features = torch.randn(1, NUM_TARGETS, INPUT_DIM, requires_grad=True)
    valid = torch.ones(1, NUM_TARGETS, dtype=torch.bool)
    parameters = sum(p.numel() for p in quantizer.parameters())
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak begins anew
    before = read_memory("VmRSS")
    seconds = []
    for _ in range(1 + NUM_PASSES[size]):
        quantizer.zero_grad()
        features.grad = None
        start = time.process_time()
        output = quantizer(features, temperature=1.0, valid=valid)
        loss = output.vectors.square().sum() + 0.1 * output.diversity_loss
        if output.vq_loss is not None:
            loss = loss + output.vq_loss
        if loss.requires_grad:
            loss.backward()
        seconds.append(time.process_time() - start)
    return {
        "seconds": statistics.median(seconds[1:]),
        "parameters": parameters,
        "peak": (read_memory("VmHWM") - before) / 1024,
    }


def run_case(kind: str, size: int) -> dict[str, float]:
    """`measure_case` in a process of its own."""
    result: dict[str, float] = run_part(
        __file__, "--kind", kind, "--size", str(size), environment={"OMP_NUM_THREADS": "1"}
    )
    return result


def measure(machine: str) -> None:
    """Run all cases; the JSON is written anew after each."""
    results: dict[tuple[str, int], dict[str, float]] = {}
    for size in SIZES:
        for kind in KINDS:
            results[kind, size] = run_case(kind, size)
            print(kind, size, results[kind, size], flush=True)
            write(machine, results)


def write(machine: str, results: dict[tuple[str, int], dict[str, float]]) -> None:
    """Write the JSON of what has been measured."""
    rows = [
        [
            kind, f"{SIZES[size]['num_codebooks']} × {size:,}",
            f"{result['parameters'] / 1e6:.2f} M", f"{1000 * result['seconds']:.0f} ms",
            f"{result['peak']:.0f} MiB",
        ]
        for (kind, size), result in results.items()
    ]  # fmt: skip
    largest = [kind for kind in ("simvq", "gumbel") if (kind, 65536) in results]
    figures = " / ".join(
        f"{1000 * results[kind, 65536]['seconds']:.0f} ms, {results[kind, 65536]['peak']:.0f} MiB"
        for kind in largest
    )
    write_result(
        "09-quantizer-cost.json",
        title="What quantisers cost",
        machine=machine,
        command="python docs/measure_quantizer_cost.py --machine '…'",
        columns=["quantiser", "codebooks × entries", "learned numbers",
                 "forward and backward, 1,500 targets", "peak memory beyond the start"],
        rows=rows,
        notes=[
            "One thread, fp32, the quantiser alone, its projection from 320 channels included. "
            "Vectors have 256 channels with 2 × 320 entries and 64 otherwise (fsq: one a level). "
            "Time is processor time, the median of "
            f"{', '.join(f'{NUM_PASSES[size]} passes at {size:,}' for size in SIZES)}; other "
            "experiments ran on the same two cores meanwhile.",
            "Memory is the peak of the process less what it held before its first pass, gradients "
            "of the parameters included. gumbel alone has logits of all frames by all entries; the "
            "others never have a table of more than 8.4 million distances (32 MiB) at a time.",
            "random learns nothing: its figures are those of a forward pass.",
        ],
        headline=[
            {"what": "65,536 codes for 1,500 frames, forward and backward on one thread: "
             f"{' / '.join(largest)}", "figure": figures},
        ] if largest else [],
    )  # fmt: skip


def main() -> None:
    """Measure all, or one case for the parent."""
    parser = create_parser(__doc__, needs_machine=False)
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, choices=SIZES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.kind:
        print(json.dumps(measure_case(options.kind, options.size)))
    elif not options.machine:
        parser.error(NO_MACHINE)
    else:
        measure(options.machine)


if __name__ == "__main__":
    main()
