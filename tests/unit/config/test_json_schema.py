"""The JSON schema that editors use is the one the program means."""

from __future__ import annotations

import json
from pathlib import Path

from llamacpp_pipeline.config.choose import CONFIGS
from llamacpp_pipeline.config.json_schema import json_schema


def test_the_schema_in_the_repository_is_up_to_date() -> None:
    stored = json.loads((CONFIGS / "pipeline.schema.json").read_text(encoding="utf-8"))

    assert stored == json_schema(), "configs/pipeline.schema.json is stale: run `make schema`"


def test_a_bare_file_type_and_extends_are_allowed() -> None:
    properties = json_schema()["properties"]

    assert {"type": "string"} in properties["variants"]["items"]["anyOf"]
    assert properties["extends"]["type"] == "string"


def test_keys_are_explained_inside_sections_too() -> None:
    definitions = json_schema()["$defs"]

    assert (
        "llama.cpp's file type"
        in definitions["VariantConfig"]["properties"]["ftype"]["description"]
    )
    assert "repository" in definitions["HubFile"]["properties"]["repo"]["description"]


def test_every_recipe_names_the_schema() -> None:
    first = "# yaml-language-server: $schema=pipeline.schema.json"

    for recipe in Path(CONFIGS).glob("*.yaml"):
        assert recipe.read_text(encoding="utf-8").startswith(first), recipe.name
