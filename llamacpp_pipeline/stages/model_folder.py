"""What lies in a model folder beside the weights: the config, the tokenizer, the model card."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from llamacpp_pipeline.errors import InputError

Json = Mapping[str, object]

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json", "vocab.txt")
FRONT_MATTER = re.compile(r"\A---\s*\n(?P<yaml>.*?)\n---\s*(?:\n|\Z)", re.DOTALL)
LAYER = re.compile(r"(?:^|\.)layers\.(?P<n>\d+)\.")
MTP_COUNTS = ("mtp_num_hidden_layers", "num_nextn_predict_layers")
# Architectures whose own name decides, whatever their text_config says (as the converter does).
NAMED_ABOVE = frozenset(
    {
        "StepVLForConditionalGeneration",
        "Sarashina2VisionForCausalLM",
        "Exaone4_5_ForConditionalGeneration",
        "Step3p7ForConditionalGeneration",
        "KimiK3ForConditionalGeneration",
    }
)


def read_config(folder: Path) -> Json:
    """The folder's config.json.

    Raises:
        InputError: where it is absent or not a JSON object.

    """
    if not folder.is_dir():
        raise InputError(f"{folder.name} is not a folder", hint="name a model folder or repository")
    file = folder / "config.json"
    if not file.is_file():
        raise InputError(
            f"{folder.name}: the model folder has no config.json",
            evidence=[f"found: {name}" for name in sorted(p.name for p in folder.iterdir())[:6]],
            hint="name a folder in Hub format: config.json, tokenizer files, safetensors",
        )
    return read_object(file)


def read_object(file: Path) -> Json:
    """A file that holds one JSON object.

    Raises:
        InputError: where it does not.

    """
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file.name} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{file.name} is not a JSON object")
    return value


def text_config(config: Json) -> Json:
    """The language model's part of a config; the whole where it has no parts."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def architecture(config: Json) -> str:
    """The first of `architectures`.

    Raises:
        InputError: without one.

    """
    found = first_architecture(config) or first_architecture(text_config(config))
    if found is None:
        raise InputError(
            "config.json names no architecture",
            hint="add `architectures`, as transformers writes it, or choose another model",
        )
    return found


def text_architecture(config: Json) -> str:
    """The architecture by which the converter chooses how to convert the language model."""
    above = first_architecture(config)
    if above in NAMED_ABOVE:
        return str(above)
    return first_architecture(text_config(config)) or architecture(config)


def first_architecture(config: Json) -> str | None:
    """The first of a config's `architectures`, if it has any."""
    listed = config.get("architectures")
    return str(listed[0]) if isinstance(listed, list) and listed else None


def whole_number(config: Json, *keys: str) -> int | None:
    """The first of these keys that holds a number, in the language model's part or above it."""
    for part in (text_config(config), config):
        for key in keys:
            value = part.get(key)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
    return None


def announces_mtp(config: Json) -> bool:
    """Whether the config speaks of multi-token-prediction layers."""
    return (whole_number(config, *MTP_COUNTS) or 0) > 0


def holds_mtp(config: Json, tensor_names: Iterable[str]) -> bool:
    """Whether multi-token-prediction tensors are there: named so, or past the last layer."""
    n_layers = whole_number(config, "num_hidden_layers")
    past_end = announces_mtp(config) and n_layers is not None
    for name in tensor_names:
        if name.startswith(("mtp.", "model.mtp.")):
            return True
        layer = LAYER.search(name)
        is_language = "visual" not in name and "vision" not in name
        if past_end and layer and is_language and int(layer["n"]) >= (n_layers or 0):
            return True
    return False


def has_tokenizer(folder: Path) -> bool:
    """Whether any of the usual tokenizer files is there."""
    return any((folder / name).is_file() for name in TOKENIZERS)


def has_chat_template(folder: Path) -> bool:
    """Whether a chat template lies beside the tokenizer or in its config."""
    if any(folder.glob("chat_template.*")):
        return True
    file = folder / "tokenizer_config.json"
    return file.is_file() and bool(read_object(file).get("chat_template"))


def card_data(folder: Path) -> Json:
    """The front matter of the model card; empty where there is no card or no front matter.

    Raises:
        InputError: where the front matter is not YAML.

    """
    file = folder / "README.md"
    if not file.is_file():
        return {}
    match = FRONT_MATTER.match(file.read_text(encoding="utf-8", errors="replace"))
    if match is None:
        return {}
    try:
        value = yaml.safe_load(match["yaml"])
    except yaml.YAMLError as error:
        first = str(error).splitlines()[0]
        raise InputError(
            "README.md: the front matter is not YAML", evidence=(first,), hint="correct it"
        ) from error
    return value if isinstance(value, dict) else {}
