from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from llamacpp_pipeline.datasets.imatrix_file import Entry, Imatrix, merge, read, write
from llamacpp_pipeline.errors import InputError
from tests.unit.datasets.imatrix_sample import (
    dat_bytes,
    entry,
    expert_entry,
    imatrix,
    write_tensors,
)

DENSE = entry("blk.0.attn_q.weight", [[1.0, -2.0], [0.5, 4.0], [2.0, 0.0]])
EXPERTS = expert_entry(
    "blk.0.ffn_up_exps.weight", [[[1.0, 2.0]], [], [[3.0, -1.0]] * 2], n_channels=2
)
SQUARES = np.ones((2, 4), dtype=np.float32)
COUNTS = np.ones((2, 1), dtype=np.float32)


def same(first: Imatrix, second: Imatrix) -> bool:
    return first.entries.keys() == second.entries.keys() and all(
        same_entry(one, second.entries[name]) for name, one in first.entries.items()
    )


def same_entry(first: Entry, second: Entry) -> bool:
    known = (first.values is None) == (second.values is None)
    return (
        known
        and np.array_equal(first.counts, second.counts)
        and np.array_equal(first.squares, second.squares)
        and (first.values is None or np.array_equal(first.values, np.asarray(second.values)))
    )


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    before = imatrix(DENSE, EXPERTS, replace(DENSE, name="output.weight", values=None))

    write(before, tmp_path / "im.gguf")
    after = read(tmp_path / "im.gguf")

    assert same(before, after)
    assert (after.datasets, after.chunk_count, after.chunk_size) == (("text.txt",), 3, 64)
    assert after.without_values == ("output.weight",)
    assert [one.name for one in tmp_path.iterdir()] == ["im.gguf"]


def test_a_written_file_has_the_keys_and_shapes_of_upstream(tmp_path: Path) -> None:
    write(imatrix(EXPERTS), tmp_path / "im.gguf")

    reader = GGUFReader(tmp_path / "im.gguf")

    keys = {key for key in reader.fields if not key.startswith("GGUF.")}
    assert keys == {
        "general.type",
        "imatrix.datasets",
        "imatrix.chunk_count",
        "imatrix.chunk_size",
    }
    assert {one.name: one.shape.tolist() for one in reader.tensors} == {
        "blk.0.ffn_up_exps.weight.in_sum2": [2, 3],
        "blk.0.ffn_up_exps.weight.counts": [1, 3],
        "blk.0.ffn_up_exps.weight.in_sum": [2, 3],
    }


def test_a_file_without_a_dataset_still_has_the_key_that_quantize_insists_on(
    tmp_path: Path,
) -> None:
    write(replace(imatrix(DENSE), datasets=()), tmp_path / "im.gguf")

    assert read(tmp_path / "im.gguf").datasets == ("unknown",)


def test_tensors_of_other_tools_are_left_alone(tmp_path: Path) -> None:
    path = write_tensors(
        tmp_path / "im.gguf",
        {
            "blk.0.attn_q.weight.in_sum2": SQUARES,
            "blk.0.attn_q.weight.counts": COUNTS,
            "blk.0.attn_q.weight.stats": np.full(12, np.nan, dtype=np.float32),
        },
    )

    loaded = read(path)

    assert list(loaded.entries) == ["blk.0.attn_q.weight"]
    assert (loaded.datasets, loaded.chunk_count, loaded.chunk_size) == ((), None, None)


def test_a_legacy_file_gives_the_sums_of_its_mean_squares(tmp_path: Path) -> None:
    path = tmp_path / "im.dat"
    path.write_bytes(dat_bytes({"b.weight": (4, [8.0, 2.0]), "a.weight": (2, [1.0])}))

    loaded = read(path, dat_chunk_size=256)

    assert list(loaded.entries) == ["a.weight", "b.weight"]
    assert loaded.entries["b.weight"].counts.tolist() == [4 * 256]
    assert loaded.entries["b.weight"].squares.tolist() == [[8.0 * 256, 2.0 * 256]]
    assert loaded.entries["b.weight"].values is None
    assert (loaded.format, loaded.chunk_count, loaded.datasets) == ("dat", 7, ("t",))


def test_a_legacy_file_may_end_after_its_entries_or_its_chunks(tmp_path: Path) -> None:
    path = tmp_path / "im.dat"
    whole = dat_bytes({"a.weight": (2, [1.0])}, dataset="")

    path.write_bytes(whole[:-8])
    bare = read(path)
    path.write_bytes(whole[:-4])
    with_chunks = read(path)

    assert (bare.chunk_count, bare.datasets) == (None, ())
    assert (with_chunks.chunk_count, with_chunks.datasets) == (7, ())


WHOLE_DAT = dat_bytes({"a.weight": (2, [1.0, 2.0])}, dataset="text")
AFTER_ENTRIES, AFTER_CHUNKS = len(WHOLE_DAT) - 12, len(WHOLE_DAT) - 8


@pytest.mark.parametrize(
    "size", [size for size in range(len(WHOLE_DAT)) if size not in (AFTER_ENTRIES, AFTER_CHUNKS)]
)
def test_a_legacy_file_that_is_cut_short_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "im.dat"
    path.write_bytes(WHOLE_DAT[:size])

    with pytest.raises(InputError, match=r"im\.dat is neither a GGUF file nor a legacy") as caught:
        read(path)

    assert f"ends at byte {size}" in caught.value.evidence[0]


def test_bytes_after_the_end_of_a_legacy_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "im.dat"
    path.write_bytes(WHOLE_DAT + b"!")

    with pytest.raises(InputError) as caught:
        read(path)

    assert caught.value.evidence == ("1 bytes follow the end",)


