"""Layers of a configuration: `extends:`, the model asked for, `--set a.b=c`; the later wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from llamacpp_pipeline.config.nodes import Node, Origin, Problem, dotted, parse, shown
from llamacpp_pipeline.errors import ConfigError, UsageError

SOURCES = ("repo", "path", "demo")
TEXT_SOURCES = ("path", "hub", "dataset", "demo")

# Naming a key in a later layer drops these keys of the earlier one: either they name the other
# choices of the same thing, or they describe what is no longer chosen. Sections by their key.
RESETS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "": {"calibration": ("imatrix",), "imatrix": ("calibration",)},
    "model": {
        source: (*(other for other in SOURCES if other != source), "revision", "name")
        for source in SOURCES
    },
    "corpus": {
        source: (*(other for other in TEXT_SOURCES if other != source), "column")
        for source in TEXT_SOURCES
    },
    "calibration": {"corpus": ("texts",), "texts": ("corpus",)},
    "imatrix": {"path": ("hub",), "hub": ("path",)},
    "hub": {"repo": ("revision", "sha256"), "file": ("member", "sha256"), "member": ("sha256",)},
}


def read(path: Path) -> tuple[Node, tuple[Problem, ...]]:
    """The tree of a file, upon that of the file it extends, and so on.

    Raises:
        ConfigError: where a file cannot be read, is no YAML, or extends itself.

    """
    return read_chain(path, ())


def read_chain(path: Path, below: tuple[Path, ...]) -> tuple[Node, tuple[Problem, ...]]:
    """`read`, knowing the files that led here."""
    resolved = path.resolve()
    if resolved in below:
        circle = (*below[below.index(resolved) :], resolved)
        raise ConfigError(
            f"{shown(path)} extends itself",
            evidence=(" -> ".join(shown(step) for step in circle),),
            hint="take one `extends:` out of the circle",
        )
    node, problems = parse(text_of(path), name=shown(path), folder=path.parent)
    root = top_level(node, path)
    parent = root.child("extends")
    if parent is None:
        return root, problems
    root = without(root, ("extends",))
    if not isinstance(parent.value, str):
        told = Problem(
            where=parent.origin.where, path="extends", message="must be the path of a YAML file"
        )
        return root, (*problems, told)
    base, found = read_chain(path.parent / parent.value, (*below, resolved))
    return merge(base, root), (*found, *problems)


def text_of(path: Path) -> str:
    """A config file as text.

    Raises:
        ConfigError: where it is absent, a folder, or no UTF-8.

    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        folder = path.parent
        near = sorted(p.name for p in folder.glob("*.y*ml")) if folder.is_dir() else []
        hint = f"{shown(folder)} has {', '.join(near)}" if near else None
        message = f"{shown(path)} does not exist"
        raise ConfigError(message, hint=hint) from error
    except (OSError, UnicodeDecodeError) as error:
        message = f"{shown(path)} cannot be read as UTF-8 text"
        raise ConfigError(message, evidence=(str(error),)) from error


def top_level(node: Node | None, path: Path) -> Node:
    """The root, which must be a mapping.

    Raises:
        ConfigError: for an empty file or one that holds something else.

    """
    if node is not None and isinstance(node.value, Mapping):
        return node
    what = "is empty" if node is None or node.value is None else "is not a mapping of keys"
    message = f"{shown(path)} {what}"
    raise ConfigError(message, hint="`llamacpp-pipeline init MODEL` writes one that works")


def without(node: Node, keys: Sequence[str]) -> Node:
    """A mapping less some keys."""
    if not isinstance(node.value, Mapping):
        return node
    return replace(node, value={k: v for k, v in node.value.items() if k not in keys})


def merge(base: Node, over: Node, *, section: str = "") -> Node:
    """`over` upon `base`: mappings key by key, all else replaced. Keeps every value's origin."""
    if not (isinstance(base.value, Mapping) and isinstance(over.value, Mapping)):
        return over
    kept = dict(kept_of(base.value, over.value, section))
    for key, node in over.value.items():
        kept[key] = merge(kept[key], node, section=key) if key in kept else node
    return replace(over, value=kept)


