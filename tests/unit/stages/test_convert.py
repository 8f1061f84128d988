from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_pipeline.errors import InputError, ToolchainError, UnreadableOutputError
from llamacpp_pipeline.stages.convert import STAGE, ConvertParams, ConvertResult, argv, parse
from llamacpp_pipeline.stages.weights import check
from tests.unit.stages.makers import CONFIG, Raw, f32, recorded, write_gguf, write_model

TOOL = "convert_hf_to_gguf"
MTP = {"mtp.fc.weight": f32(1), "w": f32(1)}


def make(
    folder: Path, tensors: dict[str, Raw] | None = None, config: dict[str, object] | None = None
) -> dict[str, Path]:
    """A model folder, the report on its weights, and the place for the GGUF."""
    model = write_model(folder / "model", tensors, config)
    report = folder / "weights.json"
    report.write_text(check(model).model_dump_json())
    return {"model": model, "weights": report, "gguf": folder / "model.gguf"}


def converted(
    paths: dict[str, Path], *, file_type: int = 1, pre: str = "qwen35"
) -> dict[str, Path]:
    """The paths, with a GGUF as the converter would leave it."""
    write_gguf(
        paths["gguf"],
        numbers={"general.file_type": file_type},
        texts={"tokenizer.ggml.pre": pre} if pre else {},
    )
    return paths


def test_argv(tmp_path: Path) -> None:
    paths = make(tmp_path)
    params = ConvertParams(model_name="Demo", pre_tokenizer="qwen35")

    assert argv(params, paths) == (
        TOOL,
        str(paths["model"]),
        *("--outfile", str(paths["gguf"]), "--outtype", "f16", "--model-name", "Demo"),
        "--no-mtp",
        *("--pre-tokenizer", "qwen35"),
    )


def test_the_projector_is_its_own_run(tmp_path: Path) -> None:
    paths = make(tmp_path)

    assert argv(ConvertParams(model_name="Demo", mmproj=True), paths)[6:] == (
        *("--model-name", "Demo"),
        "--mmproj",
    )


@pytest.mark.parametrize(
    ("outtype", "weight", "chosen"),
    [
        ("auto", 1.0, "f16"),
        ("auto", 1e9, "bf16"),
        ("f16", 1.0, "f16"),
        ("bf16", 1e9, "bf16"),
        ("f32", 1e9, "f32"),
    ],
)
def test_the_outtype_follows_the_weights(
    tmp_path: Path, outtype: str, weight: float, chosen: str
) -> None:
    paths = make(tmp_path, {"w": f32(weight)})
    params = ConvertParams.model_validate({"outtype": outtype, "model_name": "Demo"})

    command = argv(params, paths)

    assert command[command.index("--outtype") + 1] == chosen


def test_f16_that_would_overflow_is_refused_with_the_tensors(tmp_path: Path) -> None:
    paths = make(tmp_path, {"good": f32(1), "huge": f32(1, 7e4), "broken": f32(float("nan"))})

    with pytest.raises(InputError, match="2 tensors do not fit F16") as caught:
        argv(ConvertParams(outtype="f16", model_name="Demo"), paths)
    assert caught.value.evidence == (
        "broken: 0 beyond 65504 (largest 0), 1 NaN, 0 infinite of 1",
        "huge: 1 beyond 65504 (largest 70000), 0 NaN, 0 infinite of 2",
    )
    assert "bf16" in (caught.value.hint or "")


def test_f16_of_scaled_weights_is_refused(tmp_path: Path) -> None:
    paths = make(tmp_path, {"w": Raw(dtype="F8_E4M3", shape=(2,), data=b"xx"), "v": f32(1)})

    with pytest.raises(InputError, match="not known to fit F16") as caught:
        argv(ConvertParams(outtype="f16", model_name="Demo"), paths)
    assert caught.value.evidence == ("2 values are stored as F8_E4M3",)


def test_auto_needs_the_report(tmp_path: Path) -> None:
    paths = {**make(tmp_path)}
    del paths["weights"]

    with pytest.raises(InputError, match="needs the weights to have been counted"):
        argv(ConvertParams(model_name="Demo"), paths)
    assert "bf16" in argv(ConvertParams(outtype="bf16", model_name="Demo"), paths)


def test_a_report_that_is_none_is_refused(tmp_path: Path) -> None:
    paths = make(tmp_path)
    paths["weights"].write_text("{}")

    with pytest.raises(InputError, match=r"weights\.json is not a report"):
        argv(ConvertParams(model_name="Demo"), paths)


