"""What the evaluation sets are: how many tasks, and how models do on those of the demo.

    .venv/bin/python -m tests.bench.task_sets [--data DIR] [GGUF ...]

For each published set in DIR (default: ../shared/data beside the repository): rows read, malformed
ones, answers of a task at most. Then each GGUF's score on the demo's sets (one thread), and for
all but the first the tasks of all sets together that only it, or only the first, has right, with
the exact McNemar p-value.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

from llamacpp_pipeline.config.schema import ToolchainConfig
from llamacpp_pipeline.datasets.registry import KnownCopy, KnownSet, known_sets
from llamacpp_pipeline.datasets.templates import templates
from llamacpp_pipeline.demo.tasks import SETS, demo_tasks
from llamacpp_pipeline.results.statistics import discordant, mcnemar
from llamacpp_pipeline.stages import tasks
from llamacpp_pipeline.stages.answer_bits import unpacked
from llamacpp_pipeline.stages.base import Placement
from llamacpp_pipeline.stages.dataset import (
    DatasetParams,
    DatasetResult,
    PartParams,
    converted_files,
)
from llamacpp_pipeline.stages.fetched_files import sha256_of
from llamacpp_pipeline.toolchain.binaries import Toolchain, describe

ROOT = Path(__file__).resolve().parents[2]
N_TASKS, SEED, N_CTX = 400, 1, 256


def params(name: str, known: KnownSet, part: PartParams, n_tasks: int | None) -> DatasetParams:
    return DatasetParams(
        name=name,
        form=known.form,
        template=templates()[known.template],
        parts=(part,),
        n_tasks=n_tasks,
        seed=SEED,
    )


def published(folder: Path, made: Path) -> None:
    """The sets of which a copy lies in the folder."""
    by_digest = {sha256_of(file): file for file in folder.iterdir() if file.is_file()}
    for name, known in known_sets().items():
        for copy in known.copies:
            if copy.sha256 in by_digest:
                result = whole(name, known, copy, source=by_digest[copy.sha256], made=made)
                print(
                    f"{name:14} {result.n_read:6} rows, {len(result.malformed):3} malformed,"
                    f" at most {result.most_answers:2} answers"
                )


def whole(
    name: str, known: KnownSet, copy: KnownCopy, *, source: Path, made: Path
) -> DatasetResult:
    part = PartParams(label="", container=copy.container, layout=copy.layout)
    asked = params(name, known, part, None)
    return converted_files(asked, [source], tasks=made / "tasks", index=made / "index")


def scores(toolchain: Toolchain, ggufs: list[Path], made: Path) -> None:
    """Each model on each set of the demo."""
    answers: dict[Path, list[bool]] = {gguf: [] for gguf in ggufs}
    for demo in SETS:
        name = f"demo-{demo}"
        known = known_sets()[name]
        source = made / f"{name}.jsonl"
        source.write_text(demo_tasks(demo), encoding="utf-8")
        part = PartParams(label="", container="jsonl", layout="task")
        paths = {"tasks": made / "tasks", "index": made / "index"}
        asked = params(name, known, part, N_TASKS)
        found = converted_files(asked, [source], tasks=paths["tasks"], index=paths["index"])
        for gguf in ggufs:
            cut = tasks.TasksParams(form=known.form, n_ctx=N_CTX)
            tool, *arguments = tasks.STAGE.argv(cut, {"model": gguf, **paths})
            placed = tasks.STAGE.placement(Placement(n_threads=1))
            log = subprocess.run(
                [*toolchain.prefix(tool), *arguments, *placed],
                check=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ).stdout
            result = tasks.STAGE.read(cut, log, {"model": gguf, **paths})
            answers[gguf] += unpacked(result.correct, result.n_tasks)
            print(f"{name:14} {gguf.name:24} {result.score.value:6.2f} of {found.n_chosen} tasks")
    for gguf in ggufs[1:]:
        pairs = discordant(answers[gguf], answers[ggufs[0]])
        print(f"{gguf.name} against {ggufs[0].name}: {tuple(pairs)}, p = {mcnemar(pairs):.2g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("ggufs", type=Path, nargs="*")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.data.is_dir():
            published(asked.data, Path(folder))
        if asked.ggufs:
            scores(describe(ToolchainConfig()), asked.ggufs, Path(folder))


if __name__ == "__main__":
    main()
