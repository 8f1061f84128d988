"""The embedded demo: a small trained model, the text to try it on, and the script that made it.

The model has the Qwen3.5 architecture (three Gated DeltaNet layers to one of
full attention) in Hub format. Its three text parts come from the running
Python's own documentation; TRAINING.md says how it was made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from llamacpp_pipeline.demo.text import PARTS, Part, demo_text

MODEL_DIR: Final = Path(__file__).resolve().parent / "model"
# The converter does not know the demo tokenizer: this is its pre-tokenizer's name in llama.cpp.
PRE_TOKENIZER: Final = "qwen35"

__all__ = ["MODEL_DIR", "PARTS", "PRE_TOKENIZER", "Part", "demo_text"]
