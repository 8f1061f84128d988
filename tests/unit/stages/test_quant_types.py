from __future__ import annotations

import pytest
from pydantic import ValidationError

from llamacpp_pipeline.stages.quantize import FTYPES, TENSOR_TYPES, QuantizeParams


@pytest.mark.parametrize(
    ("given", "known"),
    [("Q4_K_M", "Q4_K_M"), ("q4_k_m", "Q4_K_M"), ("Q4_K", "Q4_K_M"), ("q8_0", "Q8_0")],
)
def test_file_types_are_spelled_as_the_tool_spells_them(given: str, known: str) -> None:
    assert QuantizeParams(ftype=given).ftype == known


def test_tensor_types_are_spelled_as_the_tool_prints_them() -> None:
    params = QuantizeParams(
        ftype="Q4_K_M",
        tensor_types={"a": "Q8_0", "b": "q4_k"},
        output_tensor_type="Q6_K",
        token_embedding_type="BF16",  # noqa: S106  a type, no token
    )

    assert params.tensor_types == {"a": "q8_0", "b": "q4_K"}
    assert (params.output_tensor_type, params.token_embedding_type) == ("q6_K", "bf16")


def test_names_are_listed_once() -> None:
    assert len(set(FTYPES)) == len(FTYPES) == 35
    assert len(set(TENSOR_TYPES)) == len(TENSOR_TYPES) == 28


@pytest.mark.parametrize(
    ("ftype", "message"),
    [
        ("Q4_K_X", "knows no file type 'Q4_K_X': did you mean Q4_K_"),
        ("nonsense", "knows no file type 'nonsense'"),
        ("COPY", "knows no file type 'COPY'"),
        ("15", "knows no file type '15'"),
    ],
)
def test_an_unknown_file_type_is_refused_with_the_nearest(ftype: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        QuantizeParams(ftype=ftype)


@pytest.mark.parametrize(
    ("tensor_type", "message"),
    [
        ("q8_1", "makes no tensor of type 'q8_1': did you mean"),
        ("Q4_K_M", r"\(Q4_K_M is a file type"),
        ("i32", "makes no tensor of type 'i32'"),
    ],
)
def test_an_unknown_tensor_type_is_refused_with_the_nearest(tensor_type: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        QuantizeParams(ftype="Q4_K_M", tensor_types={"ssm_out": tensor_type})
    with pytest.raises(ValidationError, match=message):
        QuantizeParams(ftype="Q4_K_M", output_tensor_type=tensor_type)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", "an empty pattern matches every tensor"),
        ("a=b", "cuts the pattern at `=`"),
        ("(?=x)", "cuts the pattern at `=`"),
        (r"blk\.\D+", "lower-cases patterns"),
        ("Attn", "lower-cases patterns"),
        ("(?<!x)y", "have no lookbehind"),
        ("(?i)attn", "have no lookbehind"),
        ("[[:alpha:]]", "have no lookbehind"),
        ("x{,3}", "have no lookbehind"),
        ("(attn", "is not a regular expression"),
    ],
)
def test_a_pattern_that_the_tool_would_read_otherwise_is_refused(
    pattern: str, message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        QuantizeParams(ftype="Q4_K_M", tensor_types={pattern: "q8_0"})


@pytest.mark.parametrize("pattern", [r".*\.ssm_out\.weight$", r"blk\.(?:0|1)\.", r"\d+", "a b"])
def test_a_pattern_that_both_read_alike_is_accepted(pattern: str) -> None:
    params = QuantizeParams(ftype="Q4_K_M", tensor_types={pattern: "q8_0"})

    assert list(params.tensor_types) == [pattern]


@pytest.mark.parametrize("ftype", ["F16", "BF16", "F32"])
def test_overrides_that_the_tool_would_ignore_are_refused(ftype: str) -> None:
    with pytest.raises(ValidationError, match="ignores tensor_types"):
        QuantizeParams(ftype=ftype, tensor_types={"ssm_out": "q8_0"})


def test_the_output_tensor_cannot_be_left_and_changed() -> None:
    with pytest.raises(ValidationError, match="exclude each other"):
        QuantizeParams(ftype="Q4_K_M", leave_output_tensor=True, output_tensor_type="q8_0")


def test_the_order_of_overrides_is_kept() -> None:
    given = {"z": "q8_0", "a": "q4_0", "m": "f16"}

    assert list(QuantizeParams(ftype="Q4_K_M", tensor_types=given).tensor_types) == ["z", "a", "m"]
