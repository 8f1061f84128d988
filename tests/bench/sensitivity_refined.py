"""Refined mixes of the sizes of the standard ones, for the experiments on sensitivities.

    python -m tests.bench.sensitivity_refined --bin BIN --models FOLDER --scratch FOLDER \\
        --into FOLDER [--names demo dense moe]

After tests/bench/sensitivity_experiment.py, from whose scratch folder it takes the measurements.
Runs the program of the stage `refine` for each size, as the pipeline would with `selection.corpus`:
marginal values on the demo's probe text, mixes kept by its selection text. Writes
FOLDER/MODEL/FTYPE.types for `--mixes refined=FOLDER`, and prints what each round was worth.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from llamacpp_pipeline.stages.probe_lines import read_measurements
from llamacpp_pipeline.stages.refine_record import RefineResult
from llamacpp_pipeline.stages.sensitivity import computed, weights
from tests.bench.sensitivity_mixes import (
    SLACK,
    Bench,
    absolute,
    add_arguments,
    benches,
    demo_file,
)
from tests.bench.sensitivity_origins import preset_mixes
from tests.bench.sensitivity_points import row

PROGRAM = "llamacpp_pipeline.stages.refine_loop"
TOOLS = ("llama-quantize", "llama-kld-probe")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    add_arguments(parser)
    parser.add_argument("--into", type=absolute, required=True)
    parser.add_argument("--types", nargs="+", default=["iq3_s", "q5_K"])
    parser.add_argument("--probe-chunks", type=int, default=16)
    options = parser.parse_args()
    for bench in benches(options):
        folder = options.into / bench.name
        folder.mkdir(parents=True, exist_ok=True)
        given = prepared(bench, options, folder)
        for ftype, mix in preset_mixes(bench, options.ftypes).items():
            bpw = bench.bpw(mix) + SLACK
            refine(bench, options, given, folder / ftype, bpw=bpw)
            bench.planned(
                bpw,
                *("--tensor-weights", folder / f"{ftype}.weights"),
                *("--plan-types", folder / f"{ftype}.types"),
            )


def prepared(bench: Bench, options: argparse.Namespace, folder: Path) -> tuple[Path, Path]:
    """The sensitivities and their weights, as files."""
    results = bench.folder / f"probe-{options.probe_chunks}-{'-'.join(options.types)}.jsonl"
    result = computed(read_measurements(results), bench.curves)
    report, given = folder / "sensitivity.json", folder / "weights.json"
    report.write_text(result.model_dump_json(), encoding="utf-8")
    given.write_text(weights(result), encoding="utf-8")
    (folder / "work").mkdir(exist_ok=True)
    return report, given


def refine(
    bench: Bench,
    options: argparse.Namespace,
    given: tuple[Path, Path],
    made: Path,
    *,
    bpw: float,
) -> None:
    """One size; `made` is where its files go, without their ending."""
    binaries = {"llama-quantize": bench.planner, "llama-kld-probe": bench.binaries / TOOLS[1]}
    report = made.with_suffix(".json")
    cut = ("--ctx-size", str(bench.n_ctx), "--hold", "native", "--no-escape")
    bench.run(
        Path(sys.executable),
        *("-m", PROGRAM, "--model", bench.model, "--imatrix", bench.imatrix),
        *("--corpus", demo_file(options, "probe")),
        *("--validation", demo_file(options, "selection")),
        *("--sensitivities", given[0], "--measured-weights", given[1]),
        *("--planner-flags", json.dumps(["--target-bpw", repr(bpw)])),
        *("--probe-flags", json.dumps(cut)),
        *("--placement", json.dumps(["--threads", str(bench.threads), "--fit", "off"])),
        *("--threads", str(bench.threads), "--n-chunks", str(options.probe_chunks)),
        *("--rounds", "2", "--validation-chunks", "32"),
        *("--work", made.parent / "work"),
        *("--weights", made.with_suffix(".weights"), "--output", report),
        *(word for tool in TOOLS for word in ("--binary", tool, binaries[tool])),
    )
    found = RefineResult.model_validate_json(report.read_bytes())
    tried = [f"{mix.name} {mix.kld.value:.6f}" for mix in found.mixes]
    cells = [bench.name, made.name, f"kept {found.kept}", found.stopped, ", ".join(tried)]
    print(row([*cells, f"{found.n_measurements} in {found.seconds:.0f} s"]), flush=True)


if __name__ == "__main__":
    main()
