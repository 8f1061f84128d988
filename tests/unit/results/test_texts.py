"""A corpus that was made of rows is known by its text, under the name of the rows' file."""

from __future__ import annotations

from dataclasses import replace

from llamacpp_pipeline.plan.step import Leaf, OutputRef, Plan
from llamacpp_pipeline.results.conditions import file_ref
from llamacpp_pipeline.results.record import OutputFile
from tests.unit.results.sample import digest, sample_run


def test_a_text_of_rows_is_known_by_its_own_content() -> None:
    run = sample_run()
    reference = run.plan.step("reference")
    rows = Leaf(
        digest=digest("rows"),
        path=reference.inputs["corpus"].path,  # type: ignore[union-attr]
        label="wiki.parquet",
        size_bytes=70,
    )
    text = replace(reference, key="text/evaluation", inputs={"source": rows})
    made = OutputFile(output="text", name="text.txt", size_bytes=90, sha256=digest("text"))
    record = run.records["reference"].model_copy(update={"stage": "text", "outputs": (made,)})
    run = replace(
        run,
        plan=Plan(steps=(*run.plan.steps, text)),
        records={**run.records, text.key: record},
    )

    found = file_ref(run, OutputRef(step=text.key, output="text"))

    assert (found.label, found.sha256, found.size_bytes) == ("wiki.parquet", digest("text"), 90)
    assert found.source is None
