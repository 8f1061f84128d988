"""Whether another publisher's GGUF is of our reference's model, so that figures may be compared.

Architecture, tensor names, shapes and vocabulary must be the same. What may differ without making
it another model is noted: draft layers (multi-token prediction) that one of the two lacks, output
weights that one stores and the other ties to its embeddings, hyperparameters, tokenizer flags.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from pathlib import Path

import click
from pydantic import PositiveFloat, PositiveInt, ValidationError

from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages import own_tool
from llamacpp_pipeline.stages.base import Argv, Frozen, Paths, ToolStage
from llamacpp_pipeline.stages.gguf_facts import GgufFacts, GgufTensor, read_gguf
from llamacpp_pipeline.stages.gguf_vocabulary import Vocabulary, read_vocabulary
from llamacpp_pipeline.stages.llama_log import complaints
from llamacpp_pipeline.stages.tensor_rules import quantized_types
from llamacpp_pipeline.units import size_text

TOOL = "llamacpp_pipeline.stages.reference_file"
LAYER = re.compile(r"blk\.(?P<layer>\d+)\.")
DRAFT = re.compile(r"blk\.(?P<layer>\d+)\.nextn\.")
SHARD = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
TIED = frozenset({"output.weight", "rope_freqs.weight"})  # stored, or computed when loaded
SHOWN = 6
ANOTHER_MODEL = (
    "name a GGUF of the very model that `model` says; a fine-tune of it is another model"
)
TOLD = {  # what a file says of its maker: Result field -> metadata key
    "quantized_by": "general.quantized_by",
    "repo_url": "general.repo_url",
    "imatrix_dataset": "quantize.imatrix.dataset",
}


class ReferenceParams(Frozen):
    """Nothing changes what is checked."""


class ReferenceResult(Frozen):
    """The file as it is, and how it departs from our reference without being another model."""

    architecture: str
    n_tensors: PositiveInt
    n_elements: PositiveInt
    tensor_bytes: PositiveInt
    file_bytes: PositiveInt
    bpw: PositiveFloat
    file_bpw: PositiveFloat
    types: dict[str, PositiveInt]  # ggml type -> tensors stored in it
    quantized_by: str | None
    repo_url: str | None
    imatrix_dataset: str | None
    notes: tuple[str, ...]
    type_of: dict[
        str, str
    ] = {}  # of each tensor that can be quantized; records of before have none


def argv(params: ReferenceParams, paths: Paths) -> Argv:
    del params
    return (
        TOOL,
        *("--model", str(paths["model"])),
        *("--file", str(paths["file"])),
        *("--output", str(paths["report"])),
    )


def parse(log: str, paths: Paths) -> ReferenceResult:
    try:
        return ReferenceResult.model_validate_json(paths["report"].read_bytes())
    except (OSError, ValidationError) as error:
        evidence = (*complaints(log), str(error).splitlines()[0])
        raise UnreadableOutputError(TOOL, "a readable reference.json", evidence) from error


def checked(model: Path, file: Path) -> ReferenceResult:
    """The file, compared with our unquantized GGUF of the model.

    Raises:
        InputError: where it is of another model, with what differs.

    """
    refuse_a_part(file)
    ours, theirs = read_gguf(model), read_gguf(file)
    refuse_another_architecture(ours, theirs)
    notes = [*tensor_notes(ours, theirs)]
    refuse_another_vocabulary(read_vocabulary(model), read_vocabulary(file), file.name)
    notes += metadata_notes(ours, theirs)
    told = {field: theirs.metadata.get(key) for field, key in TOLD.items()}
    return ReferenceResult(
        architecture=theirs.architecture,
        n_tensors=len(theirs.tensors),
        n_elements=theirs.n_elements,
        tensor_bytes=theirs.tensor_bytes,
        file_bytes=theirs.file_bytes,
        bpw=theirs.bpw,
        file_bpw=theirs.file_bpw,
        types=theirs.types,
        notes=tuple(notes),
        type_of=quantized_types(theirs),
        **{field: text if isinstance(text, str) else None for field, text in told.items()},
    )


def refuse_a_part(file: Path) -> None:
    """A shard has a part of the tensors only.

    Raises:
        InputError: with the command that makes one file of all.

    """
    if SHARD.search(file.name):
        raise InputError(
            f"{file.name} is one part of a GGUF that was split",
            hint="make one file of it with `llama-gguf-split --merge FIRST_PART OUT.gguf`, and give"
            " that as `path`",
        )


def refuse_another_architecture(ours: GgufFacts, theirs: GgufFacts) -> None:
    """Two architectures are two models.

    Raises:
        InputError: naming both.

    """
    if ours.architecture != theirs.architecture:
        raise InputError(
            f"{theirs.path.name} is of another architecture than the model",
            evidence=(f"{theirs.architecture} against {ours.architecture}",),
            hint=ANOTHER_MODEL,
        )


def tensor_notes(ours: GgufFacts, theirs: GgufFacts) -> list[str]:
    """How the tensors differ without making another model.

    Raises:
        InputError: where names or shapes differ otherwise.

    """
    left = {tensor.name: tensor for tensor in ours.tensors}
    right = {tensor.name: tensor for tensor in theirs.tensors}
    optional = optional_tensors([*left, *right])
    lacking, added = sorted(left.keys() - right.keys()), sorted(right.keys() - left.keys())
    wrong = [f"{name}: not in {theirs.path.name}" for name in lacking if name not in optional]
    wrong += [f"{name}: not in our reference" for name in added if name not in optional]
    wrong += other_shapes(left, right)
    if wrong:
        raise InputError(
            f"{theirs.path.name} is of another model: {len(wrong)} tensors differ",
            evidence=wrong[:SHOWN],
            hint=ANOTHER_MODEL,
        )
    return [
        f"{what} {len(names)} tensors that {whom}: {', '.join(names[:SHOWN])}"
        + (", ..." if len(names) > SHOWN else "")
        for what, names, whom in (
            ("lacks", lacking, "our reference has"),
            ("has", added, "our reference has not"),
        )
        if names
    ]


def optional_tensors(names: Iterable[str]) -> frozenset[str]:
    """Tensors without which the model is the same: all of draft layers, and what may be tied."""
    every = set(names)
    drafts = {match["layer"] for name in every if (match := DRAFT.match(name))}
    of_drafts = (n for n in every if (match := LAYER.match(n)) and match["layer"] in drafts)
    return TIED.union(of_drafts)


def other_shapes(left: Mapping[str, GgufTensor], right: Mapping[str, GgufTensor]) -> list[str]:
    """The tensors that both have, in different shapes."""
    return [
        f"{name}: {list(right[name].shape)} against {list(tensor.shape)}"
        for name, tensor in left.items()
        if name in right and right[name].shape != tensor.shape
    ]


def refuse_another_vocabulary(ours: Vocabulary, theirs: Vocabulary, name: str) -> None:
    """Token by token: figures of two vocabularies are of two texts.

    Raises:
        InputError: with the first ids that differ.

    """
    for what, left, right in (
        ("tokens", ours.tokens, theirs.tokens),
        ("merges", ours.merges, theirs.merges),
    ):
        if left == right:
            continue
        pairs = enumerate(zip_longest(right, left))
        differing = [f"{at}: {said(b)} against {said(a)}" for at, (b, a) in pairs if a != b]
        raise InputError(
            f"{name} has another vocabulary than the model: {len(differing)} {what} differ",
            evidence=(f"{len(right)} {what} against {len(left)}", *differing[:SHOWN]),
            hint=ANOTHER_MODEL,
        )


def said(token: bytes | None) -> str:
    """A token for people."""
    return "nothing" if token is None else repr(token.decode("utf-8", errors="replace"))


def metadata_notes(ours: GgufFacts, theirs: GgufFacts) -> list[str]:
    """Hyperparameters and flags of the tokenizer that differ."""
    prefixes = (f"{ours.architecture}.", "tokenizer.ggml.")
    keys = sorted(k for k in {*ours.metadata, *theirs.metadata} if k.startswith(prefixes))
    return [
        f"{key}: {theirs.metadata.get(key, 'absent')} (ours: {ours.metadata.get(key, 'absent')})"
        for key in keys
        if ours.metadata.get(key) != theirs.metadata.get(key)
    ]


@click.command()
@click.option("--model", type=click.Path(path_type=Path), required=True)
@click.option("--file", type=click.Path(path_type=Path), required=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
def main(model: Path, file: Path, output: Path) -> None:
    """Check that a GGUF is of the same model as another."""

    def work() -> str:
        result = checked(model, file)
        output.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
        for note in result.notes:
            own_tool.note(f"note: {note}")
        return f"{file.name} is of this model: {result.bpw:.4f} BPW, {size_text(result.file_bytes)}"

    sys.exit(own_tool.run(work))


STAGE = ToolStage(
    name="reference-file",
    version=1,  # bump when argv or parse changes meaning
    tool=TOOL,
    made_by="pipeline",
    inputs=frozenset({"model", "file"}),
    outputs={"report": "reference.json"},
    params=ReferenceParams,
    result=ReferenceResult,
    lane="host",
    argv=argv,
    parse=parse,
    explain=own_tool.explain,
)

if __name__ == "__main__":
    main()
