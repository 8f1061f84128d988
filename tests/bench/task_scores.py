"""Scores of the demo model and its worst quantization on the published sets, and the same by hand.

    .venv/bin/python tests/bench/task_scores.py FOLDER [--data ../shared/data] [--tasks 750]

FOLDER takes the store and the results. HellaSwag runs 400 tasks, as many as the tool does by
default; of the others as many as asked for, or all there are. Then llama-perplexity is run on the
same files by hand, and each score must be the one in the results. About a quarter of an hour on one
core.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from llamacpp_pipeline.config.schema import ToolchainConfig
from llamacpp_pipeline.toolchain.binaries import describe

PROGRAM = Path(sys.executable).parent / "llamacpp-pipeline"
FILES = {
    "hellaswag": "hellaswag.val_full.txt",
    "arc-challenge": "arc_challenge.test.jsonl",
    "mmlu": "mmlu.test.jsonl",
    "truthfulqa": "truthfulqa.mc.json",
}
HELLASWAG_TASKS = 400
LAST_ROW = re.compile(r"^(\d+)\t\s*([\d.]+)", re.MULTILINE)
CLOSE = 1e-4  # percent: WinoGrande's rows have four digits


def config(data: Path, n_tasks: int) -> str:
    """The demo model as it is and at two bits, on the published sets."""
    sets: list[dict[str, object]] = [
        {"name": name, "path": str(data.resolve() / file)} for name, file in FILES.items()
    ]
    sets[0]["n_tasks"] = HELLASWAG_TASKS
    said = {
        "model": {"demo": True},
        "convert": {"pre_tokenizer": "qwen35"},
        "evaluation": {"corpus": {"demo": "evaluation"}, "n_ctx": 256, "n_chunks": 8},
        "variants": ["Q2_K"],
        "bench": None,
        "placement": {"n_threads": 1},
        "tasks": {"sets": list(FILES), "n_tasks": n_tasks},
        "datasets": sets,
    }
    return yaml.safe_dump(said, sort_keys=False)


def results(folder: Path) -> Any:  # noqa: ANN401  JSON
    """What the pipeline found, after a run that takes from the store what is there."""
    where = ("--config", "real.yaml", "--store", "store", "--out", "out")
    subprocess.run([PROGRAM, "run", *where], cwd=folder, check=True)
    return json.loads((folder / "out" / "results.json").read_text(encoding="utf-8"))


def stored(folder: Path, sha256: str) -> Path:
    """The file of that content in the store.

    Raises:
        LookupError: where there is none.

    """
    for path in sorted((folder / "store" / "objects").rglob("*")):
        known = path.name in {"tasks.bin", "model.gguf"}
        if known and hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
            return path
    message = f"no file of sha256 {sha256} in the store"
    raise LookupError(message)


def by_hand(folder: Path, row: dict[str, Any], said: dict[str, Any]) -> tuple[int, float]:
    """Tasks run and percent right, from the last row that the tool prints."""
    command = (
        *(str(describe(ToolchainConfig()).bin_dir / "llama-perplexity"), f"--{said['form']}"),
        *("-m", str(stored(folder, row["sha256"])), "-bf", str(stored(folder, said["sha256"]))),
        *(f"--{said['form']}-tasks", "100000", "--no-escape", "-t", "1"),
        *("-c", str(said["n_ctx"]), "-np", str(said["n_parallel"])),
    )
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    n, share = LAST_ROW.findall(ran.stdout)[-1]
    return int(n), float(share)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--tasks", type=int, default=750)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    (asked.folder / "real.yaml").write_text(config(asked.data, asked.tasks), encoding="utf-8")
    found = results(asked.folder)
    row = found["reference"]
    for said, score in zip(found["tasks"]["sets"], row["tasks"], strict=True):
        n, share = by_hand(asked.folder, row, said)
        same = n == score["n_tasks"] and abs(share - score["score"]["value"]) < CLOSE
        print(f"{said['title']}: {n} tasks by hand {share:.4f} %, {'the same' if same else 'NOT'}")
        if not same:
            sys.exit(1)


if __name__ == "__main__":
    main()
