"""YAML to PipelineConfig: every problem at once, each with its place and what to write instead."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from llamacpp_pipeline.config.choose import CONFIGS, Choice, choose
from llamacpp_pipeline.config.ladder import with_full_recipes
from llamacpp_pipeline.config.nodes import Node, Origin, Problem
from llamacpp_pipeline.config.override import apply_set, given, merge, read
from llamacpp_pipeline.config.schema import PipelineConfig, stem_of
from llamacpp_pipeline.config.wording import problems_of
from llamacpp_pipeline.errors import ConfigError

# Keys whose value is a file or folder, relative to the file that says so.
PATHS = {
    "model.path": "folder",
    "evaluation.corpus.path": "file",
    "calibration.corpus.path": "file",
    "sensitivity.corpus.path": "file",
    "selection.corpus.path": "file",
    "imatrix.path": "file",
    "toolchain.path": "folder",
    "card.template": "file",
}
LISTS = ("calibration.texts", "references", "datasets")  # of whose items each may have a `path`
CARD_OF_ANOTHER = {"title": None, "base_model": None, "license": None}


@dataclass(frozen=True, kw_only=True)
class LoadedConfig:
    """A configuration and where each of its values was written."""

    config: PipelineConfig
    source: Path  # the YAML file it began with
    tree: Node

    @property
    def paths(self) -> tuple[str, ...]:
        """The dotted paths at which a file or folder can be named."""
        return tuple(paths_in(self.tree))

    def origin(self, path: str) -> str:
        """Where the value at a dotted path was written: `file:line:column`, or `default`."""
        node = self.node(path)
        return "default" if node is None else node.origin.where

    def file(self, path: str) -> Path | None:
        """The file or folder that the value at a dotted path names; None where none is given.

        A relative path starts from the YAML file it is written in, or from the current folder
        where it was given on the command line.
        """
        node = self.node(path)
        if node is None or not isinstance(node.value, str):
            return None
        return node.origin.folder / Path(node.value).expanduser()

    def node(self, path: str) -> Node | None:
        """The value at a dotted path, where one was written."""
        return find(self.tree, path.split("."))


def load(
    path: Path | None = None,
    *,
    model: str | None = None,
    overrides: Sequence[str] = (),
    configs: Path = CONFIGS,
) -> LoadedConfig:
    """The configuration of a YAML file, or the one that suits a model, with `--set`s applied.

    Args:
        path: The YAML file; None: the one in `configs` for the model, else the defaults.
        model: A Hub id or a local folder, in place of the file's own model; None: the file's,
            and without a file the embedded demo model.
        overrides: `a.b=c`, applied in order.
        configs: The folder of the recipes that come with the program.

    Raises:
        ConfigError: listing every problem.
        UsageError: where `model` or an override cannot be understood.

    """
    choice = choose(model, path, configs)
    tree, problems = layered(choice, overrides)
    config, found = validated(tree)
    misread = {problem.path for problem in problems}  # those values are None by now
    found = tuple(problem for problem in found if problem.path not in misread)
    problems = (*problems, *found, *absent_files(tree))
    if config is None or problems:
        raise refusal(choice.path, problems)
    return LoadedConfig(config=config, source=choice.path, tree=tree)


def layered(choice: Choice, overrides: Sequence[str]) -> tuple[Node, tuple[Problem, ...]]:
    """The file, the model asked for, the overrides: one tree."""
    tree, problems = read(choice.path)
    tree = with_full_recipes(tree)
    if choice.model is not None:
        asked: Mapping[str, object] = {"model": choice.model, "card": CARD_OF_ANOTHER}
        tree = merge(tree, given(asked, where="the model asked for"))
    for text in overrides:
        tree, found = apply_set(tree, text)
        tree, problems = with_full_recipes(tree), (*problems, *found)
    return tree, problems


def validated(tree: Node) -> tuple[PipelineConfig | None, tuple[Problem, ...]]:
    """The model of a tree, or what keeps it from being one.

    Validated as JSON and strictly: `yes` is no number, "512" is no 512, but a list is a tuple.
    """
    try:
        config = PipelineConfig.model_validate_json(json.dumps(tree.plain()), strict=True)
    except ValidationError as error:
        return None, problems_of(error, tree)
    return named(config, tree), ()


def named(config: PipelineConfig, tree: Node) -> PipelineConfig:
    """The configuration with its model's name filled in; a folder `.` is known by its own name."""
    if config.model.name is not None:
        return config
    source = config.model.repo or "demo"
    node = find(tree, ("model", "path"))
    if node is not None and config.model.path is not None:
        source = (node.origin.folder / Path(config.model.path).expanduser()).resolve().name
    model = config.model.model_copy(update={"name": stem_of(source)})
    return config.model_copy(update={"model": model})


def absent_files(tree: Node) -> tuple[Problem, ...]:
    """Every path in the configuration that leads nowhere."""
    problems = []
    for path, kind in paths_in(tree).items():
        node = find(tree, path.split("."))
        if node is None or not isinstance(node.value, str):
            continue
        named_path = node.origin.folder / Path(node.value).expanduser()
        if not (named_path.is_dir() if kind == "folder" else named_path.is_file()):
            message = f"there is no {kind} {node.value}" + beside(node.origin)
            problems.append(Problem(where=node.origin.where, path=path, message=message))
    return tuple(problems)


def paths_in(tree: Node) -> dict[str, str]:
    """Where a file or folder can be named, lists included."""
    found = dict(PATHS)
    for name in LISTS:
        listed = find(tree, name.split("."))
        if listed is not None and isinstance(listed.value, tuple):
            found |= {f"{name}.{at}.path": "file" for at in range(len(listed.value))}
    return found


def beside(origin: Origin) -> str:
    """Where a relative path was looked for, said only where it is not the current folder."""
    return "" if origin.folder == Path() else f" (seen from {origin.folder})"


def find(tree: Node, path: Sequence[str]) -> Node | None:
    """The value at a path of keys and list positions."""
    node: Node | None = tree
    for name in path:
        if node is None:
            return None
        node = node.child(int(name) if name.isdecimal() and isinstance(node.value, tuple) else name)
    return node


def refusal(path: Path, problems: Sequence[Problem]) -> ConfigError:
    """All problems in one error, in the order of the file."""
    lines = tuple(dict.fromkeys(str(problem) for problem in problems))
    count = "a problem" if len(lines) == 1 else f"{len(lines)} problems"
    return ConfigError(
        f"{path.name} has {count}",
        evidence=lines,
        hint="`llamacpp-pipeline init MODEL` shows every key with its default",
    )
