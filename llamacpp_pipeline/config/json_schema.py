"""The JSON schema of a YAML file, for editors: names, types, defaults and what each key is for."""

from __future__ import annotations

from typing import Any

from llamacpp_pipeline.config.keys import WHY
from llamacpp_pipeline.config.ladder import RUNGS
from llamacpp_pipeline.config.schema import PipelineConfig

JsonObject = dict[str, Any]
EXTENDS: JsonObject = {
    "type": "string",
    "description": "a YAML file to start from, relative to this one; what is said here wins",
}


def json_schema() -> JsonObject:
    """The schema of a file. A file that extends another may leave out what that one says."""
    schema = PipelineConfig.model_json_schema()
    definitions: JsonObject = schema["$defs"]
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "llamacpp-pipeline configuration"
    explain(schema, "", definitions)
    allow_ladders(definitions["VariantConfig"]["properties"])
    full = schema["properties"]["variants"]["items"]
    schema["properties"]["variants"]["items"] = {"anyOf": [{"type": "string"}, full]}
    schema["properties"] = {"extends": EXTENDS, **schema["properties"]}
    schema.pop("required", None)
    return schema


def allow_ladders(variant: JsonObject) -> None:
    """Let the keys of a ladder, and its names, be lists too."""
    for name in (*RUNGS, "name"):
        one = variant[name]["anyOf"]
        value = next(option for option in one if option.get("type") != "null")
        one.insert(1, {"type": "array", "items": value})


def explain(node: JsonObject, path: str, definitions: JsonObject) -> None:
    """Give each key of a section its line, where the section is not explained already."""
    for name, member in node.get("properties", {}).items():
        inner = f"{path}.{name}" if path else name
        member.setdefault("description", WHY[inner])
        for reference in references(member):
            explain(definitions[reference], inner, definitions)


def references(node: JsonObject) -> tuple[str, ...]:
    """The sections that a key may hold."""
    options = [node, *node.get("anyOf", ()), node.get("items", {})]
    named = (option["$ref"] for option in options if "$ref" in option)
    return tuple(reference.removeprefix("#/$defs/") for reference in named)
