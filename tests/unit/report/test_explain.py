"""Why a tensor has its type, and what a size can reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from llamacpp_pipeline.cli.sensitivity import curve, explain
from llamacpp_pipeline.errors import UsageError
from llamacpp_pipeline.report.explain import curve_text, explanation, reason, validated_text
from llamacpp_pipeline.report.steps import OTHERS, RULES, step_lines
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.document import RESULTS_NAME, ResultsDocument, document_json
from llamacpp_pipeline.results.refinement import Refinement, TriedMix
from llamacpp_pipeline.results.sensitivity import MeasuredTensor, SensitivityFacts, TypeDivergence
from llamacpp_pipeline.units import Estimate
from tests.unit.report.sensed import measured_document
from tests.unit.results.measured import STANDARD, measured_run
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


def test_a_type_is_explained_by_its_curve_and_its_rank() -> None:
    found = document()
    allocation = found.variants[1].allocation
    assert allocation is not None
    chosen = allocation.tensors[1]
    text = explanation(found, "4.5bpw", chosen.name)
    assert text.startswith(f"{chosen.name} of 4.5bpw is q4_K: 4.5000 bits per weight\n")
    assert "sensitivity (alpha): 0.25 ± 0.03 nats of mean KLD per unit" in text
    assert "measured; rank 2 of 2, 1 being the most sensitive" in text
    assert "without measuring, 0.5 would have been assumed" in text
    rows = {line.split()[0]: line for line in text.splitlines() if line.startswith(("q", "bf"))}
    assert rows["q3_K"].endswith("5.000e-03  measured ± 1.0e-05")
    assert rows["q6_K"].endswith("predicted")
    assert rows["q4_K"].endswith("predicted  <- this file")
    assert rows["bf16"].endswith("not quantized")


def test_the_steps_up_and_down_are_priced_against_what_the_last_byte_brings() -> None:
    chosen = tensor("a.weight", 0.25, elements=8000)
    up, down, last = step_lines(chosen, "q4_K", price=1e-6)
    assert up == (
        "one step up, q6_K: 2062 bytes more take 9.25e-04 nats off: 4.5e-07 a byte;"
        " they bring more in another tensor"
    )
    assert down == (
        "one step down, q3_K: 1062 bytes less cost 4.00e-03 nats: 3.8e-06 a byte;"
        " they bring less in any other tensor"
    )
    assert last.startswith("the last byte of a file of this size brings 1.0e-06 nats")


@pytest.mark.parametrize(
    ("price", "which", "words"),
    [(1e-7, 0, "it would be worth them"), (1e-5, 1, "they would bring more in another tensor")],
)
def test_a_better_use_of_bytes_that_was_not_taken_says_why(
    price: float, which: int, words: str
) -> None:
    chosen = tensor("a.weight", 0.25, elements=8000)
    assert list(step_lines(chosen, "q4_K", price=price))[which].endswith(f"; {words} ({RULES})")


def test_the_largest_type_has_no_step_up_and_without_a_price_no_verdict() -> None:
    chosen = tensor("a.weight", 0.25, elements=8000)
    (down,) = step_lines(chosen, "bf16", price=None)
    assert down.startswith("one step down, q6_K:")
    assert down.endswith("a byte")


def test_a_file_made_with_another_sensitivity_says_so() -> None:
    found = document()
    allocation = found.variants[1].allocation
    assert allocation is not None
    few = allocation.tensors[1].model_copy(update={"type": "q3_K", "bpw": 3.4375})
    many = allocation.tensors[0].model_copy(update={"type": "bf16", "bpw": 16.0})
    allocation = allocation.model_copy(update={"tensors": (many, few)})
    row = found.variants[1].model_copy(update={"allocation": allocation})
    found = found.model_copy(update={"variants": (found.variants[0], row)})
    text = explanation(found, "4.5bpw", few.name)
    assert "this file was made with 0.02\n" in text
    assert f"it would be worth them ({OTHERS})" in text


@pytest.mark.parametrize(
    ("kept", "words", "why"),
    [
        ("prior", "the assumed sensitivities", OTHERS),
        ("measured", "the measured sensitivities", RULES),
        ("round 1", "values measured again at the solution (round 1)", OTHERS),
    ],
)
def test_a_file_whose_types_were_validated_says_which_were_kept(
    kept: str, words: str, why: str
) -> None:
    tried = refinement_of(kept)
    assert validated_text(tried) == f"2 choices of types were tried; kept was that of {words}"
    assert reason(tensor("a.weight", 0.25), 0.25, tried) == why


def refinement_of(kept: str) -> Refinement:
    kld = Estimate(value=0.01, stderr=0.001)
    mixes = tuple(
        TriedMix(
            name=name, bpw=4.5, n_changed=0, predicted=0.01, on_probe=kld, kld=kld,
            kld_p999=0.1, same_top=95.0,
        )
        for name in ("prior", "measured")
    )  # fmt: skip
    return Refinement(
        kept=kept, stopped="rounds", validation_digest=None, n_ctx=256, n_chunks=32,
        n_measurements=9, seconds=3.0, mixes=mixes, rounds=(),
    )  # fmt: skip


def test_the_hint_for_an_unknown_tensor_says_where_the_names_are() -> None:
    with pytest.raises(UsageError) as caught:
        explanation(document(), "4.5bpw", "nothing")
    assert caught.value.hint == (
        "its 2 tensors, such as token_embd.weight, are in"
        " plots/allocation-4.5bpw.csv of the results"
    )


def test_a_type_that_is_not_on_the_curve_says_what_the_plan_predicts() -> None:
    found = document()
    allocation = found.variants[1].allocation
    assert allocation is not None
    other = allocation.tensors[1].model_copy(update={"type": "q5_1"})
    allocation = allocation.model_copy(update={"tensors": (allocation.tensors[0], other)})
    row = found.variants[1].model_copy(update={"allocation": allocation})
    found = found.model_copy(update={"variants": (found.variants[0], row)})
    text = explanation(found, "4.5bpw", other.name)
    assert "q5_1 is not on the curve; the file's plan predicts 1.00e-02 nats" in text
    assert "one step" not in text


def test_a_pinned_tensor_and_one_without_a_curve_say_so() -> None:
    found = document(probed=False)
    allocation = found.variants[1].allocation
    assert allocation is not None
    text = explanation(found, "4.5bpw", allocation.tensors[0].name)
    assert "pinned by the recipe" in text
    assert "sensitivity (alpha): 0.6 nats of mean KLD per unit of relative error, assumed" in text
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


def test_each_file_stands_beside_what_its_types_predict_and_the_least_possible() -> None:
    found = measured_document()
    lines = curve_text(found).split("\n\n")
    rows = {line.split()[0]: line.split() for line in lines[2].splitlines()}
    assert rows["file"][-4:] == ["predicted", "ratio", "least", "possible"]
    facts = found.sensitivity
    assert facts is not None
    for one in facts.predictions:
        assert one.predicted is not None
        assert rows[one.label][3:5] == [f"{one.predicted:.6f}", f"{one.ratio:.2f}"]
    assert "times the mean KLD measured, in the median" in lines[3]


def test_a_file_that_cannot_be_predicted_says_why() -> None:
    standard = dict(STANDARD, **{"blk.0.attn_q.weight": "iq4_nl"})
    run = measured_run(standard=standard)
    text = curve_text(results_document(run, redactor=NOBODY))
    assert text.endswith(
        "Q4_K_M has no prediction: what its tensors cost at these types is not known:"
        " iq4_nl (1 tensors).\n"
    )
    old = curve_text(results_document(measured_run(standard={}), redactor=NOBODY))
    assert "its record is of a version that did not keep the types of the tensors" in old


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
