"""The names llama-quantize knows at the pinned commit, and what can be said of them beforehand."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Sequence

# In the order of the tool's own table (tools/quantize/quantize.cpp).
FTYPES = (
    *("Q1_0", "Q2_0", "Q4_0", "Q4_1", "MXFP4_MOE", "Q5_0", "Q5_1"),
    *("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ1_S", "IQ1_M", "TQ1_0", "TQ2_0"),
    *("Q2_K", "Q2_K_S", "IQ3_XXS", "IQ3_S", "IQ3_M", "IQ3_XS", "Q3_K_S", "Q3_K_M", "Q3_K_L"),
    *("IQ4_NL", "IQ4_XS", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0"),
    *("F16", "BF16", "F32"),
)
ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}
UNQUANTIZED = frozenset({"F16", "BF16", "F32"})

# What one tensor can be made into (ggml_quantize_chunk in ggml/src/ggml.c).
TENSOR_TYPES = (
    *("f32", "f16", "bf16", "q1_0", "q2_0", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0"),
    *("mxfp4", "nvfp4", "q2_K", "q3_K", "q4_K", "q5_K", "q6_K", "tq1_0", "tq2_0"),
    *("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_nl", "iq4_xs"),
)

# File types whose mixture holds a type that cannot be made without an imatrix.
FTYPES_NEEDING_IMATRIX = frozenset(
    {"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "Q2_K_S"}
)
TENSOR_TYPES_NEEDING_IMATRIX = frozenset(
    {"iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs"}
)
LOWER_CASED = (
    "llama-quantize lower-cases patterns: write it in lower case"
    " (for \\S, \\D, \\W write [^ ], [^0-9], [^a-z0-9_])"
)
NOT_ECMASCRIPT = re.compile(r"\(\?(?![:!])|\[\[:|\{,")


def known_ftype(text: str) -> str:
    """The file type in the tool's spelling, an alias resolved.

    Raises:
        ValueError: where the tool has no such type; the message names the nearest.

    """
    name = ALIASES.get(text.upper(), text.upper())
    if name not in FTYPES:
        message = f"llama-quantize knows no file type {text!r}{nearest(name, FTYPES)}"
        raise ValueError(message)
    return name


def known_tensor_type(text: str) -> str:
    """The tensor type in the tool's spelling.

    Raises:
        ValueError: where a tensor cannot be made into it; the message names the nearest.

    """
    by_lower = {name.lower(): name for name in TENSOR_TYPES}
    found = by_lower.get(text.lower())
    if found is None:
        close = nearest(text.lower(), tuple(by_lower))
        message = f"llama-quantize makes no tensor of type {text!r}{close}"
        if text.upper() in (*FTYPES, *ALIASES):
            message += f" ({text.upper()} is a file type: a mixture of tensor types)"
        raise ValueError(message)
    return found


def nearest(name: str, known: Sequence[str]) -> str:
    """`: did you mean ...?`, or nothing where nothing is near."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f": did you mean {' or '.join(close)}?" if close else ""


def tensor_pattern(text: str) -> str:
    """A pattern that means the same here and in llama-quantize.

    The tool lower-cases it, cuts its argument at the first `=`, and searches with std::regex.

    Raises:
        ValueError: where the two would differ, with what to write instead.

    """
    misread = {
        "an empty pattern matches every tensor: write '.*' if that is meant": not text,
        "llama-quantize cuts the pattern at `=`: write \\x3d for it": "=" in text,
        LOWER_CASED: any(letter.isupper() for letter in text),
        "llama-quantize's patterns have no lookbehind, named groups, inline flags, [[:classes:]]"
        " or {,n}": NOT_ECMASCRIPT.search(text) is not None,
    }
    for why, is_so in misread.items():
        if is_so:
            message = f"{text!r}: {why}"
            raise ValueError(message)
    return compiles(text)


def compiles(text: str) -> str:
    """The pattern, where it is one.

    Raises:
        ValueError: saying what is wrong and where.

    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(text)
    except (re.error, Warning) as error:
        message = f"{text!r} is not a regular expression: {error}"
        raise ValueError(message) from error
    return text
