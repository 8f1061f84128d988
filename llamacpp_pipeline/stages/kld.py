"""KL divergence of a quantized GGUF from the reference logits, by llama-perplexity."""

from __future__ import annotations

import re

from pydantic import PositiveInt

from llamacpp_pipeline.errors import InputError, PipelineError, UnreadableOutputError
from llamacpp_pipeline.stages.base import Argv, Frozen, Paths, ProgressPattern, ToolStage
from llamacpp_pipeline.stages.gguf_facts import GgufFacts, read_gguf
from llamacpp_pipeline.stages.llama_failures import explain, refuse_error_records, without
from llamacpp_pipeline.stages.logits_file import LogitsFile, read_logits_file
from llamacpp_pipeline.stages.perplexity import PerplexityParams
from llamacpp_pipeline.stages.tool_flags import cut_flags, placement_flags
from llamacpp_pipeline.units import Estimate

TOOL = "llama-perplexity"
SHAPE = re.compile(r"computing over (?P<n_chunks>\d+) chunks, n_ctx=(?P<n_ctx>\d+)")
NUMBER = r"\s*(?P<value>-?\d+\.\d+)"
PLUS_MINUS = r"\s*±\s*(?P<stderr>\d+\.\d+)"
PLUS_MINUS_NAN = r"\s*±\s*-?nan"
AS_GOOD_AS_EQUAL = 1e-3  # |ln PPL ratio| of a model and the reference it was rounded from
KLD_PERCENTILES = ("99.9", "99.0", "95.0", "90.0", "50.0", "10.0", "5.0", "1.0", "0.1")
DELTA_P_PERCENTILES = (*KLD_PERCENTILES[:4], "75.0", "50.0", "25.0", *KLD_PERCENTILES[5:])
ROW = re.compile(r"(?P<chunk>\d+)\s+\d+\.\d+ ±\s+\S+\s+-?\d+\.\d+ ±\s+\S+\s+(?P<kld>-?\d+\.\d+) ±")
LN_RATIO = r"Mean ln\(PPL\(Q\)/PPL\(base\)\)\s+:"
MINIMUM_TOKENS = 100  # below it the tool prints no statistics


class KldParams(PerplexityParams):
    """The cut is the reference's; it is passed on and compared with what the tool reports."""


class KldResult(Frozen):
    """Everything llama-perplexity reports. KLD in nats; probabilities in percent.

    Against itself a model gives about -0.000000: the logits file holds 16-bit values. There the
    tool cannot tell the standard error of the ratio (its variance, a difference, rounds to less
    than nothing): it is None here.

    `running_kld` lets files be compared chunk by chunk (see paired.py). It is None where the
    tool's rows did not all arrive, and in records made before it was kept.
    """

    n_ctx: PositiveInt
    n_chunks: PositiveInt
    ppl: Estimate
    reference_ppl: Estimate
    ppl_correlation: float  # Cor(ln PPL(Q), ln PPL(reference)), percent
    ln_ppl_ratio: Estimate
    ppl_ratio: Estimate
    ppl_difference: Estimate
    mean_kld: Estimate
    max_kld: float
    kld_percentiles: dict[str, float]  # "99.9", "99.0", ... "0.1"; "50.0" is the median
    min_kld: float
    mean_delta_p: Estimate
    max_delta_p: float
    delta_p_percentiles: dict[str, float]
    min_delta_p: float
    rms_delta_p: Estimate
    same_top_p: Estimate
    running_kld: str | None = None  # mean KLD after each chunk, five digits each, by spaces


def argv(params: KldParams, paths: Paths) -> Argv:
    logits = read_logits_file(paths["logits"])
    refuse_other_cut(params, logits)
    refuse_other_vocabulary(read_gguf(paths["model"]), logits)
    return (
        TOOL,
        *("--model", str(paths["model"])),
        "--kl-divergence",
        *("--kl-divergence-base", str(paths["logits"])),
        *cut_flags(params, flash_attn=params.flash_attn),
        "--no-warmup",
    )


def refuse_other_cut(params: KldParams, logits: LogitsFile) -> None:
    """Refuse logits of another context or of more chunks than asked for.

    Raises:
        InputError: naming both.

    """
    too_many = params.n_chunks is not None and logits.n_chunks > params.n_chunks
    if logits.n_ctx != params.n_ctx or too_many:
        chunks = "all" if params.n_chunks is None else params.n_chunks
        raise InputError(
            "the reference logits were computed with another cut of the text",
            evidence=(
                f"the logits: n_ctx {logits.n_ctx}, {logits.n_chunks} chunks",
                f"asked for: n_ctx {params.n_ctx}, {chunks} chunks",
            ),
            hint="measure with the reference's n_ctx and n_chunks, or make the logits again",
        )


def refuse_other_vocabulary(model: GgufFacts, logits: LogitsFile) -> None:
    """Refuse a model whose vocabulary is not the reference's: the tool would go on regardless.

    Raises:
        InputError: naming both sizes.

    """
    if model.vocab_size is not None and model.vocab_size != logits.n_vocab:
        raise InputError(
            f"{model.path.name} has another vocabulary than the reference",
            evidence=(f"{model.vocab_size} tokens against {logits.n_vocab}",),
            hint="compare a model only with logits of the checkpoint it was made from",
        )


