from __future__ import annotations

import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages import weights
from llamacpp_pipeline.stages.safetensors_files import checkpoint_tensors
from llamacpp_pipeline.stages.weights import STAGE, WeightsParams, argv, check, parse, tally
from tests.unit.stages.makers import Raw, bf16, f32, write_model

MAX_F16 = 65504.0


def raw(dtype: str, values: np.ndarray[tuple[int], np.dtype[np.generic]]) -> Raw:
    return Raw(dtype=dtype, shape=values.shape, data=values.tobytes())


def test_every_kind_of_bf16_value_is_counted(tmp_path: Path) -> None:
    patterns = {
        "one": 0x3F80,
        "zero": 0x0000,
        "minus zero": 0x8000,
        "largest that fits, 65280": 0x477F,
        "smallest that does not, 65536": 0x4780,
        "minus 65536": 0xC780,
        "infinity": 0x7F80,
        "nan": 0x7FC1,
        "2^-25 rounds to zero": 0x3300,
        "above it: subnormal": 0x3301,
        "2^-14 is normal": 0x3880,
        "below it: subnormal": 0x387F,
    }
    write_model(tmp_path, {"w": bf16(*patterns.values())})

    result = check(tmp_path)

    assert result.n_values == 12
    assert (result.n_overflow, result.n_inf, result.n_nan) == (2, 1, 1)
    assert (result.n_to_zero, result.n_subnormal) == (1, 2)
    assert result.max_abs == 65536
    assert not result.fits_f16
    assert result.tensors[0].name == "w"


def test_all_65536_patterns_of_bf16_agree_with_numpys_rounding(tmp_path: Path) -> None:
    patterns = np.arange(65536, dtype=np.uint32)
    values = (patterns << 16).view(np.float32)
    write_model(tmp_path, {"w": raw("BF16", patterns.astype("<u2"))})

    found = check(tmp_path).tensors[0]

    assert_as_numpy(found, values)


def test_all_65536_patterns_of_f16_agree_with_numpys_rounding(tmp_path: Path) -> None:
    patterns = np.arange(65536, dtype="<u2")
    write_model(tmp_path, {"w": raw("F16", patterns)})

    found = check(tmp_path).tensors[0]

    assert_as_numpy(found, patterns.view(np.float16).astype(np.float32))


@pytest.mark.parametrize(("dtype", "kind"), [("F32", np.float32), ("F64", np.float64)])
def test_wider_values_around_every_limit_agree_with_numpys_rounding(
    tmp_path: Path, dtype: str, kind: type[np.floating]
) -> None:
    limits = [2.0**-25, 2.0**-24, 2.0**-14 - 2.0**-25, 2.0**-14, MAX_F16, 65520.0, 70000.0]
    near = [
        kind(sign) * np.nextafter(kind(limit), kind(way))
        for limit in limits
        for way in (0.0, limit, math.inf)
        for sign in (1, -1)
    ]
    values = np.array([*near, kind(0), kind(math.inf), kind(math.nan)], dtype=kind)
    write_model(tmp_path, {"w": raw(dtype, values)})

    assert_as_numpy(check(tmp_path).tensors[0], values)


def assert_as_numpy(
    found: weights.TensorTrouble, values: np.ndarray[tuple[int], np.dtype[np.floating]]
) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = np.abs(values.astype(np.float16).astype(np.float64))
        size = np.abs(values.astype(np.float64))
    finite = np.isfinite(size)
    assert found.n_overflow == int(np.sum(finite & (size > MAX_F16)))
    assert found.n_to_zero == int(np.sum((size > 0) & (rounded == 0)))
    assert found.n_subnormal == int(np.sum((rounded > 0) & (rounded < 2.0**-14)))
    assert found.n_inf == int(np.sum(np.isinf(size)))
    assert found.n_nan == int(np.sum(np.isnan(size)))
    assert found.max_abs == size[finite].max()


def test_a_tensor_read_in_pieces_gives_the_same_counts(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(0, 1e-4, 1000).astype(np.float32)
    write_model(tmp_path, {"w": raw("F32", values)})
    (tensor,) = checkpoint_tensors(tmp_path)

    assert tally(tensor, piece_bytes=64) == tally(tensor)


def test_memory_does_not_grow_with_the_tensor(tmp_path: Path) -> None:
    patterns = np.full(4_000_000, 0x3F80, dtype="<u2")
    write_model(tmp_path, {"w": raw("BF16", patterns)})
    (tensor,) = checkpoint_tensors(tmp_path)

    tracemalloc.start()
    try:
        tally(tensor, piece_bytes=100_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 1_000_000


def test_the_worst_tensor_comes_first_and_good_ones_are_left_out(tmp_path: Path) -> None:
    tensors = {"good": f32(1), "tiny": f32(1e-9), "odd": f32(6e-6), "huge": f32(1e9)}
    write_model(tmp_path, tensors)

    result = check(tmp_path)

    assert [tensor.name for tensor in result.tensors] == ["huge", "tiny", "odd"]
    assert result.max_abs == pytest.approx(1e9)


def test_a_model_that_fits_says_so(tmp_path: Path) -> None:
    write_model(tmp_path, {"w": bf16(0x3F80), "empty": f32()})

    result = check(tmp_path)

    assert result.fits_f16
    assert result.tensors == ()


def test_scaled_types_are_said_to_be_unchecked(tmp_path: Path) -> None:
    scaled = Raw(dtype="F8_E4M3", shape=(4,), data=bytes(4))
    write_model(tmp_path, {"w": scaled, "v": f32(1)})

    result = check(tmp_path)

    assert result.unchecked == {"F8_E4M3": 4}
    assert result.n_values == 5
    assert not result.fits_f16


def test_integers_are_no_obstacle(tmp_path: Path) -> None:
    ids = Raw(dtype="I64", shape=(1,), data=bytes(8))
    write_model(tmp_path, {"position_ids": ids, "v": f32(1)})

    assert check(tmp_path).fits_f16


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path)
    (tmp_path / "config.json").unlink()

    with pytest.raises(InputError, match=r"has no config\.json"):
        check(tmp_path)


def test_the_program_leaves_its_report(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", {"w": f32(1, 1e9)})
    paths = {"model": model, "report": tmp_path / "weights.json"}

    ran = CliRunner().invoke(weights.main, list(argv(WeightsParams(), paths)[1:]))

    assert ran.exit_code == 0
    assert "tensor 1/1 w" in ran.stderr
    result = parse(ran.output, paths)
    assert result == check(model)
    progress = STAGE.progress
    assert progress is not None
    assert progress.done.search(ran.stderr)


def test_the_program_reports_a_failure_that_is_read_back_whole(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    (model / "model.safetensors").write_bytes(b"cut")
    paths = {"model": model, "report": tmp_path / "weights.json"}

    ran = CliRunner().invoke(weights.main, list(argv(WeightsParams(), paths)[1:]))

    assert ran.exit_code == 1
    assert ran.stdout == ""
    explained = STAGE.explain(ran.output)
    assert isinstance(explained, InputError)
    assert explained.message == "model.safetensors is cut short or damaged"
    assert explained.evidence
    assert explained.hint


def test_a_report_that_is_not_there_is_unreadable_output(tmp_path: Path) -> None:
    with pytest.raises(UnreadableOutputError, match=r"a readable weights\.json"):
        parse("", {"report": tmp_path / "weights.json"})
