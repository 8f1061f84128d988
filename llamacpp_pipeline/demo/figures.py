"""Prints what the demo model has learned and what quantization costs it.

python -m llamacpp_pipeline.demo.figures [--bin FOLDER --source LLAMA_CPP_TREE]
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from llamacpp_pipeline.demo import MODEL_DIR, PRE_TOKENIZER, demo_text
from llamacpp_pipeline.demo.unigram import scored_tokens, unigram_ppl
from llamacpp_pipeline.errors import StepFailedError, UnreadableOutputError
from llamacpp_pipeline.process.command import Command
from llamacpp_pipeline.process.runner import LocalRunner, logged_output

FTYPES: Final = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K")
LEAST_RATIO: Final = 10.0

NUMBER: Final = r"\s*(-?\d+\.\d+)"
PPL: Final = re.compile(r"Final estimate: PPL =" + NUMBER)
PPL_Q: Final = re.compile(r"^Mean PPL\(Q\)\s*:" + NUMBER, re.MULTILINE)
MEAN_KLD: Final = re.compile(r"^Mean\s+KLD:" + NUMBER, re.MULTILINE)

# The converter, told the name of the pre-tokenizer that it does not recognise.
CONVERT: Final = f"""
import sys
sys.path.insert(0, sys.argv.pop(1))
from conversion.base import TextModel
TextModel.get_vocab_base_pre = lambda model, tokenizer: {PRE_TOKENIZER!r}
import convert_hf_to_gguf
convert_hf_to_gguf.main()
"""


@dataclass(frozen=True, kw_only=True)
class Tools:
    """The llama.cpp binaries, the source tree with the converter, and a folder to work in."""

    binaries: Path
    source: Path
    work: Path
    n_threads: int
    runner: LocalRunner

    def output(self, name: str, *argv: str | Path) -> str:
        """Run a command to its end and return what it wrote."""
        log = self.work / f"{name}.log"
        words = tuple(map(str, argv))
        outcome = self.runner.run(Command(argv=words, cwd=self.work, log=log))
        text = logged_output(log)
        if outcome.exit_code != 0:
            raise StepFailedError(f"{name} failed", evidence=tuple(text.splitlines()[-5:]), log=log)
        return text

    def convert(self, model: Path) -> Path:
        """Return the reference GGUF, in BF16 as the checkpoint is."""
        made = self.work / "reference.gguf"
        options = ("--no-mtp", "--outtype", "bf16", "--outfile", made)
        self.output("convert", sys.executable, "-c", CONVERT, self.source, model, *options)
        return made

    def quantize(self, reference: Path, ftype: str) -> Path:
        made = self.work / f"{ftype}.gguf"
        self.output(f"quantize-{ftype}", self.binaries / "llama-quantize", reference, made, ftype)
        return made

    def perplexity(self, name: str, *argv: str | Path) -> str:
        tool = (self.binaries / "llama-perplexity", "-t", str(self.n_threads), "-fit", "off")
        return self.output(name, *tool, *argv)


def number(pattern: re.Pattern[str], output: str) -> float:
    """Return the number that a tool printed."""
    found = pattern.search(output)
    if found is None:
        raise UnreadableOutputError("llama-perplexity", f"a line like {pattern.pattern}")
    return float(found[1])


def demo_unigram_ppl(model: Path, *, n_ctx: int) -> float:
    """Return the perplexity of token frequencies on what llama-perplexity scores."""
    from tokenizers import Tokenizer  # noqa: PLC0415 - comes with the extra `convert`.

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    training, evaluation = (
        tokenizer.encode(demo_text(part)).ids for part in ("train", "evaluation")
    )
    scored = scored_tokens(evaluation, n_ctx=n_ctx)
    return unigram_ppl(training, scored, n_vocab=tokenizer.get_vocab_size())


def report(tools: Tools, model: Path, *, n_ctx: int, unigram: float) -> bool:
    """Print the model's figures; return whether they are as they should be."""
    corpus, logits = tools.work / "evaluation.txt", tools.work / "logits.kld"
    corpus.write_text(demo_text("evaluation"), encoding="utf-8")
    context = ("-c", str(n_ctx), "--kl-divergence-base", logits)
    reference = tools.convert(model)
    output = tools.perplexity("reference", "-m", reference, "-f", corpus, "--no-escape", *context)
    ppl = number(PPL, output)
    _print(f"model    PPL {ppl:9.3f}  (unigram / model: {unigram / ppl:.2f})")
    klds: list[float] = []
    for ftype in FTYPES:
        quantized = tools.quantize(reference, ftype)
        output = tools.perplexity(ftype, "-m", quantized, "--kl-divergence", *context)
        klds.append(number(MEAN_KLD, output))
        size = quantized.stat().st_size
        _print(f"{ftype:8} PPL {number(PPL_Q, output):9.3f}  KLD {klds[-1]:.6f}  {size} bytes")
    return is_good(unigram / ppl, klds)


def is_good(ratio: float, klds: Sequence[float]) -> bool:
    """Whether the model has learned, and KLD grows from each ftype to the next."""
    grows = all(less < more for less, more in pairwise(klds))
    return ratio >= LEAST_RATIO and grows


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the options and print the figures; 1 where the model is not good enough."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bin", type=Path, help="folder of the llama.cpp binaries")
    parser.add_argument("--source", type=Path, help="llama.cpp source tree, for its converter")
    parser.add_argument("--model", type=Path, default=MODEL_DIR)
    parser.add_argument("--n-ctx", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    if (options.bin is None) != (options.source is None):
        parser.error("--bin and --source go together")
    unigram = demo_unigram_ppl(options.model, n_ctx=options.n_ctx)
    _print(f"unigram  PPL {unigram:9.3f}  (n_ctx {options.n_ctx}, evaluation part)")
    if options.bin is None:
        return 0
    with tempfile.TemporaryDirectory() as work, LocalRunner() as runner:
        tools = Tools(
            binaries=options.bin.resolve(),
            source=options.source.resolve(),
            work=Path(work),
            n_threads=options.threads,
            runner=runner,
        )
        return not report(tools, options.model.resolve(), n_ctx=options.n_ctx, unigram=unigram)


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