def parse(log: str, paths: Paths) -> KldResult:
    shape = SHAPE.search(log)
    if shape is None:
        raise without(TOOL, "'computing over ... chunks'", log)
    refuse_error_records(TOOL, log)
    n_ctx, n_chunks = int(shape["n_ctx"]), int(shape["n_chunks"])
    if n_chunks * (n_ctx - 1 - n_ctx // 2) < MINIMUM_TOKENS:
        raise InputError(
            f"{n_chunks} chunks of n_ctx {n_ctx} are too few for statistics",
            hint=f"evaluate on more chunks: {MINIMUM_TOKENS} scored tokens are the least",
        )
    refuse_other_run(n_ctx, n_chunks, read_logits_file(paths["logits"]))
    return statistics(Lines(log), n_ctx=n_ctx, n_chunks=n_chunks)


def refuse_other_run(n_ctx: int, n_chunks: int, logits: LogitsFile) -> None:
    """Refuse a run that did not use the whole file of logits.

    Raises:
        UnreadableOutputError: naming both.

    """
    if (n_ctx, n_chunks) != (logits.n_ctx, logits.n_chunks):
        evidence = (
            f"the tool: n_ctx {n_ctx}, {n_chunks} chunks",
            f"the logits: n_ctx {logits.n_ctx}, {logits.n_chunks} chunks",
        )
        raise UnreadableOutputError(TOOL, "the chunks of the reference", evidence)


class Lines:
    """The statistics at the end of one log, each found by its label or missed aloud."""

    def __init__(self, log: str) -> None:
        self.log = log

    def estimate(self, label: str) -> Estimate:
        match = re.search(label + NUMBER + PLUS_MINUS, self.log)
        if match is None:
            raise self.missing(label)
        return Estimate(value=float(match["value"]), stderr=float(match["stderr"]))

    def ratio(self, label: str) -> Estimate:
        """An estimate whose standard error may be too small for the tool to tell."""
        match = re.search(label + NUMBER + PLUS_MINUS_NAN, self.log)
        if match is None or abs(self.number(LN_RATIO)) > AS_GOOD_AS_EQUAL:
            return self.estimate(label)
        return Estimate(value=float(match["value"]), stderr=None)

    def number(self, label: str) -> float:
        match = re.search(label + NUMBER, self.log)
        if match is None:
            raise self.missing(label)
        return float(match["value"])

    def percentiles(self, names: tuple[str, ...], what: str) -> dict[str, float]:
        """The value at each percentile; 50.0 stands behind the label `Median`."""
        labels = {name: "Median" if name == "50.0" else rf"(?<!\d){name}%" for name in names}
        return {name: self.number(rf"{label}\s+{what}:") for name, label in labels.items()}

    def running_kld(self, n_chunks: int) -> str | None:
        """The mean after each chunk, as printed; None unless every chunk has its row."""
        rows = {int(match["chunk"]): match["kld"] for match in ROW.finditer(self.log)}
        if sorted(rows) != list(range(1, n_chunks + 1)):
            return None
        return " ".join(rows[chunk] for chunk in range(1, n_chunks + 1))

    def missing(self, label: str) -> PipelineError:
        plain = re.sub(r"\(\?<!\\d\)|\\s\+|\\", " ", label).strip()
        return without(TOOL, f"a finite '{plain} ...'", self.log)


def statistics(lines: Lines, *, n_ctx: int, n_chunks: int) -> KldResult:
    """Every figure of the three tables that end the log."""
    return KldResult(
        n_ctx=n_ctx,
        n_chunks=n_chunks,
        ppl=lines.estimate(r"Mean PPL\(Q\)\s+:"),
        reference_ppl=lines.estimate(r"Mean PPL\(base\)\s+:"),
        ppl_correlation=lines.number(r"Cor\(ln\(PPL\(Q\)\), ln\(PPL\(base\)\)\):"),
        ln_ppl_ratio=lines.ratio(LN_RATIO),
        ppl_ratio=lines.ratio(r"Mean PPL\(Q\)/PPL\(base\)\s+:"),
        ppl_difference=lines.ratio(r"Mean PPL\(Q\)-PPL\(base\)\s+:"),
        mean_kld=lines.estimate(r"Mean\s+KLD:"),
        max_kld=lines.number(r"Maximum KLD:"),
        kld_percentiles=lines.percentiles(KLD_PERCENTILES, "KLD"),
        min_kld=lines.number(r"Minimum KLD:"),
        mean_delta_p=lines.estimate(r"Mean\s+Δp:"),
        max_delta_p=lines.number(r"Maximum Δp:"),
        delta_p_percentiles=lines.percentiles(DELTA_P_PERCENTILES, "Δp"),
        min_delta_p=lines.number(r"Minimum Δp:"),
        rms_delta_p=lines.estimate(r"RMS Δp\s+:"),
        same_top_p=lines.estimate(r"Same top p:"),
        running_kld=lines.running_kld(n_chunks),
    )


STAGE = ToolStage(
    name="kld",
    version=1,  # bump when argv or parse changes meaning
    tool=TOOL,
    made_by="binary",
    inputs=frozenset({"model", "logits"}),
    outputs={},
    params=KldParams,
    result=KldResult,
    lane="device",
    argv=argv,
    parse=parse,
    placement=placement_flags,
    explain=explain,
    progress=ProgressPattern(
        done=re.compile(r"(?:^|\n)\s*(?P<n>\d+)\s+\S+ ±"),
        total=re.compile(r"computing over (?P<n>\d+) chunks"),
        unit="chunk",
    ),
)
