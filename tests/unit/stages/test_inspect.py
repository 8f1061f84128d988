from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages import inspect
from llamacpp_pipeline.stages.inspect import (
    STAGE,
    InspectParams,
    argv,
    inspect_folder,
    parse,
)
from tests.unit.stages.makers import CONFIG, Raw, bf16, f32, write_model

CARD = """---
license: apache-2.0
language: [en, no]
tags: [a, b]
pipeline_tag: text-generation
---
# A model
"""


def test_the_facts_of_a_text_model(tmp_path: Path) -> None:
    write_model(tmp_path, {"model.embed_tokens.weight": f32(1, 2, 3), "w": bf16(1)})
    (tmp_path / "README.md").write_text(CARD)
    (tmp_path / "chat_template.jinja").write_text("{{ x }}")

    facts = inspect_folder(tmp_path)

    assert (facts.architecture, facts.model_type) == ("Qwen3_5ForCausalLM", "qwen3_5_text")
    assert (facts.n_parameters, facts.n_tensors) == (4, 2)
    assert (facts.tensor_bytes, facts.largest_tensor_bytes) == (14, 12)
    assert facts.dtypes == {"BF16": 1, "F32": 3}
    assert (facts.vocab_size, facts.n_ctx_train, facts.n_layers) == (8, 512, 2)
    assert (facts.has_mtp, facts.says_mtp, facts.has_vision) == (False, False, False)
    assert facts.license == "apache-2.0"
    assert facts.languages == ("en", "no")
    assert facts.tags == ("a", "b")
    assert facts.pipeline_tag == "text-generation"
    assert facts.chat_template


def test_what_can_be_quantized_is_counted_by_role_and_experts_as_one(tmp_path: Path) -> None:
    def matrix(*shape: int) -> Raw:
        return Raw(dtype="F32", shape=shape, data=bytes(4 * math.prod(shape)))

    layers = {
        f"model.layers.{layer}.{name}.weight": matrix(2, 2)
        for layer in range(2)
        for name in ("self_attn.q_proj", "mlp.experts.0.up_proj", "mlp.experts.1.up_proj")
    }
    kept = {
        "model.layers.0.mlp.gate.weight": matrix(2, 2),
        "model.layers.0.input_layernorm.weight": matrix(2),
        "model.layers.0.linear_attn.conv1d.weight": matrix(2, 1, 4),
        "model.visual.blocks.0.attn.weight": matrix(2, 2),
    }
    tensors = {"model.embed_tokens.weight": matrix(8, 2), **layers, **kept}

    assert inspect_folder(write_model(tmp_path, tensors)).matrices == {
        "model.embed_tokens.weight": 1,
        "model.layers.N.mlp.experts.up_proj.weight": 2,
        "model.layers.N.self_attn.q_proj.weight": 2,
    }


def test_what_is_not_said_is_absent(tmp_path: Path) -> None:
    facts = inspect_folder(write_model(tmp_path))

    assert facts.license is None
    assert facts.pipeline_tag is None
    assert (facts.tags, facts.languages) == ((), ())
    assert not facts.chat_template


def test_a_multimodal_config_is_read_in_its_text_part(tmp_path: Path) -> None:
    config = {
        "architectures": ["Qwen3_5ForConditionalGeneration"],
        "model_type": "qwen3_5",
        "text_config": {**CONFIG, "architectures": None, "mtp_num_hidden_layers": 1},
        "vision_config": {"num_hidden_layers": 99},
    }
    tensors = {"model.visual.patch.weight": f32(1), "mtp.fc.weight": f32(1), "w": f32(1)}

    facts = inspect_folder(write_model(tmp_path, tensors, config))

    assert facts.architecture == "Qwen3_5ForConditionalGeneration"
    assert (facts.n_layers, facts.vocab_size) == (2, 8)
    assert (facts.has_mtp, facts.says_mtp, facts.has_vision) == (True, True, True)


def test_a_layer_past_the_last_is_a_draft_layer_where_the_config_announces_one(
    tmp_path: Path,
) -> None:
    tensors = {"model.layers.2.eh_proj.weight": f32(1)}

    plain = inspect_folder(write_model(tmp_path / "plain", tensors))
    drafted = inspect_folder(
        write_model(tmp_path / "drafted", tensors, {**CONFIG, "num_nextn_predict_layers": 1})
    )

    assert not plain.has_mtp
    assert drafted.has_mtp


def test_a_vocabulary_unsaid_is_counted_in_the_embeddings(tmp_path: Path) -> None:
    config = {key: value for key, value in CONFIG.items() if key != "vocab_size"}
    tensors = {"model.embed_tokens.weight": f32(*range(6))}

    assert inspect_folder(write_model(tmp_path, tensors, config)).vocab_size == 6


def test_a_chat_template_may_stand_in_the_tokenizers_config(tmp_path: Path) -> None:
    write_model(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "x"}))

    assert inspect_folder(tmp_path).chat_template


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("config.json", r"has no config\.json"),
        ("tokenizer.json", "has no tokenizer"),
        ("model.safetensors", "has no safetensors file"),
    ],
)
def test_a_folder_that_lacks_a_file_is_refused(tmp_path: Path, spoil: str, message: str) -> None:
    write_model(tmp_path)
    (tmp_path / spoil).unlink()

    with pytest.raises(InputError, match=message) as caught:
        inspect_folder(tmp_path)
    assert caught.value.hint


def test_what_is_not_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        inspect_folder(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("config", "message"),
    [("{", "cannot be read"), ("[]", "is not a JSON object"), ("{}", "names no architecture")],
)
def test_a_config_that_says_nothing_is_refused(tmp_path: Path, config: str, message: str) -> None:
    write_model(tmp_path)
    (tmp_path / "config.json").write_text(config)

    with pytest.raises(InputError, match=message):
        inspect_folder(tmp_path)


def test_front_matter_that_is_not_yaml_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path)
    (tmp_path / "README.md").write_text("---\na: [\n---\n")

    with pytest.raises(InputError, match="front matter is not YAML"):
        inspect_folder(tmp_path)


def test_a_card_without_front_matter_says_nothing(tmp_path: Path) -> None:
    write_model(tmp_path)
    (tmp_path / "README.md").write_text("# A model\n---\nlicense: mit\n---\n")

    assert inspect_folder(tmp_path).license is None


def test_the_program_leaves_the_facts(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    paths = {"model": model, "facts": tmp_path / "facts.json"}

    ran = CliRunner().invoke(inspect.main, list(argv(InspectParams(), paths)[1:]))

    assert ran.exit_code == 0
    assert parse(ran.output, paths) == inspect_folder(model)


def test_the_program_reports_a_failure(tmp_path: Path) -> None:
    paths = {"model": tmp_path / "nothing", "facts": tmp_path / "facts.json"}

    ran = CliRunner().invoke(inspect.main, list(argv(InspectParams(), paths)[1:]))

    assert ran.exit_code == 1
    explained = STAGE.explain(ran.output)
    assert explained is not None
    assert explained.message == "nothing is not a folder"
    with pytest.raises(UnreadableOutputError) as caught:
        parse(ran.output, paths)
    assert "error: nothing is not a folder" in caught.value.evidence
