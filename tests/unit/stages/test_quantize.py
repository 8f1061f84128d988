from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages.base import Placement
from llamacpp_pipeline.stages.gguf_facts import read_gguf
from llamacpp_pipeline.stages.quantize import STAGE, QuantizeParams, argv, parse
from tests.unit.stages.makers import recorded, write_gguf

TOOL = "llama-quantize"


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    return {"model": write_gguf(tmp_path / "m.gguf"), "gguf": tmp_path / "q.gguf"}


def log_of(path: Path, *, ftype: str = "Q4_K_M", extra: str = "") -> str:
    """What the tool prints about that file."""
    facts = read_gguf(path)
    return (
        f"llama_quantize: quantizing 'm.gguf' to 'q.gguf' as {ftype} using 1 threads\n{extra}"
        f"llama_model_quantize_impl: quant size  = {facts.tensor_bytes / 2**20:8.2f} MiB"
        f" ({facts.bpw:.2f} BPW)\n\nllama_quantize:    total time =  1.00 ms\n"
    )


def test_a_plain_file_type(paths: dict[str, Path]) -> None:
    expected = (TOOL, str(paths["model"]), str(paths["gguf"]), "Q4_K_M")

    assert argv(QuantizeParams(ftype="Q4_K_M"), paths) == expected


def test_a_whole_recipe(paths: dict[str, Path]) -> None:
    params = QuantizeParams(
        ftype="Q4_K_M",
        tensor_types={r".*\.ssm_out\.weight$": "q8_0", "attn_qkv": "q6_K"},
        output_tensor_type="q8_0",
        token_embedding_type="q4_K",  # noqa: S106  a type, no token
        pure=True,
    )

    assert argv(params, {**paths, "imatrix": Path("in/imatrix.gguf")}) == (
        TOOL,
        *("--imatrix", "in/imatrix.gguf"),
        *("--tensor-type", r".*\.ssm_out\.weight$=q8_0", "--tensor-type", "attn_qkv=q6_K"),
        *("--output-tensor-type", "q8_0", "--token-embedding-type", "q4_K"),
        "--pure",
        *(str(paths["model"]), str(paths["gguf"]), "Q4_K_M"),
    )


def test_the_output_tensor_can_be_left(paths: dict[str, Path]) -> None:
    params = QuantizeParams(ftype="Q4_K_M", leave_output_tensor=True)

    assert argv(params, paths)[1] == "--leave-output-tensor"


def test_the_threads_are_the_last_word() -> None:
    assert STAGE.placement(Placement(n_threads=3, extra=("--mmap",))) == ("3",)


def test_a_pattern_that_matches_nothing_is_refused_with_the_nearest_names(
    paths: dict[str, Path],
) -> None:
    params = QuantizeParams(ftype="Q4_K_M", tensor_types={r".*\.smm_out\.weight$": "q8_0"})

    with pytest.raises(
        InputError, match="matches no tensor of m.gguf".replace(".", r"\.")
    ) as error:
        argv(params, paths)
    assert error.value.evidence[0] == "near it: blk.0.ssm_out.weight"


def test_a_pattern_with_a_layer_number_that_matches_nothing_is_compared_by_its_name(
    paths: dict[str, Path],
) -> None:
    params = QuantizeParams(ftype="Q4_K_M", tensor_types={r"blk\.[0-9]+\.atn_qkv": "q8_0"})

    with pytest.raises(InputError) as error:
        argv(params, paths)
    assert error.value.evidence[0] == "near it: blk.0.attn_qkv.weight"


def test_a_pattern_for_tensors_that_are_never_quantized_is_refused(paths: dict[str, Path]) -> None:
    params = QuantizeParams(ftype="Q4_K_M", tensor_types={"attn_norm|ssm_conv1d": "q8_0"})

    with pytest.raises(InputError, match="never changes") as error:
        argv(params, paths)
    assert error.value.evidence == ("blk.0.attn_norm.weight", "blk.0.ssm_conv1d.weight")


