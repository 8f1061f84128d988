"""The evaluation sets that a configuration asks for: where they are, and what they still need."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

from llamacpp_pipeline.config.task_sets import SetPart, task_sets
from llamacpp_pipeline.demo import tasks as demo
from llamacpp_pipeline.demo import text
from llamacpp_pipeline.engine.digests import sha256_of, sha256_of_text, write_atomically
from llamacpp_pipeline.engine.leaves import leaf_from_file
from llamacpp_pipeline.errors import ConfigError, InputError
from llamacpp_pipeline.plan.sources import Source
from llamacpp_pipeline.plan.step import Leaf

if TYPE_CHECKING:
    from llamacpp_pipeline.engine.resolve import Resolver


def resolved_datasets(resolver: Resolver) -> dict[str, Source]:
    """Every part of every set asked for, by its name; what comes from the web is not looked at yet.

    Raises:
        ConfigError: where one cannot be had, or is not what it must be.

    """
    parts = {part.name: part for s in task_sets(resolver.loaded.config) for part in s.parts}
    return {name: _resolved(resolver, p) for name, p in parts.items() if p.url is None}


def _resolved(resolver: Resolver, part: SetPart) -> Source:
    if part.demo is not None:
        return _demo_set(resolver, part.demo)
    if part.hub is None:
        return _file(resolver, part)
    try:
        return resolver.hub(part.hub)
    except InputError as error:
        raise ConfigError(
            f"the evaluation set {part.name} cannot be had: {error.message}",
            evidence=error.evidence,
            hint=f"{error.hint}; or name a local copy with"
            f" `datasets: [{{name: {part.name}, path: FILE}}]`",
        ) from error


def _file(resolver: Resolver, part: SetPart) -> Leaf:
    assert part.at is not None  # noqa: S101  what is neither on the Hub nor of the demo has a path
    leaf = resolver.file(part.at)
    if part.sha256 is not None and leaf.digest != part.sha256:
        raise ConfigError(
            f"the evaluation set {part.name}: {leaf.label} is not the file that was expected",
            evidence=(f"expected sha256 {part.sha256}", f"found           {leaf.digest}"),
            hint="correct `sha256` if this content is wanted",
        )
    return leaf


def _demo_set(resolver: Resolver, name: demo.DemoSet) -> Leaf:
    """A set of the demo, made once for each Python version and each way to make it."""
    version = platform.python_version()
    makers = (Path(demo.__file__), Path(text.__file__))
    maker = sha256_of_text("".join(sha256_of(file) for file in makers))
    file = resolver.texts / f"python-{version}-{maker}" / f"demo-{name}.jsonl"
    if not file.is_file():
        write_atomically(file, demo.demo_tasks(name))
    label = f"demo tasks, {name} (documentation of Python {version})"
    return leaf_from_file(file, label, digests=resolver.digests)
