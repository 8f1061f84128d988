"""A document with task scores: each file's average as a published card has it."""

from __future__ import annotations

from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.table import VariantRow
from llamacpp_pipeline.units import Estimate
from tests.unit.report.published import figures
from tests.unit.results.sample import N_TASKS, NOBODY, sample_run

TASKS = {"tasks": {"sets": ["demo-passages", "demo-names"], "n_tasks": N_TASKS}}
STDERR = 0.77  # the cards print none for their averages


def scored_sample(*, datasets: tuple[str, ...] = ()) -> ResultsDocument:
    """The sample with scores on two sets; `datasets` are where the first comes from."""
    found = results_document(sample_run(config=TASKS), redactor=NOBODY)
    assert found.tasks is not None
    first, second = found.tasks.sets
    first = first.model_copy(update={"datasets": datasets})
    facts = found.tasks.model_copy(update={"sets": (first, second)})
    return found.model_copy(update={"tasks": facts})


def scored(document: ResultsDocument, card: str) -> ResultsDocument:
    """The document with the averages of a published card."""
    averages = {cells[0]: float(cells[-1]) for cells in figures(card)["tasks"]}

    def row(one: VariantRow) -> VariantRow:
        value = averages.get(one.file.removesuffix(".gguf"))
        known = None if value is None else Estimate(value=value, stderr=STDERR)
        return one.model_copy(update={"task_average": known})

    return document.model_copy(
        update={
            "tasks": scored_sample().tasks,
            "reference": row(document.reference),
            "variants": tuple(map(row, document.variants)),
            "references": tuple(map(row, document.references)),
        }
    )