def test_a_pattern_that_an_earlier_one_leaves_nothing_is_refused(paths: dict[str, Path]) -> None:
    params = QuantizeParams(
        ftype="Q4_K_M", tensor_types={"ssm": "q8_0", r"ssm_out\.weight": "q6_K"}
    )

    with pytest.raises(InputError, match="decides nothing"):
        argv(params, paths)


def test_a_pattern_for_the_output_tensor_beside_its_own_flag_is_refused(
    paths: dict[str, Path],
) -> None:
    params = QuantizeParams(
        ftype="Q4_K_M", tensor_types={"^output": "q8_0"}, output_tensor_type="q6_K"
    )

    with pytest.raises(InputError, match="decides nothing"):
        argv(params, paths)


@pytest.mark.parametrize(
    "params",
    [
        pytest.param(QuantizeParams(ftype="IQ2_XXS"), id="small-file-type"),
        pytest.param(QuantizeParams(ftype="Q2_K_S"), id="q2_k_s"),
        pytest.param(QuantizeParams(ftype="IQ3_XS"), id="mixture-with-a-small-type"),
        pytest.param(
            QuantizeParams(ftype="Q8_0", tensor_types={"ssm_out": "iq1_s"}), id="override"
        ),
    ],
)
def test_what_needs_an_imatrix_is_refused_without_one(
    paths: dict[str, Path], params: QuantizeParams
) -> None:
    with pytest.raises(InputError, match="cannot be made without an imatrix") as error:
        argv(params, paths)
    assert "calibration" in (error.value.hint or "")
    assert argv(params, {**paths, "imatrix": Path("i.gguf")})[1] == "--imatrix"


@pytest.mark.parametrize(
    "params",
    [
        pytest.param(
            QuantizeParams(ftype="IQ2_XXS", tensor_types={r"blk\.": "q4_K"}),
            id="all-layers-are-given-larger-types",
        ),
        pytest.param(QuantizeParams(ftype="IQ3_XS", pure=True), id="pure-iq3_xs-is-all-iq3_s"),
        pytest.param(
            QuantizeParams(ftype="Q8_0", tensor_types={"token_embd": "iq2_xs"}),
            id="embeddings-never-need-one",
        ),
        pytest.param(QuantizeParams(ftype="IQ3_S"), id="iq3_s"),
    ],
)
def test_what_needs_no_imatrix_is_not_refused(
    paths: dict[str, Path], params: QuantizeParams
) -> None:
    assert argv(params, paths)[0] == TOOL


def test_sizes_come_from_the_file_and_agree_with_the_log(paths: dict[str, Path]) -> None:
    write_gguf(paths["gguf"])

    result = parse(log_of(paths["gguf"]), paths)

    facts = read_gguf(paths["gguf"])
    kept = ("norm", "conv1d")
    changeable = [t.name for t in facts.tensors if not any(part in t.name for part in kept)]
    assert result.ftype == "Q4_K_M"
    assert (result.n_tensors, result.n_elements) == (8, facts.n_elements)
    assert (result.bpw, result.file_bpw) == (32, facts.file_bpw)
    assert (result.tensor_bytes, result.file_bytes) == (facts.tensor_bytes, facts.file_bytes)
    assert result.types == {"f32": 8}
    assert result.fallbacks == ()
    assert result.type_of == dict.fromkeys(changeable, "f32")


@pytest.mark.parametrize(
    ("right", "wrong"), [("(32.00 BPW)", "(31.98 BPW)"), ("0.03 MiB", "0.04 MiB")]
)
def test_a_log_that_disagrees_with_the_file_is_refused(
    paths: dict[str, Path], right: str, wrong: str
) -> None:
    write_gguf(paths["gguf"])
    log = log_of(paths["gguf"])
    assert right in log

    with pytest.raises(UnreadableOutputError, match="a file of the size it reports"):
        parse(log.replace(right, wrong), paths)


def test_a_file_cut_short_is_refused(paths: dict[str, Path]) -> None:
    write_gguf(paths["gguf"])
    log = log_of(paths["gguf"])
    paths["gguf"].write_bytes(paths["gguf"].read_bytes()[:-1000])

    with pytest.raises(UnreadableOutputError, match="a whole GGUF"):
        parse(log, paths)


