"""A whole run as values: the plan, its records and its configuration, without running anything."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from llamacpp_pipeline.config.schema import PipelineConfig
from llamacpp_pipeline.config.variants import VariantConfig
from llamacpp_pipeline.datasets.imatrix_file import Entry, Imatrix
from llamacpp_pipeline.datasets.imatrix_statistics import statistics
from llamacpp_pipeline.datasets.registry import known_sets
from llamacpp_pipeline.plan.expansion import part
from llamacpp_pipeline.plan.step import Input, Leaf, OutputRef, Plan, Step
from llamacpp_pipeline.plan.targets import target_params
from llamacpp_pipeline.results.record import Machine, OutputFile, RecordedInput, StepRecord
from llamacpp_pipeline.results.redact import Redactor
from llamacpp_pipeline.results.run import RunRecords, ToolchainFacts
from llamacpp_pipeline.stages.answer_bits import packed
from llamacpp_pipeline.stages.base import Frozen, MadeBy, Paths, Placement, ToolStage
from llamacpp_pipeline.stages.imatrix_facts import facts_of
from llamacpp_pipeline.stages.quantize import QuantizeParams
from llamacpp_pipeline.stages.task_log import standard_error

BUILD = hashlib.sha256(b"build").hexdigest()
COMMIT = "4df29be4f4c3673f428170fda944a5b19f743bb8"
CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
NOBODY = Redactor(home="/home/nobody", host="")
SELECTIVE = r".*\.ssm_out\.weight$"
MACHINE = Machine(
    hostless_name="Some CPU, 2 cores", system="Linux", n_cores=2, memory_bytes=8 * 2**30
)
PERCENTILES = ("99.9", "99.0", "95.0", "90.0", "50.0", "10.0", "5.0", "1.0", "0.1")


TARGET = {
    "asked": {"kind": "bpw", "bpw": 4.5, "size_bytes": None, "fit": None},
    "budget_bytes": 5000, "min_bytes": 1000, "max_bytes": 9000,
    "objective": 0.0125, "dual_bound": 0.0124, "gap": 0.008, "optimal": True,
    "alpha_sources": ["prior"], "rounds": 3, "measured": 20, "reused": 60,
    "tensors": [
        {"name": "token_embd.weight", "status": "pinned", "type": "q6_K", "bytes": 210,
         "elements": 256, "alpha": 0.6, "error": 0.0025},
        {"name": "blk.3.ffn_down.weight", "status": "chosen", "type": "q4_K", "bytes": 144,
         "elements": 256, "alpha": 0.02, "error": 0.01},
    ],
}  # fmt: skip


N_TASKS = 40  # of each sample set


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


CORPUS = "evaluation.txt"
CONFIG: dict[str, Any] = {
    "model": {"repo": "someone/Tiny", "revision": "main"},
    "evaluation": {"corpus": {"path": CORPUS}, "n_ctx": 256},
    "calibration": {"corpus": {"path": "calibration.txt"}, "n_ctx": 256},
    "variants": [
        {"ftype": "Q4_K_M"},
        {"ftype": "Q4_K_M", "name": "Q4_K_M-selective", "tensor_types": {SELECTIVE: "q8_0"}},
    ],
    "card": {
        "compare": [
            {
                "variant": "Q4_K_M-selective",
                "against": "Q4_K_M",
                "against_label": "plain",
            }
        ]
    },
}


def sample_run(
    *, config: Mapping[str, Any] | None = None, without: tuple[str, ...] = ()
) -> RunRecords:
    """A finished run of two variants; `without` names steps that did not finish."""
    chosen = PipelineConfig.model_validate({**CONFIG, **(config or {})})
    plan = Plan(steps=tuple(_steps(chosen)))
    records = {step.key: _record(plan, step, chosen) for step in plan.steps}
    return RunRecords(
        name="Tiny",
        plan=plan,
        records={key: record for key, record in records.items() if key not in without},
        config=chosen,
        toolchain=ToolchainFacts(build_id=BUILD, commit=COMMIT, backend="cpu"),
    )


def changed(run: RunRecords, key: str, **fields: Any) -> RunRecords:  # noqa: ANN401 - any field
    """The run with some fields of one record replaced."""
    record = run.records[key].model_copy(update=fields)
    return replace(run, records={**run.records, key: record})


def with_result(run: RunRecords, key: str, **figures: Any) -> RunRecords:  # noqa: ANN401
    """The run with some figures of one result replaced."""
    return changed(run, key, result={**run.records[key].result, **figures})


def kld_result(scale: float = 1.0) -> dict[str, Any]:
    """A KLD result as JSON; `scale` multiplies the divergence."""
    return {
        "n_ctx": 256,
        "n_chunks": 40,
        "ppl": {"value": 12.5 + scale / 10, "stderr": 0.25},
        "reference_ppl": {"value": 12.5, "stderr": 0.25},
        "ppl_correlation": 99.51,
        "ln_ppl_ratio": {"value": 0.0123 * scale, "stderr": 0.001},
        "ppl_ratio": {"value": 1 + 0.0124 * scale, "stderr": 0.001},
        "ppl_difference": {"value": 0.1 * scale, "stderr": 0.01},
        "mean_kld": {"value": 0.036272 * scale, "stderr": 0.000154},
        "max_kld": 6.372144 * scale,
        "kld_percentiles": {
            name: 0.5 * scale / (index + 1) for index, name in enumerate(PERCENTILES)
        },
        "min_kld": -0.000001,
        "mean_delta_p": {"value": -0.1, "stderr": 0.02},
        "max_delta_p": 55.5,
        "delta_p_percentiles": {"99.9": 30.0, "50.0": 0.0, "0.1": -31.0},
        "min_delta_p": -60.0,
        "rms_delta_p": {"value": 4.321 * scale, "stderr": 0.054},
        "same_top_p": {"value": 94.341, "stderr": 0.06},
    }


def dataset_result(name: str) -> dict[str, Any]:
    """A set of forty tasks as its step reports it."""
    return {
        "name": name, "form": known_sets()[name].form, "template": "continuation",
        "template_version": 1, "n_asked": 40, "seed": 1, "n_read": 42, "n_chosen": N_TASKS,
        "malformed": [{"row": "row 7", "why": "an answer is empty"}], "left_out": [],
        "most_answers": 4, "sources": [digest(name)], "sha256": digest(f"{name} chosen"),
        "ids": [f"{name}-{at}" for at in range(N_TASKS)],
    }  # fmt: skip


def task_result(label: str, name: str) -> dict[str, Any]:
    """Scores: each variant misses what the reference gets right of the first so many tasks."""
    missed = {"reference": 0, "Q4_K_M": 14}.get(label, 2)
    answers = [at >= missed and at % 5 != 0 for at in range(N_TASKS)]
    n_correct = sum(answers)
    stderr = standard_error(n_correct, N_TASKS)
    assert stderr is not None
    return {
        "form": known_sets()[name].form, "n_tasks": N_TASKS, "n_correct": n_correct,
        "score": {"value": 100 * n_correct / N_TASKS, "stderr": 100 * stderr},
        "chance": 25.0, "correct": packed(answers), "order": "file", "n_parallel": 4,
    }  # fmt: skip


def _steps(config: PipelineConfig) -> list[Step]:
    model = OutputRef(step="fetch", output="files")
    reference: Input = OutputRef(step="convert", output="gguf")
    imatrix: Input = OutputRef(step="imatrix", output="imatrix")
    if config.imatrix is not None:
        imatrix = _leaf("their.gguf")
    logits = OutputRef(step="reference", output="logits")
    steps = [
        _step("fetch", "fetch", "pipeline", {"files": "files"}),
        _step("inspect", "inspect", "pipeline", {"facts": "facts.json"}, model=model),
        _step("weights", "weights", "pipeline", {"report": "weights.json"}, model=model),
        _step("convert", "convert", "converter", {"gguf": "model.gguf"}, model=model),
        _step("reference", "reference", "binary", {"logits": "logits.kld"}, model=reference,
              corpus=_leaf(CORPUS)),
        *_importance(config),
        _step("kld/reference", "kld", "binary", {}, model=reference, logits=logits),
        _step("bench/reference", "bench", "binary", {}, model=reference),
    ]  # fmt: skip
    for variant in config.variants:
        label = variant.label
        made = OutputRef(step=f"quantize/{label}", output="gguf")
        inputs = {"model": reference, **({"imatrix": imatrix} if variant.imatrix else {})}
        steps += [
            _step(f"quantize/{label}", _maker(variant), "binary", {"gguf": "model.gguf"}, **inputs),
            _step(f"kld/{label}", "kld", "binary", {}, model=made, logits=logits),
            _step(f"bench/{label}", "bench", "binary", {}, model=made),
        ]
    steps += _task_steps(config)
    for given in config.references:
        theirs: Input = _leaf(given.path or "")
        checked = {"report": "reference.json"}
        steps += [
            _step(f"reference-file/{given.name}", "reference-file", "pipeline", checked,
                  model=reference, file=theirs),
            _step(f"kld/{given.name}", "kld", "binary", {}, model=theirs, logits=logits),
            _step(f"bench/{given.name}", "bench", "binary", {}, model=theirs),
        ]  # fmt: skip
    return steps


def _maker(variant: VariantConfig) -> str:
    return "quantize" if variant.way == "ftype" else "quantize-target"


def _task_steps(config: PipelineConfig) -> list[Step]:
    """Scores of the reference and of every variant on every set."""
    if config.tasks is None:
        return []
    files = {"tasks": "tasks.bin", "index": "index.jsonl", "report": "report.json"}
    reference = OutputRef(step="convert", output="gguf")
    models = {"reference": reference} | {
        variant.label: OutputRef(step=f"quantize/{variant.label}", output="gguf")
        for variant in config.variants
    }
    sets = [
        _step(f"dataset/{name}", "dataset", "pipeline", files, source1=_leaf(f"{name}.jsonl"))
        for name in config.tasks.sets
    ]
    scores = [
        _step(f"tasks/{label}/{name}", "tasks", "binary", {}, model=model,
              tasks=OutputRef(step=f"dataset/{name}", output="tasks"),
              index=OutputRef(step=f"dataset/{name}", output="index"))
        for label, model in models.items()
        for name in config.tasks.sets
    ]  # fmt: skip
    return [*sets, *scores]


def _importance(config: PipelineConfig) -> list[Step]:
    """One text and its imatrix, several and their merge, or a given file and its check."""
    reference, made = OutputRef(step="convert", output="gguf"), {"imatrix": "imatrix.gguf"}
    if config.imatrix is not None:
        given = _leaf("their.gguf")
        checked = {"report": "check.json", "statistics": "statistics.json"}
        name = "check-imatrix"
        return [_step(name, name, "pipeline", checked, model=reference, imatrix=given)]
    texts = () if config.calibration is None else config.calibration.texts
    if not texts:
        corpus = _leaf("calibration.txt")
        return [_step("imatrix", "imatrix", "binary", made, model=reference, corpus=corpus)]
    parts: dict[str, Input] = {
        f"part{at + 1}": OutputRef(step=f"imatrix/{text.label}", output="imatrix")
        for at, text in enumerate(texts)
    }
    each = [
        _step(f"imatrix/{text.label}", "imatrix", "binary", made, model=reference,
              corpus=_leaf(text.path or ""))
        for text in texts
    ]  # fmt: skip
    return [*each, _step("imatrix", "merge-imatrix", "pipeline", made, **parts)]


def _leaf(label: str) -> Leaf:
    path = Path("texts") / label
    return Leaf(digest=digest(label), path=path, label=label, size_bytes=1234)


def _step(key: str, name: str, made_by: MadeBy, outputs: dict[str, str], **inputs: Input) -> Step:
    def argv(params: Frozen, paths: Paths) -> tuple[str, ...]:
        del params, paths
        return ()

    def parse(log: str, paths: Paths) -> Frozen:
        del log, paths
        return Frozen()

    stage = ToolStage(
        name=name, version=1, tool=f"llama-{name}", made_by=made_by, inputs=frozenset(inputs),
        outputs=outputs, params=Frozen, result=Frozen, argv=argv, parse=parse,
    )  # fmt: skip
    return Step(key=key, stage=stage, params=Frozen(), inputs=inputs)


def _record(plan: Plan, step: Step, config: PipelineConfig) -> StepRecord:
    name, _, label = step.key.partition("/")
    variants = {variant.label: variant for variant in config.variants}
    params: dict[str, Any] = {}
    if name == "quantize":
        asked = variants[label]
        by_type = asked.way == "ftype"
        given = part(QuantizeParams, asked) if by_type else target_params(asked)
        params = given.model_dump(mode="json")
    elif step.stage.name == "merge-imatrix":
        params = {"weights": [text.weight for text in config.calibration.texts]}  # type: ignore[union-attr]
    elif name in ("reference", "imatrix"):
        params = {"n_ctx": 256}
    elif name == "tasks":
        params = {"n_ctx": 768, "form": known_sets()[label.partition("/")[2]].form}
    return StepRecord(
        fingerprint=digest(step.key),
        stage=step.stage.name,
        stage_version=1,
        made_by=step.stage.made_by,
        made_by_id=BUILD if step.stage.made_by == "binary" else "",
        params=params,
        inputs={key: _recorded(source) for key, source in step.inputs.items()},
        command=_command(plan, step),
        placement=Placement(n_threads=2),
        machine=MACHINE,
        pipeline_version="0.1.0",
        started="2026-01-02T03:00:00Z",
        seconds=1.5,
        cpu_seconds=2.5,
        peak_rss_bytes=10**8,
        outputs=_outputs(step),
        result=_result(step.stage.name, label, params),
    )


def _recorded(source: Input) -> RecordedInput:
    if isinstance(source, Leaf):
        return RecordedInput(
            kind="leaf", label=source.label, digest=source.digest, size_bytes=source.size_bytes
        )
    return RecordedInput(
        kind="step", label=f"{source.step}:{source.output}", digest=digest(source.step)
    )


def _command(plan: Plan, step: Step) -> tuple[str, ...]:
    del plan
    inputs = (f"in/{name}/{name}.bin" for name in step.inputs)
    flags = (word for path in inputs for word in ("--" + path.split("/")[1], path))
    return (step.stage.tool, *flags, *step.stage.outputs.values())


def _outputs(step: Step) -> tuple[OutputFile, ...]:
    if step.key == "fetch":
        return (
            OutputFile(
                output="files", name="files/config.json", size_bytes=700, sha256=digest("config")
            ),
        )
    return tuple(
        OutputFile(output=output, name=name, size_bytes=5000, sha256=digest(f"{step.key}:{name}"))
        for output, name in step.stage.outputs.items()
    )


def _result(name: str, label: str, params: dict[str, Any]) -> dict[str, Any]:
    if name == "kld":
        scales = {"reference": 0.0, "Q4_K_M": 1.0}
        return kld_result(scales.get(label, 0.8))
    if name in ("quantize", "quantize-target"):
        more = {"ftype": params["ftype"]} if "ftype" in params else {**TARGET, "ftype": "Q4_K_M"}
        decided = dict.fromkeys(params["tensor_types"], 3)
        return {**SIZES, **QUANTIZED, **more, "overridden": decided}
    if name == "dataset":
        return dataset_result(label)
    if name == "tasks":
        return task_result(*label.split("/"))
    if name == "reference-file":
        return {
            **SIZES,
            "architecture": "qwen35",
            "types": {"q4_K": 10},
            "quantized_by": "Them",
            "repo_url": None,
            "imatrix_dataset": None,
            "notes": ["lacks a draft layer"],
        }
    return RESULTS[name]


def imatrix_of(
    *, means: bool = True, counts: tuple[int, ...] = (100,), n_channels: int = 8
) -> Imatrix:
    """Two layers of two tensors; `counts` are the rows of each expert."""
    rng = np.random.default_rng(3)
    entries = {}
    for at, name in enumerate(
        ("blk.0.attn_q.weight", "blk.0.ffn_up.weight", "blk.1.attn_q.weight", "blk.1.ffn_up.weight")
    ):
        rows = np.array(counts)[:, np.newaxis]
        values = rng.normal(size=(len(counts), n_channels)) * rows
        squares = (np.abs(values) + 1.0 + at) * rows
        entries[name] = Entry(
            name=name,
            squares=squares * (rows > 0),
            counts=np.array(counts, dtype=np.int64),
            values=values if means else None,
        )
    return Imatrix(
        entries=entries, datasets=("in/corpus/text.txt",), chunk_count=20, chunk_size=256
    )


def statistics_of(imatrix: Imatrix) -> dict[str, Any]:
    return facts_of(statistics(imatrix)).model_dump(mode="json")


SIZES = {
    "n_tensors": 40, "n_elements": 8_000, "tensor_bytes": 4_900, "file_bytes": 5_000,
    "bpw": 4.9, "file_bpw": 5.0,
}  # fmt: skip
QUANTIZED = {"types": {"q4_K": 30, "f32": 10}, "fallbacks": []}
RESULTS: dict[str, dict[str, Any]] = {
    "fetch": {
        "repo": "someone/Tiny",
        "commit": "c" * 40,
        "files": [{"name": "config.json", "size_bytes": 700, "sha256": digest("config")}],
    },
    "inspect": {
        "architecture": "Qwen3_5ForCausalLM", "model_type": "qwen3_5", "n_parameters": 5_600_000,
        "n_tensors": 40, "tensor_bytes": 11_200_000, "largest_tensor_bytes": 2_000_000,
        "dtypes": {"BF16": 5_600_000}, "vocab_size": 4096, "n_ctx_train": 4096, "n_layers": 4,
        "has_mtp": False, "says_mtp": False, "has_vision": False, "license": "apache-2.0",
        "tags": ["transformers", "safetensors", "tiny"], "languages": ["en"],
        "pipeline_tag": "text-generation", "chat_template": False,
    },
    "weights": {
        "n_values": 5_600_000, "n_overflow": 0, "n_to_zero": 7, "n_subnormal": 1234, "n_nan": 0,
        "n_inf": 0, "max_abs": 12.25, "fits_f16": True,
        "tensors": [
            {"name": "blk.0", "dtype": "BF16", "n_values": 4096, "max_abs": 12.25,
             "n_overflow": 0, "n_to_zero": 7, "n_subnormal": 1234, "n_nan": 0, "n_inf": 0}
        ],
    },
    "convert": {
        **SIZES, "outtype": "f16", "architecture": "qwen35", "pre_tokenizer": "qwen35",
        "pre_tokenizer_overridden": True, "bpw": 16.0, "file_bpw": 16.2,
    },
    "reference": {"ppl": {"value": 12.5, "stderr": 0.25}, "n_ctx": 256, "n_chunks": 40},
    "imatrix": {"n_entries": 4, "n_chunks": 20, "n_ctx": 256, "ppl": None, "partial": [],
                "statistics": statistics_of(imatrix_of())},
    "merge-imatrix": {"n_parts": 2, "n_entries": 4, "n_chunks": 40, "n_ctx": 256, "partial": [],
                      "statistics": statistics_of(imatrix_of(counts=(300,)))},
    "check-imatrix": {"format": "gguf", "n_entries": 4, "n_chunks": None, "n_ctx": None,
                      "lacking": ["output.weight", "token_embd.weight"],
                      "ignored": ["blk.2.nextn.eh_proj.weight"], "partial": [],
                      "statistics": statistics_of(imatrix_of(means=False, counts=(500, 3, 0)))},
    "bench": {
        "rows": [
            {"test": test, "tokens_per_second": {"value": value, "stderr": 1.25},
             "samples": [value, value]}
            for test, value in (("pp512", 2000.0), ("tg128", 150.5))
        ],
        "cpu": "Some CPU", "gpu": "", "backends": "CPU", "n_threads": 2, "n_gpu_layers": -1,
    },
}  # fmt: skip
