"""What the configuration's sources turned out to be: all that planning needs to know of the world.

`engine/resolve.py` makes these values; the plan stays pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llamacpp_pipeline.plan.step import Leaf
from llamacpp_pipeline.stages.inspect import InspectResult


@dataclass(frozen=True, kw_only=True)
class HubCommit:
    """A Hub repository at the commit that its revision names now."""

    commit: str  # the full sha
    size_bytes: int | None = None  # of the files wanted, where the Hub has said so


Source = Leaf | HubCommit


@dataclass(frozen=True, kw_only=True)
class ModelHints:
    """What is known of the model before it is inspected; None is unknown."""

    vocab_size: int | None = None
    n_parameters: int | None = None
    tensor_bytes: int | None = None  # of the safetensors files
    n_layers: int | None = None
    matrices: Mapping[str, int] = field(default_factory=dict)  # role -> how many; empty: unknown


UNKNOWN = ModelHints()


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Every source that the configuration names, resolved."""

    model: Source
    evaluation: Source
    calibration: tuple[Source, ...] = ()  # as many as config.calibration has texts
    imatrix: Source | None = None  # with config.imatrix
    sensitivity: Source | None = None  # with config.sensitivity
    selection: Source | None = None  # with config.selection_text
    references: tuple[Source, ...] = ()  # as many as config.references
    datasets: Mapping[str, Source] = field(default_factory=dict)  # parts of sets, by name
    hints: ModelHints = UNKNOWN


def hints_of(facts: InspectResult) -> ModelHints:
    """Hints from a model that was inspected, in this run or an earlier one."""
    return ModelHints(
        vocab_size=facts.vocab_size,
        n_parameters=facts.n_parameters,
        tensor_bytes=facts.tensor_bytes,
        n_layers=facts.n_layers,
        matrices=facts.matrices,
    )


def leaves(sources: Sources) -> Mapping[str, Leaf]:
    """The sources that are at hand, by their name in `Sources`."""
    named = {
        "model": sources.model,
        "evaluation": sources.evaluation,
        **{f"calibration {at + 1}": text for at, text in enumerate(sources.calibration)},
        "imatrix": sources.imatrix,
        "sensitivity": sources.sensitivity,
        "selection": sources.selection,
        **{f"reference {at + 1}": file for at, file in enumerate(sources.references)},
        **{f"dataset {name}": file for name, file in sources.datasets.items()},
    }
    return {name: source for name, source in named.items() if isinstance(source, Leaf)}
