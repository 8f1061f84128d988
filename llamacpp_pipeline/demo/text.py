"""Text that every Python installation carries, in three disjoint parts and two slices of one."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import sysconfig
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterator

Part = Literal["train", "calibration", "evaluation"]
Slice = Literal["probe", "selection"]  # some documents of the training part
Text = Literal[Part, Slice]

PARTS: Final[tuple[Part, ...]] = get_args(Part)

# Of 1000 documents, so many go to the part; the rest is for training.
_EVALUATION_PERMILLE: Final = 60
_CALIBRATION_PERMILLE: Final = 60
# Of the training part: from, and below.
_SLICES: Final[dict[str, tuple[int, int]]] = {"selection": (820, 880), "probe": (940, 1000)}

# Not part of every installation, generated, or not documentation of the library.
_EXCLUDED: Final = frozenset(
    {
        "__pycache__",
        "__phello__",
        "dist-packages",
        "distutils",
        "encodings",
        "ensurepip",
        "idlelib",
        "lib-dynload",
        "lib2to3",
        "pydoc_data",
        "site-packages",
        "test",
        "tests",
        "turtledemo",
    },
)
_DOCUMENTED: Final = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_INDENT: Final = "    "
_TOPICS: Final = Path("pydoc_data", "topics.py")
_PARAGRAPH_BREAK: Final = re.compile(r"\n[ \t]*\n\s*?(?=[^\n])")
_CONTROL: Final = re.compile(r"[^\n\t\x20-\x7e\u00a0-\ud7ff\ue000-\ufffd]")


@dataclass(frozen=True)
class _Entry:
    """A text and the line that declares what it documents ("" if nothing does)."""

    declaration: str
    indent: str
    paragraphs: list[str]

    def without(self, taken: list[frozenset[str]]) -> _Entry:
        kept = [
            paragraph
            for paragraph in self.paragraphs
            if not any(normalised(paragraph) in other for other in taken)
        ]
        return _Entry(self.declaration, self.indent, kept)

    def __str__(self) -> str:
        text = "\n\n".join(self.paragraphs)
        if not self.declaration:
            return text
        return f"{self.indent}{self.declaration}\n{indent(text, self.indent + _INDENT)}"


@cache
def demo_text(part: Text) -> str:
    """Return the text of a part, UTF-8 safe and ending with one newline.

    A document is one topic of ``pydoc_data``, or one standard library module:
    its docstrings, each under the line that declares what it documents. The
    hash of a document's name alone decides its part. A paragraph that occurs in
    several parts stays in the evaluation part first, in the calibration part
    second, and is left out of the others: so no two parts share a paragraph.
    The text "probe" is those of the training part's documents whose hashes come
    last, "selection" others of them: they share nothing with the other two parts
    and with each other, but the model has learned from them.
    """
    earlier = [paragraphs(other) for other in _claims_before(part)]
    if part == "selection":
        earlier.append(_paragraphs_of(_documents("probe")))
    documents = _documents(part)
    entries = (entry.without(earlier) for document in documents for entry in document)
    return "\n\n".join(str(entry) for entry in entries if entry.paragraphs) + "\n"


@cache
def paragraphs(part: Part) -> frozenset[str]:
    """Return the normalised paragraphs (declaring lines aside) that the part claims."""
    return _paragraphs_of(_documents(part))


def _paragraphs_of(documents: list[list[_Entry]]) -> frozenset[str]:
    return frozenset(
        normalised(paragraph)
        for document in documents
        for entry in document
        for paragraph in entry.paragraphs
    )


@cache
def evaluation_entries() -> tuple[_Entry, ...]:
    """Return the texts of the evaluation part one by one, each with the line that declares it."""
    return tuple(entry for document in _documents("evaluation") for entry in document)


def part_of(name: str) -> Part:
    """Return the part to which the document of this name belongs, in every Python version."""
    place = int(_digest(name)[:8], 16) % 1000
    if place < _CALIBRATION_PERMILLE:
        return "calibration"
    if place < _CALIBRATION_PERMILLE + _EVALUATION_PERMILLE:
        return "evaluation"
    return "train"


def _is_in(name: str, text: Text) -> bool:
    if text not in _SLICES:
        return part_of(name) == text
    begin, end = _SLICES[text]
    return part_of(name) == "train" and begin <= int(_digest(name)[:8], 16) % 1000 < end


def normalised(paragraph: str) -> str:
    """Return the form in which two paragraphs count as the same: case and space ignored."""
    return " ".join(paragraph.split()).casefold()


def split_paragraphs(text: str) -> list[str]:
    """Split at blank lines; no paragraph is empty."""
    found = _PARAGRAPH_BREAK.split(_clean(text))
    return [paragraph.rstrip() for paragraph in found if paragraph.strip()]


def _claims_before(text: Text) -> tuple[Part, ...]:
    order: tuple[Part, ...] = ("evaluation", "calibration", "train")
    return order[: order.index("train" if text in _SLICES else text)]


@cache
def _documents(text: Text) -> list[list[_Entry]]:
    """Return a text's documents, ordered by the hash of their names: kinds are mixed."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    topics = {f"topic {name}": text for name, text in _topics(stdlib / _TOPICS).items()}
    modules = {f"module {_module_name(path, stdlib)}": path for path in _sources(stdlib)}
    names = sorted((name for name in {*topics, *modules} if _is_in(name, text)), key=_digest)
    return [
        [_Entry("", "", split_paragraphs(topics[name]))]
        if name in topics
        else list(_docstrings(modules[name]))
        for name in names
    ]


def _topics(path: Path) -> dict[str, str]:
    for node in _parse(path).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            return {str(name): str(text) for name, text in ast.literal_eval(node.value).items()}
    msg = f"{path} has no dictionary of topics"
    raise ValueError(msg)


def _sources(stdlib: Path) -> Iterator[Path]:
    for folder, inner, names in os.walk(stdlib):
        inner[:] = sorted(name for name in inner if _is_documented(name))
        for name in sorted(names):
            if name.endswith(".py") and _is_documented(name):
                yield Path(folder, name)


def _is_documented(name: str) -> bool:
    return name not in _EXCLUDED and not name.startswith(("config-", "_sysconfigdata"))


def _module_name(path: Path, stdlib: Path) -> str:
    return ".".join(path.relative_to(stdlib).with_suffix("").parts)


def _docstrings(path: Path) -> Iterator[_Entry]:
    return _walk(_parse(path), "")


def _walk(node: ast.AST, depth: str) -> Iterator[_Entry]:
    """Yield the docstrings of a node and of what it contains, in the order of the source."""
    inner = depth
    if isinstance(node, _DOCUMENTED):
        inner = depth + _INDENT * (not isinstance(node, ast.Module))
        if text := ast.get_docstring(node):
            yield _Entry(_declaration(node), depth, split_paragraphs(text))
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield from _walk(child, inner)


def _declaration(node: ast.AST) -> str:
    """Return the line that declares a class or function: no decorators, no annotations."""
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {node.name}({bases}):" if bases else f"class {node.name}:"
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return f"def {node.name}({ast.unparse(node.args)}):"
    return ""


def _parse(path: Path) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Invalid escapes in the library's own sources.
        return ast.parse(path.read_bytes(), filename=path.name)


def _clean(text: str) -> str:
    unix = text.expandtabs().replace("\r\n", "\n")
    lines = (line.rstrip() for line in _CONTROL.sub("", unix).split("\n"))
    return "\n".join(lines).strip("\n")


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
