"""A child's environment: built from a short allow-list, never inherited whole.

`LLAMA_ARG_*` and `GGML_*` change what llama.cpp's tools measure without a word in their output,
and so does a `llama.cpp/config.ini`, the user's or the machine's; no variable of them reaches a
child unless a stage declares it, and no such file is read (patches/0002).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

INHERITED = frozenset(
    {
        "PATH",
        "HOME",
        "LOGNAME",
        "USER",
        "LANG",
        "TMPDIR",
        "TZ",
        "LD_LIBRARY_PATH",
        "DYLD_LIBRARY_PATH",
        "CUDA_DEVICE_ORDER",
        "CUDA_VISIBLE_DEVICES",
        "HIP_VISIBLE_DEVICES",
        "ROCR_VISIBLE_DEVICES",
    }
)
LOCALE = "LC_"
FIXED = {"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", "LLAMA_NO_CONFIG_FILES": "1"}
SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY", re.IGNORECASE)
PROXY = re.compile(r"_PROXY$", re.IGNORECASE)


def child_environment(
    inherited: Mapping[str, str], *, declared: Mapping[str, str], config_home: Path
) -> dict[str, str]:
    """What a child sees: the allowed part of `inherited`, then what its step declared.

    `config_home` is an empty folder, so that no `llama.cpp/config.ini` of the user applies.
    """
    allowed = {
        name: value
        for name, value in inherited.items()
        if name in INHERITED or name.startswith(LOCALE)
    }
    return {**allowed, **FIXED, "XDG_CONFIG_HOME": str(config_home), **declared}


def secrets_in(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Values that no log may show: tokens, passwords, and those inside a proxy's address."""
    found = [value for name, value in environment.items() if SECRET.search(name)]
    proxies = (value for name, value in environment.items() if PROXY.search(name))
    found += [password for password in map(_password, proxies) if password is not None]
    return tuple(dict.fromkeys(value for value in found if value.strip()))


def _password(address: str) -> str | None:
    try:
        return urlsplit(address).password
    except ValueError:
        return None