def test_a_text_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "im.dat"
    path.write_text("this is not an importance matrix")

    with pytest.raises(InputError, match="neither"):
        read(path)


def test_a_gguf_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "im.gguf"
    write(imatrix(DENSE, EXPERTS), path)
    whole = path.read_bytes()

    for size in range(4, len(whole) - 32, 7):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"cut short or damaged"):
            read(path)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"imatrix nowhere\.gguf cannot be read"):
        read(tmp_path / "nowhere.gguf")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        pytest.param({"blk.0.attn_q.weight": SQUARES}, "without importance data", id="a-model"),
        pytest.param({"a.weight.in_sum2": SQUARES}, r"has no 'a\.weight\.counts'", id="no-counts"),
        pytest.param(
            {"a.weight.in_sum2": SQUARES.astype(np.float16), "a.weight.counts": COUNTS},
            "do not fit together",
            id="other-type",
        ),
        pytest.param(
            {"a.weight.in_sum2": SQUARES, "a.weight.counts": np.ones((3, 1), dtype=np.float32)},
            "do not fit together",
            id="counts-do-not-divide",
        ),
        pytest.param(
            {
                "a.weight.in_sum2": SQUARES,
                "a.weight.counts": COUNTS,
                "a.weight.in_sum": SQUARES[:1],
            },
            "do not fit together",
            id="sums-of-another-size",
        ),
        pytest.param(
            {"a.weight.in_sum2": -SQUARES, "a.weight.counts": COUNTS},
            "impossible values in 1 tensors",
            id="negative-squares",
        ),
        pytest.param(
            {"a.weight.in_sum2": SQUARES * np.float32("nan"), "a.weight.counts": COUNTS},
            "impossible values",
            id="nan-squares",
        ),
        pytest.param(
            {"a.weight.in_sum2": SQUARES, "a.weight.counts": -COUNTS},
            "impossible values",
            id="negative-counts",
        ),
        pytest.param(
            {
                "a.weight.in_sum2": SQUARES,
                "a.weight.counts": COUNTS,
                "a.weight.in_sum": SQUARES * np.float32("inf"),
            },
            "impossible values",
            id="infinite-sums",
        ),
    ],
)
def test_a_file_that_cannot_be_right_is_refused(
    tmp_path: Path,
    tensors: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]],
    message: str,
) -> None:
    path = write_tensors(tmp_path / "im.gguf", tensors)

    with pytest.raises(InputError, match=message) as caught:
        read(path)

    assert caught.value.evidence or caught.value.hint


def test_merging_is_the_same_as_counting_all_rows_at_once() -> None:
    rows = [[1.0, -2.0], [0.5, 4.0], [2.0, 0.0], [-3.0, 0.25], [7.0, 7.0]]
    whole = imatrix(entry("a.weight", rows), chunk_count=5)
    parts = [
        imatrix(entry("a.weight", rows[:1]), chunk_count=1),
        imatrix(entry("a.weight", rows[1:]), chunk_count=4),
    ]

    merged = merge(parts)

    assert same(merged, whole)
    assert (merged.chunk_count, merged.chunk_size) == (5, 64)
    assert merged.datasets == ("text.txt", "text.txt")


def test_the_order_of_merging_does_not_matter() -> None:
    rng = np.random.default_rng(5)
    parts = [
        imatrix(entry("a.weight", (10.0**power * rng.standard_normal((9, 8))).tolist()))
        for power in (-3, 0, 3)
    ]

    sums = [merge(order).entries["a.weight"] for order in permutations(parts)]

    for one in sums[1:]:
        np.testing.assert_allclose(one.squares, sums[0].squares, rtol=1e-14)
        np.testing.assert_allclose(np.asarray(one.values), np.asarray(sums[0].values), rtol=1e-12)


def test_means_are_dropped_where_a_part_has_rows_without_them() -> None:
    new, old = imatrix(DENSE), imatrix(replace(DENSE, values=None))

    for order in ([new, old], [old, new], [new, old, new]):
        merged = merge(order).entries[DENSE.name]
        assert merged.values is None
        assert merged.n_rows == DENSE.n_rows * len(order)


def test_a_part_without_rows_does_not_take_the_means_away() -> None:
    empty = replace(
        DENSE, squares=np.zeros((1, 2)), counts=np.zeros(1, dtype=np.int64), values=None
    )

    assert same_entry(merge([imatrix(DENSE), imatrix(empty)]).entries[DENSE.name], DENSE)


def test_tensors_that_only_one_part_has_are_kept() -> None:
    assert same(merge([imatrix(DENSE), imatrix(EXPERTS)]), imatrix(DENSE, EXPERTS))


def test_one_count_for_all_experts_is_given_to_each_of_them() -> None:
    old = Entry(
        name=EXPERTS.name, squares=np.full((1, 6), 4.0), counts=np.array([10], dtype=np.int64)
    )

    merged = merge([imatrix(EXPERTS), imatrix(old)]).entries[EXPERTS.name]

    assert merged.counts.tolist() == [11, 10, 12]
    np.testing.assert_array_equal(merged.squares, EXPERTS.squares + 4.0)


def test_chunk_counts_of_other_sizes_are_not_added() -> None:
    merged = merge([imatrix(DENSE, chunk_size=64), imatrix(DENSE, chunk_size=128)])

    assert (merged.chunk_count, merged.chunk_size) == (None, None)


def test_files_of_different_models_are_not_merged() -> None:
    wider = entry(DENSE.name, [[1.0, 2.0, 3.0]])

    with pytest.raises(InputError, match=r"blk\.0\.attn_q\.weight has another shape"):
        merge([imatrix(DENSE), imatrix(wider)])


def test_merging_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to merge"):
        merge([])
