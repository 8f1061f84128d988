"""The table on the terminal."""

from __future__ import annotations

import pytest

from llamacpp_pipeline.report.figures import count, estimate, number
from llamacpp_pipeline.report.terminal import aligned, render_text
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.run import RunRecords
from llamacpp_pipeline.units import Estimate
from tests.unit.results.sample import NOBODY, sample_run, with_result

RHO = "\N{GREEK SMALL LETTER RHO}"
BENCHES = ("bench/reference", "bench/Q4_K_M", "bench/Q4_K_M-selective")


def text_of(run: RunRecords) -> list[str]:
    return render_text(results_document(run, redactor=NOBODY)).splitlines()


def test_one_line_per_file_with_all_figures() -> None:
    lines = text_of(sample_run())

    assert lines[0] == "Tiny, Qwen3_5ForCausalLM, 5.6 M parameters"
    assert lines[2].split("  ")[0] == "variant"
    for name in ("BPW", "size", "PPL", "PPL ratio", f"{RHO}PPL", "mean KLD", "99.9 % KLD",
                 "max KLD", "same top p %", "RMS Δp %", "pp512 t/s", "tg128 t/s"):  # fmt: skip
        assert f"  {name}" in lines[2]
    assert " ".join(lines[4].split()) == (
        "Q4_K_M 4.900 4.9 KiB 12.6000 ± 0.2500 1.0124 99.51 % 0.036272 ± 0.000154 0.500000 "
        "6.3721 94.34 ± 0.06 4.32 ± 0.05 2000.0 150.5"
    )


def test_columns_are_aligned() -> None:
    table = text_of(sample_run())[2:6]

    assert len({len(line) for line in table}) == 1


def test_what_was_not_measured_is_a_dash_and_an_empty_column_is_left_out() -> None:
    lines = text_of(sample_run(without=("kld/Q4_K_M", *BENCHES)))
    plain = next(line for line in lines if line.startswith("Q4_K_M "))

    assert "pp512" not in lines[2]
    assert plain.split()[4:] == ["-"] * 8
    assert next(line for line in lines if line.startswith("not finished")) == (
        "not finished: bench/reference, kld/Q4_K_M, bench/Q4_K_M, bench/Q4_K_M-selective"
    )
    assert not any(line.startswith("tokens per second") for line in lines)


def test_conditions_and_noise_floor_stand_below() -> None:
    lines = text_of(sample_run())

    assert lines[-3].startswith("PPL and KLD on evaluation.txt (sha256 ")
    assert "n_ctx 256, 40 chunks, llama.cpp 4df29be4f4c3" in lines[-3]
    assert lines[-2].endswith("mean KLD 0.000000 ± 0.000154")
    assert lines[-1] == "tokens per second on Some CPU, 2 threads, backend CPU"


def test_a_gpu_is_named_first_with_its_layers() -> None:
    run = sample_run()
    for key in BENCHES:
        run = with_result(run, key, gpu="Some GPU", n_gpu_layers=99, backends="CUDA")

    assert text_of(run)[-1] == (
        "tokens per second on Some GPU, Some CPU, 2 threads, n_gpu_layers 99, backend CUDA"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "0.000"), (-0.0, "0.000"), (-0.0004, "0.000"), (-0.0006, "-0.001")],
)
def test_a_number_is_never_a_negative_zero(value: float | None, text: str) -> None:
    assert number(value, digits=3) == text


def test_an_estimate_carries_its_error_and_unit() -> None:
    assert estimate(Estimate(94.3412, 0.06), digits=2, unit=" %") == "94.34 ± 0.06 %"
    assert estimate(None, digits=2, unit=" %") == "-"


@pytest.mark.parametrize(
    ("value", "text"),
    [(7, "7"), (248320, "248 320"), (5_600_000, "5.6 M"), (752_000_000, "752 M"),
     (999_960_000, "1.0 B"), (35_100_000_000, "35.1 B")],
)  # fmt: skip
def test_counts_are_for_people(value: int, text: str) -> None:
    assert count(value) == text


def test_aligned_pads_the_first_column_on_the_right() -> None:
    assert aligned([("a", "bb"), ("ccc", "d")]) == "a    bb\nccc   d"
