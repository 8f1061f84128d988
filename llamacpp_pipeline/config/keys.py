"""What each key of the YAML is for: one line each, for `init` and for editors."""

from __future__ import annotations

from collections.abc import Mapping

HUB_FILE = {
    "": "a file of a Hub repository",
    "repo": "the repository: organisation/name",
    "repo_type": "model or dataset",
    "revision": "a branch, tag or commit; pinned to the commit when planned",
    "file": "the file's path in the repository",
    "member": "the file wanted inside it, where it is a .zip",
    "sha256": "what the file (or the member) must be; checked after the download",
}
CORPUS = {
    "": "the text: exactly one of path, hub and demo",
    "path": "a local UTF-8 text file, relative to this file",
    **{f"hub.{key}".rstrip("."): why for key, why in HUB_FILE.items()},
    "demo": "a part of the text that comes with the program: calibration or evaluation",
}
CUT = {
    "n_ctx": "tokens per chunk; figures of different n_ctx do not compare",
    "n_chunks": "only so many chunks of the text; null: all of it",
    "n_batch": "tokens submitted at once; at least n_ctx",
    "n_ubatch": "tokens computed at once; changes results in the last digits",
}
RECIPE = {
    "ftype": "llama.cpp's file type: a mixture of tensor types",
    "tensor_types": "regex on tensor names -> tensor type; the first that matches decides",
    "output_tensor_type": "tensor type of output.weight; null: as the ftype has it",
    "token_embedding_type": "tensor type of token_embd.weight; null: as the ftype has it",
    "leave_output_tensor": "keep output.weight as it is in the reference",
    "pure": "the ftype's own type for every tensor, no mixture",
    "name": "in tables and file names; null: the ftype",
    "imatrix": "use the importance matrix, where there is one",
}


def under(prefix: str, keys: Mapping[str, str]) -> dict[str, str]:
    """Explanations of a section that stands in several places."""
    return {f"{prefix}.{key}".rstrip("."): why for key, why in keys.items()}


WHY: Mapping[str, str] = {
    "model": "the unquantized model: exactly one of repo, path and demo",
    "model.repo": "a Hub repository: organisation/name",
    "model.revision": "a branch, tag or commit of it; pinned to the commit when planned",
    "model.path": "a local folder in Hub format, relative to this file",
    "model.demo": "the small trained model that comes with the program",
    "model.name": "of the files made; null: the last part of repo or path",
    "convert": "from the checkpoint to the reference GGUF",
    "convert.outtype": "auto: f16 where every weight fits it, else bf16",
    "convert.mtp": "multi-token-prediction layers; auto: keep them where they are in the files",
    "convert.mmproj": "also make the multimodal projector, as a file of its own",
    "convert.pre_tokenizer": "a name llama.cpp knows, where the converter cannot tell by itself",
    "evaluation": "what perplexity and KL divergence are measured on; never the calibration text",
    **under("evaluation", CUT),
    "evaluation.flash_attn": "'on', 'off' (in quotes!) or auto; changes the last digits",
    **under("evaluation.corpus", CORPUS),
    "calibration": "compute an importance matrix, from corpus or texts; null: none",
    **under("calibration", CUT),
    "calibration.process_output": "collect for output.weight too",
    "calibration.parse_special": "read special tokens in the text as such",
    **under("calibration.corpus", CORPUS),
    **under("calibration.texts", CORPUS),
    "calibration.texts": "or several texts, whose imatrices are merged exactly",
    "calibration.texts.name": "in step names; null: the file's own",
    "calibration.texts.n_chunks": "only so many chunks of it; null: calibration.n_chunks",
    "calibration.texts.weight": "each of its tokens counts so many times: a whole number",
    "imatrix": "or use this importance matrix file: one of path and hub",
    "imatrix.path": "a local file, relative to this file",
    **under("imatrix.hub", HUB_FILE),
    "variants": "the files to make; `- Q4_K_M` is short for `- ftype: Q4_K_M`",
    **under("variants", RECIPE),
    "references": "other publishers' GGUFs of this model: measured alike, shown, never published",
    "references.name": "in tables, and for `card.compare`",
    "references.path": "a local GGUF, relative to this file",
    "references.repo": "or the Hub repository that it is in: organisation/name",
    "references.revision": "a branch, tag or commit of it; pinned to the commit when planned",
    "references.file": "the GGUF's path in the repository; not a part of a split one",
    "references.sha256": "what the file must be; checked after the download",
    "bench": "tokens per second on this machine; null: do not measure",
    "bench.tests": "ppN: prompt of N tokens, tgN: N tokens generated, or both: ppN+tgN",
    "bench.repetitions": "of each test; the card shows mean and standard deviation",
    "bench.n_batch": "tokens submitted at once",
    "bench.n_ubatch": "tokens computed at once",
    "placement": "where and how wide the tools run; not part of a step's identity, but for bench",
    "placement.n_threads": "null: as many as there are physical cores",
    "placement.n_gpu_layers": "layers on the GPU; null: llama.cpp decides",
    "placement.extra": "more flags for every llama.cpp tool that loads a model",
    "toolchain": "where llama.cpp comes from and how it is built",
    "toolchain.source": "auto: the submodule, else git, else the Python source distribution",
    "toolchain.path": "your own checkout, with `source: path`; every result says so",
    "toolchain.backend": "cpu, cuda, metal, vulkan or hip",
    "toolchain.flags": "more CMake definitions, such as -DGGML_NATIVE=OFF",
    "toolchain.jobs": "compilers at once; null: as many as there are cores",
    "output": "what lands in the result folder besides the variants",
    "output.reference": "the unquantized GGUF",
    "output.imatrix": "the importance matrix",
    "card": "what the model card cannot know by itself",
    "card.title": "null: made from the model's name",
    "card.notes": "Markdown of your own",
    "card.template": "a Jinja file of your own, relative to this file; see docs/card.md",
    "card.base_model": "the Hub id named as base model; null: model.repo",
    "card.license": "null: the model's own",
    "card.quantized_by": "your name on the card",
    "card.compare": "tables of KLD percentiles: two variants side by side",
    "card.compare.variant": "the right column",
    "card.compare.against": "the left column",
    "card.compare.variant_label": "title of the right column",
    "card.compare.against_label": "title of the left column; null: the variant's name",
}
