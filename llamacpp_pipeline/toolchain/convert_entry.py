"""Runs llama.cpp's convert_hf_to_gguf.py, with a pre-tokenizer named by hand where asked.

Run as `python -m llamacpp_pipeline.toolchain.convert_entry SOURCE [--pre-tokenizer NAME] ARGS...`,
where SOURCE is the patched tree. Everything else goes to the converter as it is.

The converter knows a vocabulary by the digest of some encoded text and refuses those it has never
seen, such as a re-trained or trimmed one. With `--pre-tokenizer` the name is taken as given.
"""

from __future__ import annotations

import sys
from pathlib import Path

OPTION = "--pre-tokenizer"


def main() -> None:
    """Take our own arguments off, then become the converter."""
    source, name, rest = _arguments(sys.argv[1:])
    sys.path[:0] = [str(source), str(source / "gguf-py")]
    sys.argv = ["convert_hf_to_gguf.py", *rest]
    import convert_hf_to_gguf  # noqa: PLC0415  its folder is known only now

    if name is not None:
        _override(name)
    convert_hf_to_gguf.main()


def _arguments(given: list[str]) -> tuple[Path, str | None, list[str]]:
    if not given:
        sys.exit("error: usage: convert_entry SOURCE [--pre-tokenizer NAME] ARGS...")
    source, rest = Path(given[0]).resolve(), given[1:]
    name = None
    while OPTION in rest:
        at = rest.index(OPTION)
        if at + 1 == len(rest):
            sys.exit(f"error: {OPTION} needs a name")
        name = rest[at + 1]
        rest = rest[:at] + rest[at + 2 :]
    return source, name, rest


def _override(name: str) -> None:
    """Answer with `name`, and say whether the converter would have."""
    from conversion.base import TextModel, logger  # noqa: PLC0415  from the tree

    original = TextModel.get_vocab_base_pre

    def named(self: object, tokenizer: object) -> str:
        logger.disabled = True  # its banner about an unknown vocabulary would mislead here
        try:
            known = original(self, tokenizer)
        except NotImplementedError:
            known = None
        finally:
            logger.disabled = False
        found = "does not know this vocabulary" if known is None else f"would say {known!r}"
        sys.stderr.write(f"pre-tokenizer overridden: {name!r} (the converter {found})\n")
        return name

    TextModel.get_vocab_base_pre = named


if __name__ == "__main__":
    main()
