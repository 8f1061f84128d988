"""A manifest against the same plan run again: what is the same, and why the rest is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from llamacpp_pipeline.datasets.imatrix_file import Entry, Imatrix
from llamacpp_pipeline.report.reproduced import verdict_document, verdict_text
from llamacpp_pipeline.results.manifest import run_manifest
from llamacpp_pipeline.results.record import RecordedInput
from llamacpp_pipeline.results.reproduction import (
    FileVerdict,
    Rebuilt,
    imatrix_difference,
    verdicts,
)
from llamacpp_pipeline.results.run import RunRecords
from tests.unit.results.sample import MACHINE, NOBODY, changed, digest, sample_run

FILE = "Tiny-Q4_K_M.gguf"
QUANTIZE = "quantize/Q4_K_M"


def found(run: RunRecords, name: str = FILE) -> FileVerdict:
    """What becomes of a file of the sample run where `run` is what comes out now."""
    manifest = run_manifest(sample_run(), redactor=NOBODY)
    made = verdicts(manifest, Rebuilt(records=run.records, toolchain=run.toolchain))
    return next(verdict for verdict in made if verdict.name == name)


def other(run: RunRecords, key: str, **fields: Any) -> RunRecords:  # noqa: ANN401
    """The run with other bytes left by a step."""
    left = {"sha256": digest(f"other {key}")}
    outputs = tuple(file.model_copy(update=left) for file in run.records[key].outputs)
    return changed(run, key, outputs=outputs, **fields)


def test_the_same_leftare_the_same_whatever_made_them() -> None:
    run = changed(sample_run(), QUANTIZE, made_by_id="another build")

    assert found(run).verdict == "identical"
    assert found(run).reasons == ()


def test_a_step_that_failed_left_nothing() -> None:
    verdict = found(sample_run(without=(QUANTIZE,)))

    assert (verdict.verdict, verdict.found) == ("not made", None)
    assert verdict.reasons == (f"{QUANTIZE}: it was not made",)


def test_another_build_is_named_with_what_differs() -> None:
    run = other(sample_run(), QUANTIZE, made_by_id="b" * 64)
    toolchain = replace_facts(run, build_id="b" * 64, commit="feedface")

    verdict = found(replace(run, toolchain=toolchain))

    (reason,) = verdict.reasons
    assert reason.startswith(f"{QUANTIZE}: another build of llama.cpp (")
    assert reason.endswith("and bbbbbbbbbbbb): commit " + run.toolchain.commit + " and feedface")


def replace_facts(run: RunRecords, **fields: Any) -> Any:  # noqa: ANN401
    return run.toolchain.model_copy(update=fields)


def test_the_first_step_that_differs_explains_those_after_it() -> None:
    run = other(other(sample_run(), "imatrix"), QUANTIZE)
    elsewhere = MACHINE.model_copy(update={"hostless_name": "A GPU machine"})
    run = changed(run, "imatrix", machine=elsewhere)

    verdict = found(run)

    (reason,) = verdict.reasons
    assert reason == (
        "imatrix: the same computation on another machine or placement, which sums floats in"
        " another order (Some CPU, 2 cores; here A GPU machine)"
    )


def test_another_text_is_named() -> None:
    run = other(sample_run(), "imatrix")
    inputs = run.records["imatrix"].inputs
    text = RecordedInput(kind="leaf", label="other.txt", digest="e" * 64, size_bytes=1)
    run = changed(run, "imatrix", inputs={**inputs, "corpus": text})

    (reason,) = found(run, "Tiny-imatrix.gguf").reasons

    then = digest("calibration.txt")[:12]
    assert reason == (
        f"imatrix: its corpus was calibration.txt ({then}) and is other.txt (eeeeeeeeeeee)"
    )


def test_other_parameters_and_labels_are_named() -> None:
    run = other(sample_run(), QUANTIZE, labels={"general.quantized_by": "me"})
    params = {**run.records[QUANTIZE].params, "pure": True}

    assert found(changed(run, QUANTIZE, params=params)).reasons == (
        f"{QUANTIZE}: pure was False and is True",
        f"{QUANTIZE}: the metadata's general.quantized_by was None and is 'me'",
    )


def test_other_leftof_the_same_making_are_our_mistake() -> None:
    (reason,) = found(other(sample_run(), QUANTIZE)).reasons

    assert reason.endswith("the same binaries and inputs left other bytes; please report this")


def test_it_is_shown_with_its_reasons() -> None:
    manifest = run_manifest(sample_run(), redactor=NOBODY)
    run = other(sample_run(), QUANTIZE)
    made = verdicts(manifest, Rebuilt(records=run.records, toolchain=run.toolchain))

    text = verdict_text(made)

    assert f"{FILE} differs:\n    {QUANTIZE}: the same binaries" in text
    assert text.endswith("2 of 3 files are the same, byte by byte\n")
    assert verdict_document(made)["good"] is False


def imatrix(*, scale: float = 1.0, name: str = "a.weight", rows: int = 5) -> Imatrix:
    squares = np.array([[1.0, 2.0 * scale, 2.0]])
    entry = Entry(name=name, squares=squares, counts=np.array([rows], dtype=np.int64))
    return Imatrix(entries={name: entry})


def test_how_far_two_imatrices_are_apart() -> None:
    assert imatrix_difference(imatrix(), imatrix()) == 0.0
    assert imatrix_difference(imatrix(scale=1.003), imatrix()) == pytest.approx(0.002)


@pytest.mark.parametrize("theirs", [imatrix(name="b.weight"), imatrix(rows=6)])
def test_imatrices_of_other_tensors_or_texts_are_not_compared(theirs: Imatrix) -> None:
    assert imatrix_difference(imatrix(), theirs) is None
