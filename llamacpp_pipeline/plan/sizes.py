"""How large what a step leaves will be, as far as that can be said before it runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from llamacpp_pipeline.datasets.corpus import known_corpus
from llamacpp_pipeline.plan.sources import HubCommit, ModelHints, Sources
from llamacpp_pipeline.plan.step import Leaf, OutputRef, Plan, Step
from llamacpp_pipeline.stages.base import Frozen
from llamacpp_pipeline.stages.convert import ConvertParams
from llamacpp_pipeline.stages.fetch import FetchParams
from llamacpp_pipeline.stages.imatrix import ImatrixParams
from llamacpp_pipeline.stages.imatrix_merge import MergeParams
from llamacpp_pipeline.stages.logits_file import predicted_logits_bytes
from llamacpp_pipeline.stages.perplexity import PerplexityParams
from llamacpp_pipeline.stages.probe import ProbeParams
from llamacpp_pipeline.stages.quantize import QuantizeParams
from llamacpp_pipeline.stages.quantize_target import TargetParams
from llamacpp_pipeline.stages.select import file_name

# Bits per weight of a dense model of 8 billion parameters, as llama.cpp's own page of
# llama-quantize lists them; where it does not, the bits of the type that the mixture is made of.
# fmt: off
NOMINAL_BPW: Mapping[str, float] = {
    "IQ1_S": 2.00, "IQ1_M": 2.15, "IQ2_XXS": 2.38, "IQ2_XS": 2.59, "IQ2_S": 2.74,
    "IQ2_M": 2.93, "IQ3_XXS": 3.25, "IQ3_XS": 3.50, "IQ3_S": 3.66, "IQ3_M": 3.76,
    "IQ4_XS": 4.46, "IQ4_NL": 4.68, "Q2_K_S": 2.97, "Q2_K": 3.16, "Q3_K_S": 3.64,
    "Q3_K_M": 4.00, "Q3_K_L": 4.30, "Q4_K_S": 4.67, "Q4_K_M": 4.89, "Q5_K_S": 5.57,
    "Q5_K_M": 5.70, "Q6_K": 6.56, "Q8_0": 8.50, "F16": 16.0, "BF16": 16.0, "F32": 32.0,
    "Q1_0": 1.5, "Q2_0": 2.5, "TQ1_0": 2.0, "TQ2_0": 2.4, "MXFP4_MOE": 4.5,
    "Q4_0": 4.64, "Q4_1": 5.11, "Q5_0": 5.57, "Q5_1": 6.04,
}
# fmt: on
RECORD_BYTES = 2**16  # of a step that leaves nothing but its record, its log and small JSON
UNPACKED = 4  # a zip of text with the text beside it, over the zip
IMATRIX_SHARE = 2 / 1000  # bytes of an imatrix, means included, per parameter of a dense model
# The vocabulary's logarithm over this is about the bytes of English text per token.
BITS_PER_BYTE = 4.0
MOST_BYTES_PER_TOKEN = 4.2


@dataclass(frozen=True, kw_only=True)
class Known:
    """What sizes are computed from."""

    plan: Plan
    sources: Sources
    finished: Mapping[str, int]  # step key -> bytes it left, of the steps already done

    @property
    def hints(self) -> ModelHints:
        """What is known of the model."""
        return self.sources.hints


def output_bytes(step: Step, known: Known) -> int | None:
    """What the step leaves in the store; None where that is unknown."""
    if step.key in known.finished:
        return known.finished[step.key]
    if "logits" in step.stage.outputs:
        return logits_bytes(step, known)
    if isinstance(step.params, TargetParams):
        return target_bytes(step, step.params, known)
    if isinstance(step.params, FetchParams):
        return fetched_bytes(step, step.params, known)
    return made_bytes(step.params, known.hints)


def made_bytes(params: Frozen, hints: ModelHints) -> int | None:
    """A file that has so many bytes per parameter of the model, or only a record."""
    if isinstance(params, ConvertParams):
        return None if params.mmproj else weight_bytes(params.outtype, hints)
    if isinstance(params, QuantizeParams):
        return share(hints.n_parameters, NOMINAL_BPW.get(params.ftype, math.nan) / 8)
    if isinstance(params, (ImatrixParams, MergeParams)):
        size = share(hints.n_parameters, IMATRIX_SHARE)
        return None if size is None else size + RECORD_BYTES
    return RECORD_BYTES


def target_bytes(step: Step, params: TargetParams, known: Known) -> int | None:
    """A file by size: as large as asked for; in a memory, at most as large as that."""
    if params.bpw is not None:
        return share(known.hints.n_parameters, params.bpw / 8)
    matched = step.inputs.get("match")
    if isinstance(matched, Leaf):
        return matched.size_bytes
    if isinstance(matched, OutputRef):
        return file_bytes(known.plan.step(matched.step), known)
    return params.size_bytes or params.memory_bytes


def file_bytes(step: Step, known: Known) -> int | None:
    """The GGUF that a step leaves, whether it takes room of its own or is a link to another."""
    first = step.inputs.get(file_name(0))
    if isinstance(first, OutputRef) and step.key not in known.finished:
        return output_bytes(known.plan.step(first.step), known)
    return output_bytes(step, known)


def share(whole: int | None, factor: float) -> int | None:
    """A part of something that may be unknown."""
    return None if whole is None or math.isnan(factor) else math.ceil(whole * factor)


def fetched_bytes(step: Step, params: FetchParams, known: Known) -> int | None:
    """A download."""
    source = {
        "fetch": known.sources.model,
        "fetch-evaluation": known.sources.evaluation,
        "fetch-imatrix": known.sources.imatrix,
        "fetch-selection": known.sources.selection,
    }.get(step.key)
    size = source.size_bytes if isinstance(source, HubCommit) else None
    if step.key == "fetch" and size is None:
        return known.hints.tensor_bytes
    return share(size, UNPACKED if params.member is not None else 1)


def weight_bytes(outtype: str, hints: ModelHints) -> int | None:
    """The unquantized GGUF: two bytes a weight, unless asked otherwise."""
    return share(hints.n_parameters, 4 if outtype == "f32" else 2)


def logits_bytes(step: Step, known: Known) -> int | None:
    """The reference logits, by llama-perplexity's own layout."""
    params, vocabulary = step.params, known.hints.vocab_size
    n_chunks = chunks(step, known)
    if not isinstance(params, PerplexityParams) or vocabulary is None or n_chunks is None:
        return None
    return predicted_logits_bytes(n_vocab=vocabulary, n_ctx=params.n_ctx, n_chunks=n_chunks)


