"""What the store knows of how long steps take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamacpp_pipeline.engine.digests import write_atomically
from llamacpp_pipeline.engine.experience import experience
from llamacpp_pipeline.engine.store import RECORD, Store
from llamacpp_pipeline.results.record import Machine, StepRecord
from tests.unit.engine.mill import store_in
from tests.unit.results.sample import MACHINE, digest, sample_run


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return store_in(tmp_path)


def kept(store: Store, record: StepRecord, *, machine: Machine = MACHINE) -> None:
    """A record in the store, its files left out."""
    bare = record.model_copy(update={"outputs": (), "machine": machine})
    folder = store.folder(record.fingerprint)
    folder.mkdir(parents=True)
    write_atomically(folder / RECORD, bare.model_dump_json())


def test_a_measurement_knows_its_tokens_its_model_and_the_checkpoint(store: Store) -> None:
    records = sample_run().records
    for key in ("fetch", "convert", "quantize/Q4_K_M", "kld/Q4_K_M", "bench/Q4_K_M"):
        kept(store, records[key])
    found = {one.stage: one for one in experience(store, MACHINE)}

    kld, bench = found["kld"], found["bench"]
    assert kld.family == bench.family == found["quantize"].family == digest("fetch")
    assert (kld.tokens, kld.seconds, kld.n_threads) == (256 * 40, 1.5, 2)
    assert bench.prompt_speed == 2000.0
    assert bench.tokens is None


def test_a_probe_has_computed_its_text_for_every_measurement(store: Store) -> None:
    record = sample_run().records["kld/Q4_K_M"]
    result = {"n_ctx": 256, "n_chunks": 16, "n_measurements": 65, "seconds": 40.0}
    kept(store, record.model_copy(update={"stage": "probe", "result": result, "seconds": 3.0}))

    (found,) = experience(store, MACHINE)

    assert (found.tokens, found.seconds) == (256 * 16 * 65, 40.0)


def test_a_search_knows_how_much_it_measured_and_others_nothing_of_the_kind(store: Store) -> None:
    records = sample_run().records
    result = {"measured": 310, "n_ctx": 256, "n_chunks": 4}
    kept(store, records["kld/Q4_K_M"].model_copy(update={"stage": "curves", "result": result}))
    kept(store, records["bench/Q4_K_M"].model_copy(update={"stage": "convert", "result": result}))

    found = {one.stage: one for one in experience(store, MACHINE)}

    assert (found["curves"].measured, found["curves"].tokens) == (310, None)
    assert (found["convert"].measured, found["convert"].tokens) == (None, None)


def test_a_refinement_says_itself_how_much_it_computed(store: Store) -> None:
    result = {"n_ctx": 256, "n_chunks": 4, "n_measurements": 9, "computed_tokens": 70000}
    record = sample_run().records["kld/Q4_K_M"]
    kept(store, record.model_copy(update={"stage": "refine", "result": result}))

    (found,) = experience(store, MACHINE)

    assert found.tokens == 70000


def test_other_machines_tell_nothing(store: Store) -> None:
    other = MACHINE.model_copy(update={"hostless_name": "another CPU"})
    kept(store, sample_run().records["kld/Q4_K_M"], machine=other)

    assert experience(store, MACHINE) == ()
    assert len(experience(store, other)) == 1


def test_a_model_whose_makers_are_gone_has_no_checkpoint(store: Store) -> None:
    kept(store, sample_run().records["kld/Q4_K_M"])
    assert experience(store, MACHINE)[0].family is None


def test_what_cannot_be_read_is_passed_over(store: Store) -> None:
    record = sample_run().records["bench/Q4_K_M"]
    kept(store, record.model_copy(update={"result": {"rows": "none"}}))
    folder = store.folder(digest("broken"))
    folder.mkdir(parents=True)
    (folder / RECORD).write_text(json.dumps({"fingerprint": "?"}))

    (found,) = experience(store, MACHINE)
    assert found.prompt_speed is None
