"""The demo model's imatrix against the model's own activations, computed by PyTorch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from llamacpp_pipeline.datasets import imatrix_file
from llamacpp_pipeline.datasets.imatrix_statistics import statistics
from llamacpp_pipeline.demo import MODEL_DIR, PRE_TOKENIZER, demo_text
from llamacpp_pipeline.toolchain.binaries import Toolchain

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = [
    pytest.mark.tools,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
]

N_CTX, N_CHUNKS = 256, 2
MODULES = {
    "linear_attn.in_proj_qkv": "attn_qkv",
    "linear_attn.in_proj_z": "attn_gate",
    "linear_attn.in_proj_a": "ssm_alpha",
    "linear_attn.in_proj_b": "ssm_beta",
    "linear_attn.out_proj": "ssm_out",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
Array = npt.NDArray[np.float64]


def in_gguf_order(name: str, channels: Array) -> Array:
    """The converter lays value heads out in tiles: ssm_out's input channels move along."""
    if not name.endswith("ssm_out.weight"):
        return channels
    n_key, n_value, size = 4, 8, 64
    grouped = channels.reshape(n_key, n_value // n_key, size)
    return grouped.swapaxes(0, 1).reshape(-1)


def own_activations(text: str) -> dict[str, tuple[Array, Array]]:
    """E[x] and E[x²] per input channel of every matrix, by its name in the GGUF."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL_DIR)
    model = transformers.AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32)
    ids = torch.tensor(tokenizer(text)["input_ids"][: N_CTX * N_CHUNKS]).view(N_CHUNKS, N_CTX)
    seen: dict[str, list[Array]] = {}

    def note(name: str, value: object) -> None:
        flat = value.detach().double().flatten(0, -2).numpy()  # type: ignore[attr-defined]
        seen.setdefault(name, []).append(flat)

    for path, module in model.named_modules():
        layer, _, kind = path.partition("layers.")[2].partition(".")
        if kind in MODULES:
            name = f"blk.{layer}.{MODULES[kind]}.weight"
            module.register_forward_pre_hook(lambda _, x, name=name: note(name, x[0]))
    with torch.no_grad():
        model(ids)
    whole = {name: np.concatenate(parts) for name, parts in seen.items()}
    return {
        name: (in_gguf_order(name, x.mean(axis=0)), in_gguf_order(name, (x * x).mean(axis=0)))
        for name, x in whole.items()
    }


@pytest.fixture(scope="module")
def made(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model as F32, so that only arithmetic differs, and its imatrix."""
    folder = tmp_path_factory.mktemp("demo-imatrix")
    (folder / "text.txt").write_text(demo_text("calibration"))
    convert = toolchain.prefix("convert_hf_to_gguf")
    for command in (
        (*convert, "--pre-tokenizer", PRE_TOKENIZER, MODEL_DIR, "--outtype", "f32", "--no-mtp",
         "--outfile", "model.gguf"),
        (toolchain.bin_dir / "llama-imatrix", "-m", "model.gguf", "-f", "text.txt",
         "-o", "out.gguf", "-c", N_CTX, "--chunks", N_CHUNKS, "--fit", "off"),
    ):  # fmt: skip
        subprocess.run([str(part) for part in command], cwd=folder, check=True,
                       stdout=sys.stderr)  # fmt: skip
    return folder


def distance(found: Array, expected: Array) -> float:
    """The relative L2 distance."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_means_and_mean_squares_are_those_of_the_models_own_activations(made: Path) -> None:
    own = own_activations(demo_text("calibration"))
    imatrix = imatrix_file.read(made / "out.gguf")
    entries = imatrix.entries

    assert own.keys() == entries.keys()
    for name, (mean, square) in own.items():
        entry = entries[name]
        assert entry.values is not None
        rows = float(np.sum(entry.counts))
        assert rows == N_CTX * N_CHUNKS
        assert distance(np.ravel(entry.squares) / rows, square) < 2e-3, name
        assert distance(np.ravel(entry.values) / rows, mean) < 2e-3, name
    energies = {one.name: one for one in statistics(imatrix).tensors}
    assert energies.keys() == own.keys()
