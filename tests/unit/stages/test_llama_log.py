from __future__ import annotations

from llamacpp_pipeline.stages.llama_log import AT_MOST, complaints, error_records
from tests.unit.stages.makers import recorded

CORRUPTED = (
    "llama_model_load: error loading model: tensor 'blk.1.attn_qkv.weight' data is not within"
    " the file bounds, model is corrupted or incomplete"
)


def test_a_loader_failure_is_told_in_the_tools_own_words_without_its_prefix() -> None:
    assert complaints(recorded("llama-perplexity", "cut_gguf")) == (
        CORRUPTED,
        "llama_model_load_from_file_impl: failed to load model",
        "cmn  common_init_: failed to load model 'cut.gguf'",
        "llama_perplexity: unable to load model",
    )


def test_an_argument_error_has_no_prefix_and_is_found() -> None:
    log = recorded("llama-perplexity", "unknown_flag")

    assert complaints(log) == ("error: invalid argument: --no-such-flag",)
    assert error_records(log) == ()


def test_a_python_traceback_is_told_by_its_last_line() -> None:
    log = recorded("convert_hf_to_gguf", "no_mtp_layers")

    assert complaints(log)[-1] == "AssertionError"


def test_a_good_run_has_no_complaints() -> None:
    for case in ("good", "reference", "kld_good", "kld_against_itself"):
        assert complaints(recorded("llama-perplexity", case)) == ()
    assert complaints(recorded("llama-imatrix", "good")) == ()
    assert complaints(recorded("llama-quantize", "good")) == ()
    assert complaints(recorded("llama-bench", "good")) == ()
    assert complaints(recorded("convert_hf_to_gguf", "good")) == ()


def test_an_error_record_in_the_middle_of_a_line_is_found() -> None:
    log = "0.00.1 x seconds per pass - ETA 0.08.902.123 E perplexity: broken\n"

    assert error_records(log) == ("perplexity: broken",)


def test_an_error_record_with_minutes_in_its_prefix_is_found() -> None:
    assert error_records("12.08.902.123 E late\n") == ("late",)


def test_repeated_lines_are_told_once_and_only_the_last_few() -> None:
    log = "error: again\n" * 3 + "".join(f"error: number {n}\n" for n in range(20))

    found = complaints(log)

    assert len(found) == AT_MOST
    assert found[-1] == "error: number 19"
    assert len(set(found)) == len(found)


def test_colours_and_carriage_returns_do_not_hide_a_complaint() -> None:
    assert complaints("Writing: 3%\r\x1b[31merror: red\x1b[0m\r\n") == ("error: red",)
