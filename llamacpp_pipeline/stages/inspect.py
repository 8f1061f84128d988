"""What a model folder says about itself: architecture, parameters, vocabulary, licence."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import click
from pydantic import PositiveInt, ValidationError

from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages import model_folder, own_tool
from llamacpp_pipeline.stages.base import Argv, Frozen, Paths, ToolStage
from llamacpp_pipeline.stages.llama_log import complaints
from llamacpp_pipeline.stages.safetensors_files import StoredTensor, checkpoint_tensors

TOOL = "llamacpp_pipeline.stages.inspect"
EXPERT = re.compile(r"experts\.\d+\.")
NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
NEVER_QUANTIZED = ("norm", "conv1d", ".gate.weight", "router")  # parts of names; gate: of experts
VISION = ("visual.", "vision_tower.", "vision_model.", "model.visual.", "model.vision_tower.")


class InspectParams(Frozen):
    """Nothing changes what is read."""


class InspectResult(Frozen):
    architecture: str  # config.json's first "architectures" entry
    model_type: str
    n_parameters: PositiveInt  # values in the safetensors files
    n_tensors: PositiveInt
    tensor_bytes: PositiveInt
    largest_tensor_bytes: PositiveInt
    dtypes: dict[str, int]  # "BF16" -> values stored in it
    vocab_size: PositiveInt
    n_ctx_train: PositiveInt | None
    n_layers: PositiveInt | None
    matrices: dict[str, PositiveInt] = {}  # role -> how many can be quantized, experts as one
    has_mtp: bool  # multi-token-prediction tensors are in the files
    says_mtp: bool  # the config announces them
    has_vision: bool
    license: str | None  # from the front matter of README.md
    tags: tuple[str, ...]
    languages: tuple[str, ...]
    pipeline_tag: str | None
    chat_template: bool


def inspect_folder(folder: Path) -> InspectResult:
    """The facts.

    Raises:
        InputError: where the folder is not a whole model in Hub format.

    """
    config = model_folder.read_config(folder)
    tensors = checkpoint_tensors(folder)
    if not tensors:
        raise InputError(f"{folder.name}: the safetensors files hold no tensors")
    if not model_folder.has_tokenizer(folder):
        raise InputError(
            f"{folder.name}: the model folder has no tokenizer",
            hint=f"add one of {', '.join(model_folder.TOKENIZERS)}",
        )
    names = [tensor.name for tensor in tensors]
    card = model_folder.card_data(folder)
    return InspectResult(
        architecture=model_folder.architecture(config),
        model_type=str(config.get("model_type", "")),
        n_parameters=sum(tensor.n_values for tensor in tensors),
        n_tensors=len(tensors),
        tensor_bytes=sum(tensor.n_bytes for tensor in tensors),
        largest_tensor_bytes=max(tensor.n_bytes for tensor in tensors),
        dtypes=dtypes(tensors),
        vocab_size=vocab_size(config, tensors),
        n_ctx_train=model_folder.whole_number(config, "max_position_embeddings", "n_positions"),
        n_layers=model_folder.whole_number(config, "num_hidden_layers", "n_layer"),
        matrices=matrices(tensors),
        has_mtp=model_folder.holds_mtp(config, names),
        says_mtp=model_folder.announces_mtp(config),
        has_vision=any(name.startswith(VISION) for name in names),
        license=text(card.get("license")),
        tags=texts(card.get("tags")),
        languages=texts(card.get("language")),
        pipeline_tag=text(card.get("pipeline_tag")),
        chat_template=model_folder.has_chat_template(folder),
    )


def matrices(tensors: tuple[StoredTensor, ...]) -> dict[str, int]:
    """How many tensors of each role llama-quantize will be able to change; about, by their names.

    A role is a name without its layer; all experts of a layer become one tensor.
    """
    kept = {
        EXPERT.sub("experts.", tensor.name)
        for tensor in tensors
        if sum(extent > 1 for extent in tensor.shape) > 1
        and not tensor.name.startswith(VISION)
        and not any(part in tensor.name for part in NEVER_QUANTIZED)
    }
    return dict(sorted(Counter(NUMBER.sub("N", name) for name in kept).items()))


def dtypes(tensors: tuple[StoredTensor, ...]) -> dict[str, int]:
    """How many values each type stores."""
    count: Counter[str] = Counter()
    for tensor in tensors:
        count[tensor.dtype] += tensor.n_values
    return dict(sorted(count.items()))


def vocab_size(config: model_folder.Json, tensors: tuple[StoredTensor, ...]) -> int:
    """The config's vocabulary, else the rows of the token embeddings.

    Raises:
        InputError: where neither tells.

    """
    said = model_folder.whole_number(config, "vocab_size")
    if said is not None:
        return said
    rows = [t.shape[0] for t in tensors if t.name.endswith("embed_tokens.weight")]
    if not rows:
        raise InputError(
            "config.json has no vocab_size, and the files no embed_tokens.weight",
            hint="add vocab_size to config.json",
        )
    return rows[0]


def text(value: object) -> str | None:
    """A card's value where it is a text."""
    return value if isinstance(value, str) and value else None


def texts(value: object) -> tuple[str, ...]:
    """A card's value as texts: it may be one or a list (in which YAML reads `no` as false)."""
    if isinstance(value, str):
        return (value,)
    listed = value if isinstance(value, list) else []
    return tuple("no" if item is False else str(item) for item in listed if item is not None)


def argv(params: InspectParams, paths: Paths) -> Argv:
    del params
    return (TOOL, "--model", str(paths["model"]), "--output", str(paths["facts"]))


def parse(log: str, paths: Paths) -> InspectResult:
    try:
        return InspectResult.model_validate_json(paths["facts"].read_bytes())
    except (OSError, ValidationError) as error:
        evidence = (*complaints(log), str(error).splitlines()[0])
        raise UnreadableOutputError(TOOL, "a readable facts.json", evidence) from error


@click.command()
@click.option("--model", type=click.Path(path_type=Path), required=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
def main(model: Path, output: Path) -> None:
    """Read a model folder and write what it says about itself."""

    def work() -> str:
        result = inspect_folder(model)
        output.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return f"{output.name} written"

    sys.exit(own_tool.run(work))


STAGE = ToolStage(
    name="inspect",
    version=1,  # bump when argv or parse changes meaning
    tool=TOOL,
    made_by="pipeline",
    inputs=frozenset({"model"}),
    outputs={"facts": "facts.json"},
    params=InspectParams,
    result=InspectResult,
    lane="host",
    argv=argv,
    parse=parse,
    explain=own_tool.explain,
)

if __name__ == "__main__":
    main()
