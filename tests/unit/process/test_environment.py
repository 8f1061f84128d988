from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_pipeline.process.environment import child_environment, secrets_in

EMPTY = Path("/empty")


def test_only_the_allowed_is_inherited() -> None:
    inherited = {
        "PATH": "/bin",
        "LC_NUMERIC": "C",
        "CUDA_VISIBLE_DEVICES": "0",
        "LLAMA_ARG_CTX_SIZE": "64",
        "LLAMA_TRACE": "1",
        "GGML_CUDA_NO_PINNED": "1",
        "HF_TOKEN": "hf_secret",
        "PYTHONPATH": "/mine",
        "XDG_CONFIG_HOME": "/home/me/.config",
        "https_proxy": "http://proxy",
    }
    found = child_environment(inherited, declared={}, config_home=EMPTY)

    assert found == {
        "PATH": "/bin",
        "LC_NUMERIC": "C",
        "CUDA_VISIBLE_DEVICES": "0",
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
        "LLAMA_NO_CONFIG_FILES": "1",
        "XDG_CONFIG_HOME": "/empty",
    }


def test_what_is_declared_wins() -> None:
    found = child_environment({"PATH": "/bin"}, declared={"PATH": "/other"}, config_home=EMPTY)

    assert found["PATH"] == "/other"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HF_TOKEN": "hf_x"}, ("hf_x",)),
        ({"HUGGING_FACE_HUB_TOKEN": "hf_x", "HF_TOKEN": "hf_x"}, ("hf_x",)),
        ({"HTTPS_PROXY": "http://me:pass@proxy:3128"}, ("pass",)),
        ({"https_proxy": "http://proxy:3128"}, ()),
        ({"HTTPS_PROXY": "http://[broken"}, ()),
        ({"HF_HOME": "/hf", "HF_TOKEN": ""}, ()),
    ],
)
def test_secrets(environment: dict[str, str], expected: tuple[str, ...]) -> None:
    assert secrets_in(environment) == expected
