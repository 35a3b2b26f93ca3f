"""Nothing leans on the bundled model: the loop on a random model of another width, vocabulary and chat template."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.loop import projects
from tests.loop.platform import FINAL, REPO
from tests.loop.test_story import JOB

TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
SHARED_ROWS = REPO.parent / "shared" / "data" / "gsm8k_sample_200.jsonl"


def make_model(folder: Path) -> Path:
    """A random Llama with 512 tokens of its own, another template and end token."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    text = ["Tom has apples and buys more. How many now?"] * 20
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        text, trainers.BpeTrainer(vocab_size=300, special_tokens=["</s>"], initial_alphabet=alphabet)
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", "chat_template": TEMPLATE}))
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=96,
        intermediate_size=160,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=0,
        bos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_a_random_model_with_another_template_learns_a_dense_score(platform, short_tmp):
    model = make_model(short_tmp / "random-llama")
    project = projects.write(short_tmp / "vowels", dataset=projects.rows(60))
    ended = platform.run(
        "ep", "create", "rft", "--yes", "--skip-validation", "--base-model", model, "--output-model", "vowels",
        "--max-output-tokens", "16", "--epochs", "10", "--chunk-size", "10", "--learning-rate", "5e-4", "--lora-rank", "32",
        cwd=project,
    )  # fmt: skip
    found = JOB.search(ended.stdout)
    assert found, ended.stdout
    job = platform.wait(found.group())
    assert job["state"] == "JOB_STATE_COMPLETED", job
    metrics = platform.get(f"/v1/{found.group()}/metrics")
    scores = [event["mean_score"] for event in metrics["events"] if event["kind"] == "chunk"]
    assert len(scores) == 60
    print("first and last five chunks:", sum(scores[:5]) / 5, sum(scores[-5:]) / 5)
    assert sum(scores[-5:]) / 5 > sum(scores[:5]) / 5 + 0.01, scores
    assert max(step["mismatch_max"] for step in metrics["metrics"]) < 1e-4


@pytest.mark.skipif(
    not SHARED_ROWS.exists() and not os.environ.get("CI"), reason="needs the GSM8K sample beside the repository"
)
def test_twenty_real_gsm8k_rows_go_the_whole_way(platform, short_tmp):
    rows = [json.loads(line) for line in SHARED_ROWS.read_text().splitlines()[:20]]
    source = (REPO / "examples/gsm8k/evaluation.py").read_text().replace("gsm8k_sample.jsonl", "rows.jsonl")
    project = projects.write(short_tmp / "real", source=source, dataset=rows)
    ended = platform.run(
        "ep", "create", "rft", "--yes", "--skip-validation", "--base-model", projects.BASE, "--response-candidates-count", "4",
        "--max-output-tokens", "64", cwd=project,
    )  # fmt: skip
    found = JOB.search(ended.stdout)
    assert found, ended.stdout
    job = platform.wait(found.group())
    assert job["state"] in FINAL - {"JOB_STATE_FAILED", "JOB_STATE_CANCELLED"}, job
    rollouts = platform.get(f"/v1/{found.group()}/rollouts?pageSize=100")["rollouts"]
    assert len(rollouts) == 80
    gold = [row["messages"][-1]["content"] for row in rows]
    for path in platform.data_dir.glob("completions.db"):
        import sqlite3

        with sqlite3.connect(path) as database:
            for (request,) in database.execute("select request from completions where job is not null"):
                assert not any(answer in json.loads(request)["messages"][-1]["content"] for answer in gold)
