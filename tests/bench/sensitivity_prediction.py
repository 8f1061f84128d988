"""How well a few measured types of a tensor say what the others cost.

    python -m tests.bench.sensitivity_prediction --bin BIN --models FOLDER --scratch FOLDER \\
        [--names demo dense moe]

Probes every tensor at the types that curves are measured at, on 16 chunks of the demo's probe
text, and predicts the types that were left out. Prints the logarithm of predicted over measured,
over tensors and types: the median of its size, and its root mean square. Also the quartiles of
the exponent of D against rho over a tensor's types, and the relative error of single measurements.
docs/allocation.md holds the table.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Mapping, Sequence

from llamacpp_pipeline.stages.curves import MEASURED
from llamacpp_pipeline.stages.probe_lines import Measurement
from llamacpp_pipeline.stages.sensitivity import SensitivityResult, TensorSensitivity, computed
from tests.bench.sensitivity_ablations import cut, probed, without_noise
from tests.bench.sensitivity_mixes import Bench, add_arguments, benches
from tests.bench.sensitivity_points import row

CHUNKS = 16
SUBSETS = (
    ("iq3_s",),
    ("iq3_s", "q5_K"),
    ("iq2_s", "q5_K"),
    ("iq2_s", "iq4_xs", "q6_K"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    add_arguments(parser)
    options = parser.parse_args()
    for bench in benches(options):
        found = probed(bench, options, CHUNKS, *MEASURED)
        print(f"\n{bench.name}:\n\n{report(bench, found)}", flush=True)


def report(bench: Bench, found: Sequence[Measurement]) -> str:
    whole = computed(found, bench.curves)
    errors = [
        m.divergence.stderr / m.divergence.value
        for tensor in whole.tensors
        for m in tensor.measured
        if m.divergence.stderr and m.divergence.value > 0
    ]
    exponents = [slope for tensor in whole.tensors if (slope := exponent(tensor)) is not None]
    quartiles = ", ".join(f"{value:.2f}" for value in statistics.quantiles(exponents))
    lines = [
        f"standard error of a single D: {statistics.median(errors):.3f} of it in the median",
        f"exponent of D against rho, quartiles: {quartiles}\n",
        row(["measured", "e", "median of the size", "root mean square"]),
        row(["---"] * 4),
    ]
    for types in SUBSETS:
        part = cut(found, *types, chunks=CHUNKS)
        for told, given in (("0", without_noise(part)), ("as is", part)):
            apart = misses(computed(given, bench.curves), measured_at(whole), types)
            middle = statistics.median(abs(miss) for miss in apart)
            square = math.sqrt(statistics.fmean(miss**2 for miss in apart))
            lines.append(row([", ".join(types), told, f"{middle:.3f}", f"{square:.3f}"]))
    return "\n".join(lines)


def exponent(tensor: TensorSensitivity) -> float | None:
    """The slope of a straight line through the types in logarithms."""
    points = [(m.rho, m.divergence.value) for m in tensor.measured if m.divergence.value > 0]
    if len(points) < 3:
        return None
    x, y = ([math.log(value) for value in values] for values in zip(*points, strict=True))
    return statistics.linear_regression(x, y).slope


def measured_at(result: SensitivityResult) -> Mapping[tuple[str, str], float]:
    """Divergences above zero, by tensor and type."""
    return {
        (tensor.name, m.type.casefold()): m.divergence.value
        for tensor in result.tensors
        for m in tensor.measured
        if m.divergence.value > 0
    }


def misses(
    result: SensitivityResult, known: Mapping[tuple[str, str], float], types: Sequence[str]
) -> list[float]:
    """Logarithms of predicted over measured, of the types that the prediction did not see."""
    seen = {kind.casefold() for kind in types}
    predicted = {
        (tensor.name, at.type.casefold()): at.divergence
        for tensor in result.tensors
        for at in tensor.curve
        if at.type.casefold() not in seen and at.divergence > 0
    }
    return [math.log(value / known[at]) for at, value in predicted.items() if at in known]


if __name__ == "__main__":
    main()
