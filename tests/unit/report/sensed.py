"""A document whose sensitivities were measured, whatever its files are."""

from __future__ import annotations

from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.predicted import Prediction
from llamacpp_pipeline.results.sensitivity import SensitivityFacts
from tests.unit.results.measured import measured_run
from tests.unit.results.sample import NOBODY

PART = 0.8  # of what was measured is predicted


def sensed(document: ResultsDocument) -> ResultsDocument:
    """With the tensors of another, and a prediction for each of its own files."""
    found = tuple(
        Prediction(
            label=row.label,
            predicted=PART * row.quality.mean_kld.value,
            measured=row.quality.mean_kld,
            ratio=PART,
        )
        for row in (*document.variants, *document.references)
        if row.quality is not None
    )
    facts = measured_facts().model_copy(update={"predictions": found})
    return document.model_copy(update={"sensitivity": facts})


def measured_document() -> ResultsDocument:
    return results_document(measured_run(), redactor=NOBODY)


def measured_facts() -> SensitivityFacts:
    facts = measured_document().sensitivity
    assert facts is not None
    return facts