def chunks(step: Step, known: Known) -> int | None:
    """How many chunks a step will compute: as many as asked for, or as the text has, about."""
    params = step.params
    if not isinstance(params, (PerplexityParams, ImatrixParams, ProbeParams)):
        return None
    size = corpus_bytes(corpus_step(step, known), known)
    if size is None:
        return params.n_chunks
    in_text = max(1, tokens(size, known.hints.vocab_size) // params.n_ctx)
    return in_text if params.n_chunks is None else min(params.n_chunks, in_text)


def corpus_step(step: Step, known: Known) -> Step:
    """The step that reads the text: a KLD's tokens are those of the reference logits."""
    logits = step.inputs.get("logits")
    return known.plan.step(logits.step) if isinstance(logits, OutputRef) else step


def corpus_bytes(step: Step, known: Known) -> int | None:
    """The size of the text a step reads, where it is at hand or well known."""
    corpus = step.inputs.get("corpus")
    if isinstance(corpus, Leaf):
        return corpus.size_bytes
    if corpus is None:
        return None
    params = known.plan.step(corpus.step).params
    published = known_corpus(params.sha256) if isinstance(params, FetchParams) else None
    return None if published is None else published.size_bytes


def tokens(size_bytes: int, vocabulary: int | None) -> int:
    """About how many tokens a text has; rather too many than too few."""
    per_token = MOST_BYTES_PER_TOKEN
    if vocabulary is not None:
        per_token = min(per_token, max(1.0, math.log2(max(2, vocabulary)) / BITS_PER_BYTE))
    return math.ceil(size_bytes / per_token)
