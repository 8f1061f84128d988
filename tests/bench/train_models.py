"""Trains two more small models, to judge allocations on other architectures than the demo's.

    python -m tests.bench.train_models --kind dense|moe --out FOLDER [--steps 400]

They learn from the training part of the demo text, with a vocabulary of their own of 4096 tokens
and an output matrix of their own, as larger models have them: a dense transformer in Llama's
shape (6.8 M parameters, 44 matrices) and a mixture of 16 experts in Qwen3-MoE's (15 M parameters,
4 experts a token). They are not part of the package. The folder is in Hub format; convert it with
the pre-tokenizer `qwen35`.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from llamacpp_pipeline.demo.text import demo_text
from llamacpp_pipeline.demo.tokenizer import SPECIAL, tokenizer_config, train_tokenizer
from llamacpp_pipeline.demo.train import Settings, Windows, optimisers, rate

VOCABULARY = 4096
CONTEXT = 512
WINDOW = 256
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": False,
    "eos_token_id": VOCABULARY - len(SPECIAL),
    "pad_token_id": VOCABULARY - len(SPECIAL),
    "bos_token_id": None,
}
EVERY = 25


def dense() -> PreTrainedModel:
    """Six layers in Llama's shape."""
    config = LlamaConfig(**SHAPE, intermediate_size=768, num_hidden_layers=6)
    return LlamaForCausalLM(config)


def mixture() -> PreTrainedModel:
    """Four layers of 16 experts, 4 of them a token."""
    config = Qwen3MoeConfig(
        **SHAPE,
        intermediate_size=768,
        moe_intermediate_size=256,
        num_hidden_layers=4,
        num_experts=16,
        num_experts_per_tok=4,
        norm_topk_prob=True,
        router_aux_loss_coef=0.01,
        output_router_logits=True,
        decoder_sparse_step=1,
    )
    return Qwen3MoeForCausalLM(config)


KINDS = {"dense": dense, "moe": mixture}


def loss_of(model: PreTrainedModel, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean cross entropy in nats, and what is to be made small (with the routers' balance)."""
    with torch.autocast("cpu", torch.bfloat16):
        out = model(rows[:, :-1], use_cache=False)
    entropy = functional.cross_entropy(out.logits.float().flatten(0, 1), rows[:, 1:].flatten())
    balance = getattr(out, "aux_loss", None)
    return entropy, entropy if balance is None else entropy + 0.01 * balance


def train(model: PreTrainedModel, batches: Iterator[torch.Tensor], settings: Settings) -> None:
    """Train in place, with a line now and then."""
    steppers = optimisers(model, settings)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(stepper, lambda step: rate(step, settings))
        for stepper in steppers
    ]
    began, recent = time.monotonic(), []
    for step in range(1, settings.steps + 1):
        entropy, loss = loss_of(model, next(batches))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepper, schedule in zip(steppers, schedules, strict=True):
            stepper.step()
            stepper.zero_grad()
            schedule.step()
        recent.append(float(entropy.detach()))
        if step % EVERY == 0:
            mean = sum(recent[-EVERY:]) / EVERY
            print(f"{step} {time.monotonic() - began:.0f} s train {mean:.4f}", flush=True)


def windows(tokenizer: Tokenizer, settings: Settings) -> Iterator[torch.Tensor]:
    """Rows of the training text."""
    ids = torch.tensor(tokenizer.encode(demo_text("train")).ids)
    print(f"{len(ids)} tokens", flush=True)
    text = Windows(ids, window=WINDOW, tokens=settings.tokens, seed=settings.seed)
    while True:
        yield text.take()


def save(model: PreTrainedModel, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the model in Hub format, weights in BF16."""
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = json.dumps(tokenizer_config(CONTEXT), indent=2) + "\n"
    (folder / "tokenizer_config.json").write_text(config, encoding="utf-8")


def main() -> None:
    """Read the options, train, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=sorted(KINDS), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = Settings(
        steps=options.steps, horizon=2 * options.steps, cool_down=options.steps // 5
    )
    torch.manual_seed(settings.seed)
    model = KINDS[options.kind]()
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    tokenizer = train_tokenizer(demo_text("train"), vocabulary=VOCABULARY)
    options.out.mkdir(parents=True, exist_ok=True)
    train(model, windows(tokenizer, settings), settings)
    save(model, tokenizer, options.out)


if __name__ == "__main__":
    main()
