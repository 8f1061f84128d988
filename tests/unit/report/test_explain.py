"""Why a tensor has its type, and what a size can reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from llamacpp_pipeline.cli.sensitivity import curve, explain
from llamacpp_pipeline.errors import UsageError
from llamacpp_pipeline.report.explain import curve_text, explanation
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.document import RESULTS_NAME, ResultsDocument, document_json
from llamacpp_pipeline.results.sensitivity import MeasuredTensor, SensitivityFacts, TypeDivergence
from llamacpp_pipeline.units import Estimate
from tests.unit.results.sample import NOBODY, sample_run

BY_SIZE: dict[str, Any] = {"variants": [{"ftype": "Q4_K_M"}, {"bpw": 4.5}], "card": {}}


def tensor(name: str, alpha: float, *, elements: int = 1000) -> MeasuredTensor:
    types = {"q3_K": 3.4375, "q4_K": 4.5, "q6_K": 6.5625, "bf16": 16.0}
    errors = {"q3_K": 0.02, "q4_K": 0.004, "q6_K": 0.0003, "bf16": 0.0}
    return MeasuredTensor(
        name=name,
        layer=None,
        role=name.removesuffix(".weight"),
        elements=elements,
        alpha=Estimate(value=alpha, stderr=alpha / 10),
        prior=alpha * 2,
        types=tuple(
            TypeDivergence(
                type=kind,
                bytes=round(bpw * elements / 8),
                divergence=alpha * errors[kind],
                measured=Estimate(value=0.02 * alpha, stderr=1e-5) if kind == "q3_K" else None,
            )
            for kind, bpw in types.items()
        ),
    )


def document(*, probed: bool = True) -> ResultsDocument:
    found = results_document(sample_run(config=BY_SIZE), redactor=NOBODY)
    if not probed:
        return found
    allocation = found.variants[1].allocation
    assert allocation is not None
    tensors = [
        tensor(one.name, 0.5 / (at + 1), elements=one.elements)
        for at, one in enumerate(allocation.tensors)
    ]
    facts = SensitivityFacts(
        probe_digest="0" * 64,
        shared_with_evaluation=0.001,
        n_ctx=256,
        n_chunks=16,
        types=("q3_K",),
        hold="native",
        n_measurements=3,
        n_missing=0,
        floor=0.0,
        seconds=12.0,
        prior_rank_correlation=None,
        tensors=tuple(tensors),
    )
    return found.model_copy(update={"sensitivity": facts})


def test_a_type_is_explained_by_its_curve_and_the_price_of_a_step() -> None:
    found = document()
    allocation = found.variants[1].allocation
    assert allocation is not None
    chosen = allocation.tensors[1]
    text = explanation(found, "4.5bpw", chosen.name)
    assert text.startswith(f"{chosen.name} of 4.5bpw: q4_K, 4.5000 bits per weight\n")
    assert "sensitivity used: 0.02" in text
    assert "measured: 0.25 ± 0.025, rank 2 of 2; the prior would be 0.5" in text
    rows = {line.split()[0]: line for line in text.splitlines() if line.startswith(("q", "bf"))}
    assert "measured" in rows["q3_K"]
    assert "predicted" in rows["q6_K"]
    assert rows["q4_K"].endswith("<")
    more = round(6.5625 * chosen.elements / 8) - round(4.5 * chosen.elements / 8)
    assert f"{more:+d} B" in rows["q6_K"]


def test_a_pinned_tensor_and_one_without_a_curve_say_so() -> None:
    found = document(probed=False)
    allocation = found.variants[1].allocation
    assert allocation is not None
    text = explanation(found, "4.5bpw", allocation.tensors[0].name)
    assert "pinned by the recipe" in text
    assert "add `sensitivity:" in text


@pytest.mark.parametrize(
    ("variant", "name", "message"),
    [
        ("4.5bqw", "x", "no variant is named 4.5bqw"),
        ("Q4_K_M", "x", "is a standard mix"),
        ("4.5bpw", "blk.9.nothing.weight", "has no tensor blk.9.nothing.weight"),
    ],
)
def test_what_cannot_be_explained_is_refused(variant: str, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        explanation(document(), variant, name)


def test_the_curve_falls_and_holds_the_files() -> None:
    text = curve_text(document(), kld=0.001)
    table = text.split("\n\n")[1].splitlines()[1:]
    sizes = [int(line.split()[0]) for line in table]
    klds = [float(line.split()[2]) for line in table]
    assert sizes == sorted(sizes)
    assert klds == sorted(klds, reverse=True)
    assert klds[-1] == 0
    assert "4.5bpw" in text
    assert "mean KLD 0.001: from" in text


def test_no_curve_without_measurements() -> None:
    with pytest.raises(UsageError, match="no measured sensitivities") as caught:
        curve_text(document(probed=False))
    assert "sensitivity: {corpus" in (caught.value.hint or "")


def test_the_verbs_read_a_folder_of_results(tmp_path: Path) -> None:
    found = document()
    (tmp_path / RESULTS_NAME).write_text(document_json(found), encoding="utf-8")
    allocation = found.variants[1].allocation
    assert allocation is not None
    where = ["--results", str(tmp_path)]
    one = CliRunner().invoke(explain, ["4.5bpw", allocation.tensors[1].name, *where])
    assert (one.exit_code, one.output) == (
        0,
        explanation(found, "4.5bpw", allocation.tensors[1].name),
    )
    other = CliRunner().invoke(curve, ["--kld", "0.001", *where])
    assert (other.exit_code, other.output) == (0, curve_text(found, kld=0.001))
