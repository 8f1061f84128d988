"""The card's section on activations: which layers stand out, in one small table."""

from __future__ import annotations

from collections.abc import Callable

from llamacpp_pipeline.report.figures import number
from llamacpp_pipeline.report.markdown import Markdown, cell_code, escaped, table
from llamacpp_pipeline.results.imatrix import ImatrixFacts
from llamacpp_pipeline.stages.imatrix_facts import Distance, LayerActivity

SHOWN = 3
EMPTY = Markdown("")
Figure = Callable[[LayerActivity], float | None]


def layer_table(facts: ImatrixFacts) -> Markdown:
    """The most energetic, the most heavy-tailed and the least changed layers."""
    normalised = {one.layer: one.normalised for one in facts.layer_h_diag}
    kind = "E[x]" if all(layer.has_means for layer in facts.layers) else "E[x²]"
    rows = [
        _row(
            "Most energetic: H_diag, of the largest", facts, lambda one: normalised.get(one.layer)
        ),
        _row("Most heavy-tailed: excess kurtosis of E[x²] over the channels", facts, heavy_tails),
        _row(f"Least changed: cosine similarity of {kind} to the layer before", facts, unchanged),
        _tensors(facts),
    ]
    shown = [row for row in rows if row is not None]
    return table(["What stands out", "Layer (figure)"], shown, text_columns=2) if shown else EMPTY


def heavy_tails(layer: LayerActivity) -> float | None:
    """How unevenly the energy is spread."""
    return None if layer.mean_squares is None else layer.mean_squares.excess_kurtosis


def unchanged(layer: LayerActivity) -> float | None:
    """How much a layer's inputs are those of the layer before."""
    found = change(layer)
    return None if found is None else found.cosine_similarity


def change(layer: LayerActivity) -> Distance | None:
    """Against the layer before: by signed means where they are known, else by mean squares."""
    if layer.to_previous is None:
        return None
    return layer.to_previous.means if layer.has_means else layer.to_previous.mean_squares


def _row(name: str, facts: ImatrixFacts, figure: Figure) -> list[str] | None:
    known = [(value, layer.layer) for layer in facts.layers if (value := figure(layer)) is not None]
    if not known:
        return None
    largest = sorted(known, key=lambda pair: (-pair[0], pair[1]))[:SHOWN]
    return [
        escaped(name),
        ", ".join(f"{layer} ({number(value, digits=2)})" for value, layer in largest),
    ]


def _tensors(facts: ImatrixFacts) -> list[str] | None:
    largest = sorted(facts.tensor_h_diag, key=lambda one: (-one.normalised, one.name))[:SHOWN]
    if not largest:
        return None
    cells = (f"{cell_code(one.name)} ({number(one.normalised, digits=2)})" for one in largest)
    return [escaped("Most sensitive tensors: H_diag, of the largest"), ", ".join(cells)]
