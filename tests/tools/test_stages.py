"""Every stage through the real binaries and the real converter, on the demo model."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import pytest

from llamacpp_pipeline.demo import MODEL_DIR, PRE_TOKENIZER, Part, demo_text
from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.stages import (
    bench,
    convert,
    imatrix,
    inspect,
    kld,
    mtp,
    perplexity,
    quantize,
    weights,
)
from llamacpp_pipeline.stages.base import Frozen, Placement, ToolStage
from llamacpp_pipeline.stages.gguf_facts import read_gguf
from llamacpp_pipeline.stages.llama_log import complaints
from llamacpp_pipeline.stages.quant_types import ALIASES
from llamacpp_pipeline.toolchain.binaries import Toolchain

pytestmark = [pytest.mark.tools, pytest.mark.timeout(300)]

P = TypeVar("P", bound=Frozen)
R = TypeVar("R", bound=Frozen)
CUT = {"n_ctx": 128, "n_chunks": 4, "n_batch": 256, "n_ubatch": 128}
ALONE = Placement(n_threads=1)


@dataclass(frozen=True)
class Bench:
    """A folder in which stages run, each as its own child, what was made kept for the next."""

    toolchain: Toolchain
    folder: Path
    made: dict[str, Path] = field(default_factory=dict)

    def command(self, stage: ToolStage[P, R], params: P, paths: Mapping[str, Path]) -> list[str]:
        tool, *arguments = stage.argv(params, paths)
        return [*self.toolchain.prefix(tool), *arguments, *stage.placement(ALONE)]

    def run(self, command: list[str]) -> tuple[int, str]:
        ran = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True
        )
        return ran.returncode, ran.stdout

    def result(self, stage: ToolStage[P, R], params: P, paths: Mapping[str, Path]) -> R:
        exit_code, log = self.run(self.command(stage, params, paths))
        assert exit_code == 0, log
        return stage.read(params, log, paths)

    def path(self, name: str) -> Path:
        return self.folder / name

    @cached_property
    def texts(self) -> Mapping[str, Path]:
        parts: dict[str, Part] = {"corpus": "evaluation", "calibration": "calibration"}
        for part in parts.values():
            self.path(part).write_text(demo_text(part), encoding="utf-8")
        return {name: self.path(part) for name, part in parts.items()}

    @cached_property
    def report(self) -> Path:
        paths = {"model": MODEL_DIR, "report": self.path("weights.json")}
        self.result(weights.STAGE, weights.WeightsParams(), paths)
        return paths["report"]

    @cached_property
    def model(self) -> Path:
        paths = {"model": MODEL_DIR, "weights": self.report, "gguf": self.path("model.gguf")}
        params = convert.ConvertParams(model_name="Demo", pre_tokenizer=PRE_TOKENIZER)
        result = self.result(convert.STAGE, params, paths)
        assert result.pre_tokenizer_overridden
        return paths["gguf"]

    @cached_property
    def reference(self) -> tuple[Path, perplexity.PerplexityResult]:
        paths = {**self.texts, "model": self.model, "logits": self.path("logits.kld")}
        params = perplexity.PerplexityParams.model_validate(CUT)
        return paths["logits"], self.result(perplexity.REFERENCE, params, paths)

    @cached_property
    def imatrix(self) -> tuple[Path, imatrix.ImatrixResult]:
        text = self.texts["calibration"]
        paths = {"corpus": text, "model": self.model, "imatrix": self.path("imatrix.gguf")}
        paths["statistics"] = self.path("statistics.json")
        params = imatrix.ImatrixParams.model_validate(CUT)
        return paths["imatrix"], self.result(imatrix.STAGE, params, paths)

    def quantized(self, **recipe: object) -> tuple[Path, quantize.QuantizeResult]:
        params = quantize.QuantizeParams.model_validate(recipe)
        gguf = self.path(f"{params.ftype}-{len(params.tensor_types)}.gguf")
        paths = {"model": self.model, "imatrix": self.imatrix[0], "gguf": gguf}
        return gguf, self.result(quantize.STAGE, params, paths)

    def divergence(self, model: Path) -> kld.KldResult:
        paths = {"model": model, "logits": self.reference[0]}
        return self.result(kld.STAGE, kld.KldParams.model_validate(CUT), paths)


@pytest.fixture(scope="module")
def bench_of(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(toolchain, tmp_path_factory.mktemp("stages"))


def test_the_demo_model_is_inspected(bench_of: Bench) -> None:
    paths = {"model": MODEL_DIR, "facts": bench_of.path("facts.json")}

    facts = bench_of.result(inspect.STAGE, inspect.InspectParams(), paths)

    assert facts.architecture == "Qwen3_5ForCausalLM"
    assert not facts.has_mtp


def test_the_converted_file_holds_the_checkpoints_values(bench_of: Bench) -> None:
    facts = read_gguf(bench_of.model)

    assert facts.architecture == "qwen35"
    assert facts.text("general.name") == "Demo"
    assert facts.types.keys() == {"f16", "f32"}


def test_without_the_override_the_converter_refuses_and_the_option_is_named(
    bench_of: Bench,
) -> None:
    paths = {"model": MODEL_DIR, "weights": bench_of.report, "gguf": bench_of.path("x.gguf")}
    command = bench_of.command(convert.STAGE, convert.ConvertParams(model_name="x"), paths)

    exit_code, log = bench_of.run(command)

    assert exit_code == 1
    explained = convert.STAGE.explain(log)
    assert isinstance(explained, InputError)
    assert "convert.pre_tokenizer" in (explained.hint or "")


def test_reference_and_plain_perplexity_agree(bench_of: Bench) -> None:
    _, reference = bench_of.reference
    params = perplexity.PerplexityParams.model_validate(CUT)
    paths = {**bench_of.texts, "model": bench_of.model}

    plain = bench_of.result(perplexity.STAGE, params, paths)

    assert plain.ppl == reference.ppl
    assert (reference.n_ctx, reference.n_chunks) == (128, 4)
    assert reference.logits_bytes == perplexity.predicted_logits_bytes(
        n_vocab=reference.n_vocab or 0, n_ctx=128, n_chunks=4
    )


def test_the_imatrix_covers_the_layers(bench_of: Bench) -> None:
    _, result = bench_of.imatrix

    assert result.n_entries > 20
    assert (result.n_chunks, result.n_ctx, result.partial) == (4, 128, ())
    assert result.ppl is not None


def test_a_selective_recipe_is_found_in_the_file(bench_of: Bench) -> None:
    recipe = {r".*\.ssm_out\.weight$": "q8_0", "attn_(gate|qkv)": "q6_K"}

    gguf, result = bench_of.quantized(ftype="Q4_K_M", tensor_types=recipe)

    types = {tensor.name: tensor.type for tensor in read_gguf(gguf).tensors}
    assert result.overridden == {r".*\.ssm_out\.weight$": 3, "attn_(gate|qkv)": 6}
    assert types["blk.0.ssm_out.weight"] == "q8_0"
    assert types["blk.0.attn_qkv.weight"] == "q6_K"
    assert types["blk.0.ffn_up.weight"] == "q4_K"


def test_a_type_that_needs_an_imatrix_is_made_with_one(bench_of: Bench) -> None:
    _, result = bench_of.quantized(ftype="IQ2_XXS")

    assert result.bpw < 4
    assert result.fallbacks == ()


def test_divergence_grows_as_bits_go(bench_of: Bench) -> None:
    large, _ = bench_of.quantized(ftype="Q8_0")
    small, _ = bench_of.quantized(ftype="Q2_K")

    itself = bench_of.divergence(bench_of.model)
    least, most = bench_of.divergence(large), bench_of.divergence(small)

    assert abs(itself.mean_kld.value) < 1e-4
    assert abs(itself.ln_ppl_ratio.value) < 1e-3
    assert itself.mean_kld.value < least.mean_kld.value < most.mean_kld.value
    assert (most.n_ctx, most.n_chunks) == (128, 4)
    assert most.max_kld >= most.kld_percentiles["99.9"] >= most.kld_percentiles["50.0"]


def test_speed_is_measured_once_per_test(bench_of: Bench) -> None:
    gguf, _ = bench_of.quantized(ftype="Q8_0")
    params = bench.BenchParams(tests=("tg4", "pp8", "pp8+tg4"), repetitions=2)

    result = bench_of.result(bench.STAGE, params, {"model": gguf})

    assert [row.test for row in result.rows] == ["tg4", "pp8", "pp8+tg4"]
    assert all(len(row.samples) == 2 for row in result.rows)
    assert result.n_threads == 1


def test_a_text_too_short_is_told_in_tokens(bench_of: Bench) -> None:
    short = bench_of.path("short.txt")
    short.write_text("A short text.")
    params = perplexity.PerplexityParams.model_validate(CUT)
    paths = {"model": bench_of.model, "corpus": short}
    _, log = bench_of.run(bench_of.command(perplexity.STAGE, params, paths))

    with pytest.raises(InputError, match="256 tokens are needed"):
        perplexity.STAGE.read(params, log, paths)


def test_an_imatrix_that_cannot_be_written_is_missed(bench_of: Bench) -> None:
    params = imatrix.ImatrixParams.model_validate(CUT)
    nowhere = bench_of.path("absent") / "imatrix.gguf"
    paths = {
        "model": bench_of.model,
        "corpus": bench_of.texts["calibration"],
        "imatrix": nowhere,
        "statistics": bench_of.path("never.json"),
    }
    exit_code, log = bench_of.run(bench_of.command(imatrix.STAGE, params, paths))

    assert exit_code == 1
    assert any("imatrix.gguf" in line for line in complaints(log)), log


def test_the_table_of_file_types_is_the_tools_own(bench_of: Bench) -> None:
    _, usage = bench_of.run([*bench_of.toolchain.prefix("llama-quantize"), "--help"])

    _, _, table = usage.partition("allowed quantization types")
    listed = re.findall(r"^ +(?:\d+ +or +)?([A-Z]\w*) +:", table, re.MULTILINE)
    assert set(listed) == {*quantize.FTYPES, *ALIASES, "COPY"}


@pytest.mark.parametrize("tensor_type", quantize.TENSOR_TYPES)
def test_every_tensor_type_is_one_that_the_tool_takes(bench_of: Bench, tensor_type: str) -> None:
    command = [*bench_of.toolchain.prefix("llama-quantize"), "--imatrix", str(bench_of.imatrix[0])]
    command += ["--tensor-type", f"ffn_up={tensor_type}", str(bench_of.model)]

    exit_code, log = bench_of.run([*command, str(bench_of.path("typed.gguf")), "Q8_0", "1"])

    assert exit_code == 0, log
    found = {t.type for t in read_gguf(bench_of.path("typed.gguf")).tensors if "ffn_up" in t.name}
    assert found == {tensor_type}


def test_the_list_of_architectures_without_draft_layers_is_the_converters_own(
    bench_of: Bench,
) -> None:
    source = bench_of.toolchain.source_dir
    script = (
        "import sys, pkgutil, importlib\n"
        f"sys.path[:0] = [{str(source)!r}, {str(source / 'gguf-py')!r}]\n"
        "sys.dont_write_bytecode = True\n"
        "import conversion\n"
        "from conversion.base import ModelBase, ModelType\n"
        "for module in pkgutil.iter_modules(conversion.__path__):\n"
        "    importlib.import_module(f'conversion.{module.name}')\n"
        "for name, model in ModelBase._model_classes[ModelType.TEXT].items():\n"
        "    if model.supports_mtp_export:\n"
        "        print('can drop', name)\n"
    )

    exit_code, log = bench_of.run([sys.executable, "-c", script])

    assert exit_code == 0, log
    found = set(re.findall(r"^can drop (\S+)$", log, re.MULTILINE))
    assert found - {"DeepseekV4DSparkModel"} == mtp.CAN_DROP