@pytest.mark.parametrize("lost", ["quant size", "total time", "as Q4_K_M"])
def test_a_log_without_its_proof_is_refused(paths: dict[str, Path], lost: str) -> None:
    write_gguf(paths["gguf"])
    log = log_of(paths["gguf"])
    assert lost in log

    with pytest.raises(UnreadableOutputError, match="quant size"):
        parse(log.replace(lost, ""), paths)


def test_the_recorded_logs_hold_the_proof(paths: dict[str, Path]) -> None:
    values = {"a.weight": np.zeros((4, 256), np.float32)}
    write_gguf(paths["gguf"], tensors=values)

    for case in ("good", "overrides"):  # read as far as the comparison with this other file
        with pytest.raises(UnreadableOutputError, match="a file of the size it reports"):
            parse(recorded(TOOL, case), paths)


def test_tensors_that_fell_back_are_named(paths: dict[str, Path]) -> None:
    write_gguf(paths["gguf"])
    line = (
        "warning: blk.0.ssm_out.weight                - ncols    64 not divisible by 256"
        " (required for type    q4_K) -> falling back to    q5_0\n"
        "llama_model_quantize_impl: WARNING: 1 of 8 tensor(s) required fallback quantization\n"
    )

    assert parse(log_of(paths["gguf"], extra=line), paths).fallbacks == ("blk.0.ssm_out.weight",)
    with pytest.raises(UnreadableOutputError, match="all tensors that fell back"):
        parse(log_of(paths["gguf"], extra=line.replace("1 of 8", "2 of 8")), paths)


def test_what_each_pattern_decided_is_counted_in_the_file(paths: dict[str, Path]) -> None:
    write_gguf(paths["gguf"])
    params = QuantizeParams(ftype="Q4_K_M", tensor_types={"ssm_out": "f32", r"blk\.1": "f32"})

    result = STAGE.read(params, log_of(paths["gguf"]), paths)

    assert result.overridden == {"ssm_out": 2, r"blk\.1": 1}


def test_a_type_other_than_asked_for_is_refused(paths: dict[str, Path]) -> None:
    write_gguf(paths["gguf"])
    params = QuantizeParams(ftype="Q4_K_M", tensor_types={"ssm_out": "q8_0"})

    with pytest.raises(UnreadableOutputError, match="types that tensor_types asks for") as error:
        STAGE.read(params, log_of(paths["gguf"]), paths)
    assert error.value.evidence[0] == "blk.0.ssm_out.weight: f32 instead of q8_0"


def test_another_file_type_than_asked_for_is_refused(paths: dict[str, Path]) -> None:
    write_gguf(paths["gguf"])

    with pytest.raises(UnreadableOutputError, match="the file type Q8_0"):
        STAGE.read(QuantizeParams(ftype="Q8_0"), log_of(paths["gguf"]), paths)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("no_imatrix", "blk.0.attn_gate.weight would get a type that cannot be made without"),
        ("requantize", "already quantized (q4_K)"),
        ("bad_imatrix", "the imatrix cannot be read"),
        ("bad_pattern", "Mismatched '(' and ')' in regular expression"),
    ],
)
def test_known_failures_are_explained(case: str, words: str) -> None:
    explained = STAGE.explain(recorded(TOOL, case))

    assert isinstance(explained, InputError)
    assert words in explained.message
    assert explained.hint


def test_an_imatrix_that_lacks_a_tensor_is_explained() -> None:
    log = "Missing importance matrix for tensor blk.2.attn_k.weight in a very low-bit quantization"

    explained = STAGE.explain(log)

    assert explained is not None
    assert "blk.2.attn_k.weight" in explained.message


@pytest.mark.parametrize("case", ["missing_input", "unknown_ftype"])
def test_other_failures_are_left_to_the_tools_own_words(case: str) -> None:
    assert STAGE.explain(recorded(TOOL, case)) is None


def test_progress_counts_tensors() -> None:
    progress = STAGE.progress
    assert progress is not None
    assert progress.total is not None
    log = recorded(TOOL, "good")

    assert [match["n"] for match in progress.done.finditer(log)][-1] == "55"
    assert {match["n"] for match in progress.total.finditer(log)} == {"55"}
