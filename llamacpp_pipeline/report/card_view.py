"""What the card's sections can print: one named value, or function of the results, each.

A section of your own: a function here, and its text in templates/sections/<name>.md.j2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from llamacpp_pipeline.report.activations import EMPTY, layer_table
from llamacpp_pipeline.report.allocation import fit_lines, kld_lines, target_table
from llamacpp_pipeline.report.card_tables import (
    command_block,
    override_table,
    percentile_tables,
    quality_table,
    row_name,
    speed_table,
    tail_table,
    worst_weights,
)
from llamacpp_pipeline.report.choices import choice_lines
from llamacpp_pipeline.report.choosing import (
    choose_table,
    other_files,
    recipe_table,
    start_commands,
)
from llamacpp_pipeline.report.figures import RHO_PPL, digest, estimate
from llamacpp_pipeline.report.markdown import Markdown
from llamacpp_pipeline.report.plots.pictures import ALLOCATION
from llamacpp_pipeline.report.provenance import provenance_table
from llamacpp_pipeline.report.refinements import refinement_lines, refinement_table
from llamacpp_pipeline.report.sensitivities import (
    change_tables,
    fit_line,
    measured_lines,
    predicted_lines,
    predicted_table,
    sensitive_table,
    source_text,
)
from llamacpp_pipeline.report.task_tables import (
    average_table,
    cut_text,
    difference_table,
    interval_table,
    score_table,
    set_lines,
    verdict,
)
from llamacpp_pipeline.report.terminal import speed_machine
from llamacpp_pipeline.results.document import ResultsDocument

COMMIT = re.compile(r"[0-9a-f]{7,40}")  # a user's own checkout may have none


def view_of(document: ResultsDocument, *, pictures: Mapping[str, Markdown]) -> dict[str, object]:
    """Every name that a template can use."""
    return {
        "document": document,
        "model": document.model,
        "under": document.conditions,
        "publication": document.publication,
        "weights": document.weights,
        "pictures": pictures,
        "maps": [text for name, text in pictures.items() if name.startswith(ALLOCATION) and text],
        **{name: made(document) for name, made in VALUES.items()},
    }


def commit(document: ResultsDocument) -> str:
    """llama.cpp's commit, where it is one."""
    found = document.conditions.commit
    return digest(found) if COMMIT.fullmatch(found) else ""


def fallbacks(document: ResultsDocument) -> list[str]:
    """The variants of which tensors were stored in another type than asked for."""
    return [row.label for row in document.variants if row.recipe and row.recipe.fallbacks]


def larger_by(document: ResultsDocument) -> str:
    """By how much a candidate could be larger than its variant, percent."""
    share = max((selection.larger_by for selection in document.selections), default=0.0)
    return f"{100 * share:g}"


def flattered(document: ResultsDocument) -> bool:
    """Whether files were chosen by the very figures that they show."""
    return any(s.chosen_on is None or not s.chosen_on.own_text for s in document.selections)


def settled_by_tasks(document: ResultsDocument) -> bool:
    """Whether a file was chosen by its task scores."""
    return any(selection.reason == "tasks" for selection in document.selections)


def noise_floor(document: ResultsDocument) -> str:
    """The reference's mean KLD against its own logits."""
    floor = document.noise_floor
    return "" if floor is None else estimate(floor.mean_kld, digits=6)


def notes(document: ResultsDocument) -> Markdown:
    """The publisher's own Markdown."""
    return Markdown((document.publication.notes or "").strip())


VALUES: Mapping[str, Callable[[ResultsDocument], object]] = {
    "alpha_sources": source_text,
    "activations": lambda d: EMPTY if d.imatrix is None else layer_table(d.imatrix),
    "choices": choice_lines,
    "choose": choose_table,
    "commands": command_block,
    "commit": commit,
    "fallbacks": fallbacks,
    "fits": fit_lines,
    "wanted": kld_lines,
    "flattered": flattered,
    "has_memory": lambda d: any(row.memory for row in d.variants),
    "has_quality": lambda d: any(row.quality is not None for row in d.variants),
    "larger_by": larger_by,
    "max_abs": lambda d: "" if d.weights is None else f"{d.weights.max_abs:.6g}",
    "noise_floor": noise_floor,
    "notes": notes,
    "others": other_files,
    "overrides": override_table,
    "percentiles": percentile_tables,
    "predicted": predicted_table,
    "predicted_lines": predicted_lines,
    "provenance": provenance_table,
    "quality": quality_table,
    "recipes": recipe_table,
    "refined": refinement_table,
    "refinements": refinement_lines,
    "repeated": lambda d: d.speed is not None and d.speed.repetitions > 1,
    "rho_ppl": lambda _: RHO_PPL,
    "settled_by_tasks": settled_by_tasks,
    "speed": speed_table,
    "sensitive": sensitive_table,
    "sensitivity_changes": change_tables,
    "sensitivity_fit": fit_line,
    "sensitivity_lines": measured_lines,
    "start": start_commands,
    "tail": tail_table,
    "targets": target_table,
    "speed_machine": speed_machine,
    "task_averages": average_table,
    "task_cut": cut_text,
    "task_differences": difference_table,
    "task_intervals": interval_table,
    "task_scores": lambda d: score_table(d, [row_name(row) for row in d.rows()]),
    "task_sets": lambda d: list(set_lines(d)),
    "task_verdict": verdict,
    "worst_weights": worst_weights,
}
