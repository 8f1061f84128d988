"""The demo tokenizer: byte-level BPE with the pre-tokenizer that llama.cpp calls qwen35."""

from __future__ import annotations

from typing import Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY: Final = 1024
END_OF_TEXT: Final = "<|endoftext|>"
SPECIAL: Final = (END_OF_TEXT, "<|im_start|>", "<|im_end|>")
END_OF_TEXT_ID: Final = VOCABULARY - len(SPECIAL)

# What Qwen3.5's tokenizer.json splits at; the same, letter by letter, as llama.cpp's
# comment for LLAMA_VOCAB_PRE_TYPE_QWEN35.
SPLIT: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_tokenizer(text: str, *, vocabulary: int = VOCABULARY) -> Tokenizer:
    """Return a tokenizer of exactly that many tokens, the special ones last."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ],
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return tokenizer


def tokenizer_config(context: int) -> dict[str, object]:
    """Return the contents of tokenizer_config.json; ``context`` in tokens."""
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": END_OF_TEXT,
        "model_max_length": context,
        "pad_token": END_OF_TEXT,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": None,
    }
