"""Which YAML file a run starts from: the one named, the one for the model, or the defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from llamacpp_pipeline.config.spelling import did_you_mean
from llamacpp_pipeline.errors import UsageError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A YAML file, and the model to use instead of its own."""

    path: Path
    model: Mapping[str, str] | None = None  # {"repo": ...} or {"path": ...}


def choose(model: str | None, config: Path | None, configs: Path = CONFIGS) -> Choice:
    """The file to start from.

    Without either it is the embedded demo model's. A Hub id finds the recipe `<name>.yaml` whose
    own model or base model it is (so `Qwen/Qwen3.5-0.8B` may lead to another publisher's copy of
    that model); the same name by somebody else gets the defaults. A local folder gets them too.

    Raises:
        UsageError: where the model is neither a Hub id nor a folder.

    """
    if model is None:
        return Choice(path=config or configs / "demo.yaml")
    source = model_source(model, configs)
    if config is not None:
        return Choice(path=config, model=source)
    recipe = configs / f"{model.rpartition('/')[2]}.yaml"
    if "repo" in source and recipe.is_file() and model.casefold() in models_of(recipe):
        return Choice(path=recipe)
    return Choice(path=configs / "defaults.yaml", model=source)


def model_source(model: str, configs: Path) -> dict[str, str]:
    """What `model:` would say in YAML. A folder that exists comes before the Hub."""
    if Path(model).expanduser().is_dir():
        return {"path": model}
    if HUB_ID.fullmatch(model):
        return {"repo": model}
    known = sorted(name for recipe in configs.glob("*.yaml") for name in models_named(recipe))
    raise UsageError(
        f"{model} is neither a folder nor a Hub id such as Qwen/Qwen3.5-9B"
        + did_you_mean(model, known),
        hint="name a folder with config.json and safetensors, or organisation/model",
    )


def models_of(recipe: Path) -> frozenset[str]:
    """The Hub ids that a recipe is for, case folded: its model's, and that model's base."""
    return frozenset(name.casefold() for name in models_named(recipe))


def models_named(recipe: Path) -> tuple[str, ...]:
    """The Hub ids that a recipe names; none where it cannot be read, which `load` will say."""
    try:
        document = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return ()
    root = document if isinstance(document, dict) else {}
    sections = ((root.get("model"), "repo"), (root.get("card"), "base_model"))
    found = (s.get(key) for s, key in sections if isinstance(s, dict))
    return tuple(name for name in found if isinstance(name, str))
