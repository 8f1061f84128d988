"""YAML text as a tree of values that know where they stand; PyYAML's traps are refused by name."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llamacpp_pipeline.errors import ConfigError

Scalar = str | int | float | bool | None
TAG = "tag:yaml.org,2002:"
OCTAL = re.compile(r"[-+]?0[0-9_]+")
SCALARS = yaml.constructor.SafeConstructor()


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a value was written, and the folder that a relative path written there starts from."""

    where: str  # "configs/demo.yaml:6:5", "--set bench=null"
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong, and where."""

    where: str
    path: str  # "variants.2.ftype"; "" for the file as a whole
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.path, self.message) if part)


@dataclass(frozen=True, kw_only=True)
class Node:
    """A value of the YAML. A mapping's values know where their key stands."""

    value: Scalar | tuple[Node, ...] | Mapping[str, Node]
    origin: Origin
    key_origin: Origin | None = None
    text: str | None = None  # of a scalar: as written, without quotes
    quoted: bool = False

    def plain(self) -> Any:  # noqa: ANN401  YAML is any JSON value
        """The value without its places."""
        if isinstance(self.value, Mapping):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, tuple):
            return [node.plain() for node in self.value]
        return self.value

    def child(self, name: str | int) -> Node | None:
        """The value at a key or a list position, where there is one."""
        if isinstance(self.value, Mapping):
            return self.value.get(str(name))
        if isinstance(self.value, tuple) and isinstance(name, int):
            return self.value[name] if 0 <= name < len(self.value) else None
        return None


def dotted(path: tuple[str | int, ...]) -> str:
    """A path as `--set` takes it: `variants.2.ftype`."""
    return ".".join(str(part) for part in path)


def parse(text: str, *, name: str, folder: Path) -> tuple[Node | None, tuple[Problem, ...]]:
    """The tree of one YAML document and what is wrong with its values; None for an empty one.

    Raises:
        ConfigError: where the text is no YAML at all.

    """
    reader = Reader(name=name, folder=folder)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise reader.broken(error) from error
    except RecursionError as error:
        message = f"{name} is nested too deeply"
        raise ConfigError(message) from error
    except yaml.YAMLError as error:
        message = f"{name} is not YAML"
        raise ConfigError(message, evidence=str(error).splitlines()) from error
    node = None if root is None else reader.node(root, (), None)
    return node, tuple(reader.problems)


class Reader:
    """Turns PyYAML's nodes into ours, collecting every problem on the way."""

    def __init__(self, *, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.problems: list[Problem] = []
        self.open: list[int] = []  # the nodes being read: an alias to one of them never ends

    def origin(self, mark: Any) -> Origin:  # noqa: ANN401  PyYAML's marks have no public type
        """Where a mark stands, as an editor counts."""
        if not mark:
            return Origin(where=self.name, folder=self.folder)
        where = f"{self.name}:{mark.line + 1}:{mark.column + 1}"
        return Origin(where=where, folder=self.folder)

    def broken(self, error: yaml.MarkedYAMLError) -> ConfigError:
        """Text that is no YAML, in PyYAML's words."""
        where = self.origin(error.problem_mark or error.context_mark).where
        words = ", ".join(str(part) for part in (error.context, error.problem) if part)
        tab = "'\\t'" in words
        return ConfigError(
            f"{self.name} is not YAML",
            evidence=(f"{where}: {words}",),
            hint="indent with spaces, not tabs" if tab else None,
        )

    def problem(self, node: yaml.Node, path: tuple[str | int, ...], message: str) -> None:
        """Remember what is wrong with a node."""
        where = self.origin(node.start_mark).where
        self.problems.append(Problem(where=where, path=dotted(path), message=message))

    def node(self, node: yaml.Node, path: tuple[str | int, ...], key: Origin | None) -> Node:
        """One node and all beneath it."""
        if id(node) in self.open:
            self.problem(node, path, "an alias to what contains it never ends")
            return Node(value=None, origin=self.origin(node.start_mark), key_origin=key)
        self.open.append(id(node))
        try:
            return self.read(node, path, key)
        finally:
            self.open.pop()

    def read(self, node: yaml.Node, path: tuple[str | int, ...], key: Origin | None) -> Node:
        """A mapping, a list or a scalar."""
        origin = self.origin(node.start_mark)
        if isinstance(node, yaml.MappingNode):
            return Node(value=self.mapping(node, path), origin=origin, key_origin=key)
        if isinstance(node, yaml.SequenceNode):
            items = tuple(self.node(v, (*path, i), None) for i, v in enumerate(node.value))
            return Node(value=items, origin=origin, key_origin=key)
        value = self.scalar(node, path)
        quoted = getattr(node, "style", None) is not None
        return Node(value=value, origin=origin, key_origin=key, text=node.value, quoted=quoted)

    def mapping(self, node: yaml.MappingNode, path: tuple[str | int, ...]) -> dict[str, Node]:
        """Keys as they are written (so `on:` is the key `on`); a second one is a problem."""
        found: dict[str, Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is None or key.tag == f"{TAG}merge":
                self.problem(key, path, "keys are plain words here; `extends:` takes over a file")
                continue
            if name in found:
                first = found[name].key_origin
                self.problem(key, (*path, name), f"given twice, first at {first and first.where}")
            found[name] = self.node(value, (*path, name), self.origin(key.start_mark))
        return found

    def scalar(self, node: yaml.Node, path: tuple[str | int, ...]) -> Scalar:
        """The value YAML 1.1 gives the text, where people read the same in it."""
        kind = node.tag.removeprefix(TAG)
        surprise = misread(node.value, kind)
        if surprise is not None:
            self.problem(node, path, surprise)
            return None
        if kind not in ("null", "bool", "int", "float"):
            return str(node.value)  # a date is text here too
        try:
            value: Scalar = SCALARS.construct_object(node)
        except (ValueError, KeyError):  # `!!int abc`
            self.problem(node, path, f"{node.value} is no {kind}")
            return None
        return value


def misread(text: str, kind: str) -> str | None:
    """What is wrong with a scalar that YAML 1.1 reads otherwise than people do."""
    if kind in ("int", "float") and ":" in text:
        return f"YAML reads {text} as a number to base 60: write '{text}' in quotes"
    if kind == "int" and OCTAL.fullmatch(text):
        decimal = text.replace("_", "").lstrip("+-0") or "0"
        return f"YAML reads {text} as the octal {int(text, 8)}: write {decimal}, or '{text}'"
    if kind == "float" and text.lstrip("+-").lower() in (".inf", ".nan"):
        return f"{text} is not a number that anything here can be"
    if kind not in ("null", "bool", "int", "float", "str", "timestamp", "value"):
        return f"the tag !{kind.lstrip('!')} is not used here"
    return None


def shown(path: Path) -> str:
    """A path as a person here would write it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
