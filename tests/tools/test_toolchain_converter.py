"""The wrapper around the converter, run as the child it is, on a stand-in for llama.cpp's tree."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llamacpp_pipeline.toolchain.tree import manifest_of

BASE = """\
import logging
logger = logging.getLogger("hf-to-gguf")
logging.basicConfig()

class TextModel:
    def get_vocab_base_pre(self, tokenizer):
        if tokenizer == "known":
            return "gpt-2"
        logger.warning("** WARNING: The BPE pre-tokenizer was not recognized!")
        raise NotImplementedError("BPE pre-tokenizer was not recognized")
"""
SCRIPT = """\
import sys
from conversion.base import TextModel

class Qwen(TextModel):
    pass

def main():
    print("argv", *sys.argv)
    print("pre", Qwen().get_vocab_base_pre(sys.argv[1]))
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    tree = tmp_path / "tree" / "source"
    (tree / "conversion").mkdir(parents=True)
    (tree / "conversion" / "__init__.py").touch()
    (tree / "conversion" / "base.py").write_text(BASE, encoding="utf-8")
    (tree / "convert_hf_to_gguf.py").write_text(SCRIPT, encoding="utf-8")
    return tree


def run(source: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "llamacpp_pipeline.toolchain.convert_entry", str(source)]
    return subprocess.run(
        [*argv, *arguments], capture_output=True, text=True, check=False, cwd=source.parent
    )


def test_without_the_option_the_converter_answers_itself(source: Path) -> None:
    known, unknown = run(source, "known", "--no-mtp"), run(source, "trimmed")

    assert known.stdout == "argv convert_hf_to_gguf.py known --no-mtp\npre gpt-2\n"
    assert "overridden" not in known.stderr
    assert unknown.returncode != 0
    assert "NotImplementedError: BPE pre-tokenizer was not recognized" in unknown.stderr


def test_a_vocabulary_it_does_not_know_gets_the_name(source: Path) -> None:
    done = run(source, "--pre-tokenizer", "qwen35", "trimmed", "--no-mtp")

    assert done.returncode == 0
    assert done.stdout == "argv convert_hf_to_gguf.py trimmed --no-mtp\npre qwen35\n"
    assert done.stderr == (
        "pre-tokenizer overridden: 'qwen35' (the converter does not know this vocabulary)\n"
    )


def test_a_vocabulary_it_knows_gets_the_name_too_and_both_are_told(source: Path) -> None:
    done = run(source, "known", "--pre-tokenizer", "qwen35")

    assert "pre qwen35" in done.stdout
    assert "'qwen35' (the converter would say 'gpt-2')" in done.stderr


def test_running_it_does_not_change_the_tree(source: Path) -> None:
    before = manifest_of(source)

    run(source, "known")

    assert manifest_of(source).digest == before.digest


def test_a_name_that_is_missing_is_asked_for(source: Path) -> None:
    done = run(source, "known", "--pre-tokenizer")

    assert done.returncode == 1
    assert "error: --pre-tokenizer needs a name" in done.stderr