def kept_of(base: Mapping[str, Node], over: Mapping[str, Node], section: str) -> dict[str, Node]:
    """What of `base` still holds once `over` is said."""
    gone: set[str] = set()
    for key, dropped in RESETS.get(section, {}).items():
        said = over.get(key)
        same = said is not None and key in base and said.plain() == base[key].plain()
        if said is not None and said.value not in (None, False) and not same:
            gone.update(dropped)
    return {key: node for key, node in base.items() if key not in gone}


def given(keys: Mapping[str, object], *, where: str) -> Node:
    """A layer made of plain values, all from one place; relative paths start where we are."""
    origin = Origin(where=where, folder=Path())

    def tree(value: object) -> Node:
        if isinstance(value, Mapping):
            return Node(value={str(k): tree(v) for k, v in value.items()}, origin=origin)
        if value is None or isinstance(value, (str, int, float, bool)):
            return Node(value=value, origin=origin, key_origin=origin)
        message = f"a layer holds mappings and scalars, not {value!r}"
        raise TypeError(message)

    return tree(keys)


def apply_set(root: Node, text: str) -> tuple[Node, tuple[Problem, ...]]:
    """The tree with one `--set a.b=c` applied; the value is read as YAML.

    Raises:
        UsageError: where the text has no `=` or names no place that could be.

    """
    name, equals, written = text.partition("=")
    path = tuple(name.strip().split("."))
    if not equals or not all(path):
        message = f"--set {text} is not of the form key.key=value"
        raise UsageError(message, hint="for example: --set evaluation.n_ctx=1024")
    origin = Origin(where=f"--set {text}", folder=Path())
    node, problems = parse(written, name=origin.where, folder=origin.folder)
    value = relocated(node or Node(value=None, origin=origin, text=""), origin)
    told = tuple(
        replace(p, where=origin.where, path=dotted((*path, p.path) if p.path else path))
        for p in problems
    )
    return placed(root, path, value, done=()), told


def relocated(node: Node, origin: Origin) -> Node:
    """A tree of which every part has one origin."""
    value = node.value
    if isinstance(value, Mapping):
        value = {key: relocated(child, origin) for key, child in value.items()}
    elif isinstance(value, tuple):
        value = tuple(relocated(child, origin) for child in value)
    return replace(node, value=value, origin=origin, key_origin=origin)


def placed(node: Node | None, path: tuple[str, ...], value: Node, *, done: tuple[str, ...]) -> Node:
    """`node` with `value` at `path`; mappings on the way are made where there are none."""
    if not path:
        return value
    name, rest = path[0], path[1:]
    here = node.value if node is not None else None
    if isinstance(here, tuple):
        return replaced_item(node, path, value, done=done)
    if here is not None and not isinstance(here, Mapping):
        message = f"{value.origin.where}: {dotted(done)} is {here!r}, which has no {name}"
        raise UsageError(message)
    known = dict(here or {})
    child = placed(known.get(name), rest, value, done=(*done, name))
    kept = kept_of(known, {name: child}, done[-1] if done else "")
    origin = node.origin if node is not None else value.origin
    key_origin = node.key_origin if node is not None else value.origin
    return Node(value={**kept, name: child}, origin=origin, key_origin=key_origin)


def replaced_item(
    node: Node | None, path: tuple[str, ...], value: Node, *, done: tuple[str, ...]
) -> Node:
    """A list with one item changed, named by its position from 0."""
    items = node.value if node is not None and isinstance(node.value, tuple) else ()
    if node is None or not path[0].isdecimal() or int(path[0]) >= len(items):
        last = len(items) - 1
        message = (
            f"{value.origin.where}: {dotted(done)} is a list; name a position from 0 to {last}"
        )
        raise UsageError(message, hint=f"or give the whole list: --set {dotted(done)}=[...]")
    at = int(path[0])
    item = placed(items[at], path[1:], value, done=(*done, path[0]))
    return replace(node, value=(*items[:at], item, *items[at + 1 :]))
