"""A configuration as commented YAML: every key, its value, and a line that says what it is for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from llamacpp_pipeline.config.keys import WHY
from llamacpp_pipeline.config.load import LoadedConfig
from llamacpp_pipeline.config.schema import PipelineConfig
from llamacpp_pipeline.config.variants import VariantConfig
from llamacpp_pipeline.config.wording import section_in

HEAD = """\
# {title}: what `llamacpp-pipeline run --config` of this file does. Every key is here, with its
# default where it is not needed; a key left out has that default. A file may begin with
# `extends: other.yaml` and say only what differs. Check it with `llamacpp-pipeline plan --config`.
"""
INDENT = "  "
WIDTH = 100
INDENTED = 8  # the deepest a key stands
REQUIRED = "..."  # where a key that has no default would need a value
EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "variants": {
        "ftype": "Q4_K_M",
        "name": "Q4_K_M-selective",
        "imatrix": True,
        "tensor_types": {r".*\.ffn_down\.weight$": "q6_K"},
    },
    "selection.candidates": {"name": "plain", "imatrix": False},
    "variants.candidates": {"name": "plain", "imatrix": False},
    "calibration.texts": {"path": "code.txt", "n_chunks": 100, "weight": 2},
    "references": {
        "name": "bartowski-Q4_K_M",
        "repo": "bartowski/Qwen_Qwen3.5-9B-GGUF",
        "file": "Qwen_Qwen3.5-9B-Q4_K_M.gguf",
    },
    "datasets": {"name": "mine", "path": "mine.jsonl", "layout": "task", "n_tasks": 200},
    "card.compare": {"variant": "Q4_K_M-selective", "against": "Q4_K_M"},
}


def commented(loaded: LoadedConfig, *, folder: Path) -> str:
    """The configuration as YAML to be written into `folder`: local paths are relative to it."""
    values = loaded.config.model_dump(mode="json")
    for path in loaded.paths:
        named = loaded.file(path)
        if named is not None:
            place(values, path.split("."), os.path.relpath(named.resolve(), folder.resolve()))
    head = HEAD.format(title=loaded.config.model.label)
    body: list[str] = []
    for name, field in PipelineConfig.model_fields.items():
        body += ["", *entry(field, path=name, value=values[name])]
    return head + "\n".join(body) + "\n"


def place(values: Any, path: list[str], value: str) -> None:  # noqa: ANN401  any JSON value
    """Set the value at a path of keys and list positions."""
    for name in path[:-1]:
        values = values[int(name) if isinstance(values, list) else name]
    values[path[-1]] = value


def section(
    model: type[BaseModel], values: Mapping[str, Any] | None, *, path: str, given: bool = True
) -> list[str]:
    """The lines of all keys of a section; `given` is false within one that is a comment."""
    lines: list[str] = []
    for name, field in model.model_fields.items():
        value = (values or {}).get(name, plain_default(field))
        lines += entry(field, path=f"{path}.{name}", value=value, given=given)
    return lines


def entry(
    field: FieldInfo,
    *,
    path: str,
    value: Any,  # noqa: ANN401  any JSON value
    given: bool = True,
) -> list[str]:
    """The lines of one key and all beneath it."""
    inner = section_in(field.annotation)
    if inner is None:
        return key_lines(path, scalar(value))
    if isinstance(value, list):
        return listed(inner, path=path, items=value)
    comment = given and value is None
    within = section(inner, value, path=path, given=given and not comment)
    lines = [*key_lines(path, ""), *(INDENT + text for text in within)]
    return [f"# {text}" for text in lines] if comment else lines


def key_lines(path: str, value: str) -> list[str]:
    """`key: value  # what it is for`; where that is too long, what it is for stands above."""
    said, why = f"{path.rpartition('.')[2]}: {value}".rstrip(), WHY[path]
    if len(said) + len(why) <= WIDTH - INDENTED:
        return [f"{said}  # {why}"]
    return [f"# {why}", said]


def listed(inner: type[BaseModel], *, path: str, items: list[Any]) -> list[str]:
    """A list of sections, and one item written out as a comment with every key it can have."""
    lines = key_lines(path, "" if items else "[]")
    lines += [f"{INDENT}- {item_text(inner, item)}" for item in items]
    full = section(inner, EXAMPLES[path], path=path)
    marks = ("- ", *(INDENT for _ in full[1:]))
    return [*lines, *(f"{INDENT}# {mark}{text}" for mark, text in zip(marks, full, strict=True))]


def item_text(inner: type[BaseModel], item: Mapping[str, Any]) -> str:
    """An item on one line, less what is as by default; a bare file type where that is all."""
    said = dict(changed(inner, item))
    if inner is VariantConfig and set(said) == {"ftype"}:
        return str(said["ftype"])
    return scalar(said)


def changed(inner: type[BaseModel], item: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The keys of an item that differ from their defaults."""
    for name, field in inner.model_fields.items():
        if item[name] != plain_default(field):
            yield name, item[name]


def plain_default(field: FieldInfo) -> Any:  # noqa: ANN401  any JSON value
    """A field's default as JSON has it; dots where it has none."""
    if field.is_required():
        return None if section_in(field.annotation) else REQUIRED
    default = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(default, BaseModel):
        return default.model_dump(mode="json")
    return list(default) if isinstance(default, tuple) else default


def scalar(value: Any) -> str:  # noqa: ANN401  any JSON value
    """A value on one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")