@pytest.mark.parametrize(
    ("mtp", "tensors", "config", "flags"),
    [
        pytest.param("auto", None, CONFIG, ("--no-mtp",), id="absent"),
        pytest.param(
            "auto",
            None,
            {**CONFIG, "mtp_num_hidden_layers": 1},
            ("--no-mtp",),
            id="announced-but-absent",
        ),
        pytest.param("auto", MTP, CONFIG, (), id="present"),
        pytest.param("keep", MTP, CONFIG, (), id="present-and-kept"),
        pytest.param("drop", MTP, CONFIG, ("--no-mtp",), id="present-and-dropped"),
        pytest.param(
            "auto", None, {**CONFIG, "architectures": ["LlamaForCausalLM"]}, (), id="never-had-any"
        ),
        pytest.param(
            "drop", None, {**CONFIG, "architectures": ["LlamaForCausalLM"]}, (), id="none-to-drop"
        ),
        pytest.param(
            "auto",
            None,
            {**CONFIG, "architectures": ["X"], "text_config": dict(CONFIG)},
            ("--no-mtp",),
            id="the-text-part-decides",
        ),
    ],
)
def test_draft_layers(
    tmp_path: Path,
    mtp: str,
    tensors: dict[str, Raw] | None,
    config: dict[str, object],
    flags: tuple[str, ...],
) -> None:
    params = ConvertParams.model_validate({"mtp": mtp, "model_name": "Demo"})

    assert argv(params, make(tmp_path, tensors, config))[8:] == flags


def test_draft_layers_that_are_not_there_cannot_be_kept(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no multi-token-prediction tensors to keep"):
        argv(ConvertParams(mtp="keep", model_name="Demo"), make(tmp_path))


def test_draft_layers_that_the_converter_cannot_leave_out(tmp_path: Path) -> None:
    paths = make(tmp_path, MTP, {**CONFIG, "architectures": ["Glm4MoeForCausalLM"]})

    with pytest.raises(InputError, match="cannot leave out"):
        argv(ConvertParams(mtp="drop", model_name="Demo"), paths)


def test_the_result_is_read_from_the_file(tmp_path: Path) -> None:
    paths = converted(make(tmp_path))

    result = parse(recorded(TOOL, "good"), paths)

    assert isinstance(result, ConvertResult)
    assert (result.outtype, result.architecture) == ("f16", "qwen35")
    assert (result.pre_tokenizer, result.pre_tokenizer_overridden) == ("qwen35", True)
    assert result.n_tensors == 8
    assert result.file_bytes == paths["gguf"].stat().st_size


def test_a_vocabulary_that_needs_no_pre_tokenizer(tmp_path: Path) -> None:
    paths = converted(make(tmp_path), pre="")

    assert parse("Model successfully exported to x", paths).pre_tokenizer == ""


def test_success_without_its_line_is_refused(tmp_path: Path) -> None:
    paths = converted(make(tmp_path))

    with pytest.raises(UnreadableOutputError, match="successfully exported"):
        parse("INFO:gguf.gguf_writer:Writing", paths)


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    paths = converted(make(tmp_path))
    paths["gguf"].write_bytes(paths["gguf"].read_bytes()[:-9])

    with pytest.raises(UnreadableOutputError, match="a whole GGUF"):
        parse(recorded(TOOL, "good"), paths)


def test_a_quantized_file_is_refused(tmp_path: Path) -> None:
    paths = converted(make(tmp_path), file_type=7)

    with pytest.raises(UnreadableOutputError, match="a GGUF of F32, F16 or BF16"):
        parse(recorded(TOOL, "good"), paths)


def test_what_was_made_is_compared_with_what_was_asked(tmp_path: Path) -> None:
    paths = converted(make(tmp_path))
    log = recorded(TOOL, "good")
    asked = ConvertParams(model_name="Demo", pre_tokenizer="qwen35")

    assert STAGE.read(asked, log, paths).outtype == "f16"
    with pytest.raises(UnreadableOutputError, match="a GGUF of bf16"):
        STAGE.read(asked.model_copy(update={"outtype": "bf16"}), log, paths)
    with pytest.raises(UnreadableOutputError, match="the pre-tokenizer qwen2"):
        STAGE.read(asked.model_copy(update={"pre_tokenizer": "qwen2"}), log, paths)
    with pytest.raises(UnreadableOutputError, match="the pre-tokenizer qwen35"):
        STAGE.read(asked, log.replace("overridden", ""), paths)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("unknown_pre_tokenizer", "does not know this model's tokenizer"),
        ("unsupported_architecture", "does not support the architecture NoSuchForCausalLM"),
        ("no_vision", "does not support the architecture Qwen3_5ForCausalLM"),
    ],
)
def test_known_failures_are_explained(case: str, words: str) -> None:
    explained = STAGE.explain(recorded(TOOL, case))

    assert isinstance(explained, InputError)
    assert words in explained.message
    assert explained.hint


def test_an_unknown_tokenizer_is_told_the_option() -> None:
    explained = STAGE.explain(recorded(TOOL, "unknown_pre_tokenizer"))

    assert explained is not None
    assert "`convert.pre_tokenizer`" in (explained.hint or "")


def test_a_missing_package_is_a_matter_of_the_toolchain() -> None:
    explained = STAGE.explain("ModuleNotFoundError: No module named 'torch'\n")

    assert isinstance(explained, ToolchainError)
    assert "make venv" in (explained.hint or "")


def test_other_failures_are_left_to_the_converters_words() -> None:
    assert STAGE.explain(recorded(TOOL, "no_mtp_layers")) is None


def test_progress_is_in_percent() -> None:
    progress = STAGE.progress
    assert progress is not None

    assert [m["n"] for m in progress.done.finditer(recorded(TOOL, "good"))][-1] == "100"
