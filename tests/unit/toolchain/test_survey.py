"""What doctor says of what is only sometimes needed."""

from __future__ import annotations

from importlib import metadata

import pytest

from llamacpp_pipeline.toolchain import survey


def test_pyarrow_is_optional_and_doctor_says_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    found = survey._pyarrow()
    assert (found.state, found.fix) == ("optional", "pip install 'llamacpp-pipeline[parquet]'")
    monkeypatch.setattr(metadata, "version", lambda _: "26.0")
    assert survey._pyarrow().state == "ok"
