"""Trains the demo model: python -m llamacpp_pipeline.demo.train --out FOLDER."""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from safetensors.torch import load_model
from torch import nn
from torch.nn import functional
from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig
from transformers.models.qwen3_5 import modeling_qwen3_5

from llamacpp_pipeline.demo.delta import chunk_gated_delta_rule
from llamacpp_pipeline.demo.text import demo_text
from llamacpp_pipeline.demo.tokenizer import (
    END_OF_TEXT_ID,
    VOCABULARY,
    tokenizer_config,
    train_tokenizer,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tokenizers import Tokenizer

CONTEXT: Final = 512
DROPOUT: Final = 0.1
MUON_RATE: Final = 5e-3
ADAM_RATE: Final = 2e-3
WEIGHT_DECAY: Final = 0.1
WARM_UP: Final = 60
REPORT_EVERY: Final = 50
SAVE_EVERY: Final = 150


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to train: everything that the result depends on besides the text."""

    steps: int = 750
    short_steps: int = 600
    horizon: int = 1200
    cool_down: int = 150
    tokens: int = 4096
    seed: int = 20
    muon_rate: float = MUON_RATE
    adam_rate: float = ADAM_RATE
    dropout: float = DROPOUT
    weight_decay: float = WEIGHT_DECAY


def model_config() -> Qwen3_5TextConfig:
    """Return the shape: every matrix row is 256, 512 or 768 long, so all types apply."""
    return Qwen3_5TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        linear_num_key_heads=4,
        linear_num_value_heads=8,
        linear_key_head_dim=64,
        linear_value_head_dim=64,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        eos_token_id=END_OF_TEXT_ID,
        pad_token_id=END_OF_TEXT_ID,
    )


def build_model(settings: Settings) -> Qwen3_5ForCausalLM:
    """Return the model at its start, with the fast chunk rule and dropout in place."""
    modeling_qwen3_5.torch_chunk_gated_delta_rule = chunk_gated_delta_rule
    torch.manual_seed(settings.seed)
    model = Qwen3_5ForCausalLM(model_config())
    for layer in model.model.layers:
        if hasattr(layer, "linear_attn"):
            _start_with_memory(layer.linear_attn)
    _add_dropout(model, settings.dropout)
    return model


def _start_with_memory(mixer: nn.Module) -> None:
    """Let the heads start with decay times of 1 to 1000 steps, spread evenly in the log.

    The library's start forgets nearly all at every step. As for Mamba-2: A in
    [1, 16], softplus(dt_bias) in [0.001, 0.1].
    """
    with torch.no_grad():
        mixer.A_log.copy_(torch.empty_like(mixer.A_log).uniform_(1, 16).log())
        low, high = math.log(1e-3), math.log(1e-1)
        step = torch.empty_like(mixer.dt_bias).uniform_(low, high).exp()
        mixer.dt_bias.copy_(step + (-torch.expm1(-step)).log())


def _add_dropout(model: Qwen3_5ForCausalLM, share: float) -> None:
    def drop(module: nn.Module, _: object, output: object) -> object:
        first = output[0] if isinstance(output, tuple) else output
        dropped = functional.dropout(first, share, training=module.training)
        return (dropped, *output[1:]) if isinstance(output, tuple) else dropped

    names = ("embed_tokens", "linear_attn", "self_attn", "mlp")
    for name, module in model.named_modules():
        if name.endswith(names):
            module.register_forward_hook(drop)


def optimisers(model: nn.Module, settings: Settings) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices inside the layers and AdamW for all else."""
    inner = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    table = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" in n]
    rest = [p for p in model.parameters() if p.ndim != 2]
    groups = [{"params": table, "weight_decay": settings.weight_decay}, {"params": rest}]
    muon = torch.optim.Muon(
        inner,
        lr=settings.muon_rate,
        weight_decay=settings.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    adam = torch.optim.AdamW(groups, lr=settings.adam_rate, betas=(0.9, 0.95), weight_decay=0.0)
    return [muon, adam]


def rate(step: int, settings: Settings) -> float:
    """Return the share of the full learning rate.

    Linear warm-up, then half a cosine that would reach 0 at ``horizon``, times a
    line that falls from 1 to 0 over the last ``cool_down`` steps.
    """
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    turned = (step - WARM_UP) / (settings.horizon - WARM_UP)
    left = (settings.steps - step) / settings.cool_down
    return (0.5 + 0.5 * math.cos(math.pi * turned)) * min(1.0, left)


def loss_of(model: Qwen3_5ForCausalLM, rows: torch.Tensor) -> torch.Tensor:
    """Return the mean cross entropy in nats of rows of window + 1 tokens."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(rows[:, :-1], use_cache=False).logits
    return functional.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())


def held_out_loss(model: Qwen3_5ForCausalLM, ids: torch.Tensor, window: int) -> float:
    """Return the loss over up to 32 windows of a text."""
    model.eval()
    rows = ids.unfold(0, window + 1, window)[:32]
    with torch.no_grad():
        losses = [float(loss_of(model, part)) for part in rows.split(16)]
    model.train()
    return sum(losses) / len(losses)


class Windows:
    """Windows of the text at random phases; each pass over the text sees every token once."""

    def __init__(self, ids: torch.Tensor, *, window: int, tokens: int, seed: int) -> None:
        self._ids, self._window, self._batch = ids, window, tokens // window
        self._random = torch.Generator().manual_seed(seed)
        self._starts = torch.empty(0, dtype=torch.long)

    def take(self) -> torch.Tensor:
        """Return the next rows, each window + 1 tokens long."""
        while len(self._starts) < self._batch:
            self._starts = torch.cat([self._starts, self._shuffled()])
        starts, self._starts = self._starts[: self._batch], self._starts[self._batch :]
        return self._ids[starts[:, None] + torch.arange(self._window + 1)]

    def _shuffled(self) -> torch.Tensor:
        phase = int(torch.randint(self._window, (1,), generator=self._random))
        starts = torch.arange(phase, len(self._ids) - self._window, self._window)
        return starts[torch.randperm(len(starts), generator=self._random)]


def save(model: Qwen3_5ForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the model in Hub format, weights in BF16."""
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = json.dumps(tokenizer_config(CONTEXT), indent=2) + "\n"
    (folder / "tokenizer_config.json").write_text(config, encoding="utf-8")


class Training:
    """The model, its optimisers and the text on their way."""

    def __init__(self, settings: Settings, folder: Path, *, start: int = 0) -> None:
        self.settings, self.folder, self.start = settings, folder, start
        self.tokenizer = train_tokenizer(demo_text("train"))
        self.ids = torch.tensor(self.tokenizer.encode(demo_text("train")).ids)
        self.held_out = torch.tensor(self.tokenizer.encode(demo_text("calibration")).ids)
        self.model = build_model(settings)
        if start:
            load_model(self.model, folder / "model.safetensors", strict=False)
        self.steppers = optimisers(self.model, settings)
        self._schedules = [
            torch.optim.lr_scheduler.LambdaLR(stepper, lambda step: rate(start + step, settings))
            for stepper in self.steppers
        ]

    def run(self, report: Callable[[str], None]) -> None:
        """Train to the end and leave the model in the folder, early states included."""
        report(f"{sum(p.numel() for p in self.model.parameters())} parameters")
        report(f"{len(self.ids)} tokens")
        began, losses = time.monotonic(), []
        for step, rows in enumerate(self._batches(), start=self.start + 1):
            losses.append(self.step(rows))
            if step % REPORT_EVERY == 0:
                other = held_out_loss(self.model, self.held_out, CONTEXT)
                mean = sum(losses[-REPORT_EVERY:]) / REPORT_EVERY
                spent = time.monotonic() - began
                report(f"{step} {spent:.0f} s train {mean:.4f} held out {other:.4f}")
            if step % SAVE_EVERY == 0 or step == self.settings.steps:
                save(self.model, self.tokenizer, self.folder)

    def step(self, rows: torch.Tensor) -> float:
        """Learn from rows of tokens; return the loss before."""
        loss = loss_of(self.model, rows)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for stepper, schedule in zip(self.steppers, self._schedules, strict=True):
            stepper.step()
            stepper.zero_grad()
            schedule.step()
        return float(loss.detach())

    def _batches(self) -> Iterator[torch.Tensor]:
        """Yield short windows first, which are faster, and windows of the full context last."""
        settings = self.settings
        size, seed = settings.tokens, settings.seed
        short = Windows(self.ids, window=CONTEXT // 2, tokens=size, seed=seed)
        long = Windows(self.ids, window=CONTEXT, tokens=size, seed=seed + 1)
        for step in range(settings.steps):
            rows = (short if step < settings.short_steps else long).take()
            if step >= self.start:
                yield rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume-at", type=int, default=0, help="the step of the model in --out")
    for name, default in vars(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    options = vars(parser.parse_args(arguments))
    folder: Path = options.pop("out")
    torch.set_num_threads(options.pop("threads"))
    start = options.pop("resume_at")
    folder.mkdir(parents=True, exist_ok=True)
    training = Training(Settings(**options), folder, start=start)
    training.run(lambda line: print(line, flush=True))  # noqa: T201


if __name__ == "__main__":
    main()
