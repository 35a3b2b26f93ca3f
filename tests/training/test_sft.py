"""The SFT loop: its formula, that packing and cutting change nothing, what it writes, what it learns, what it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoModelForCausalLM
from tunesmith.errors import FailedPrecondition, TunesmithError
from tunesmith.rendering import Renderer
from tunesmith.rendering.examples import ExampleRenderer
from tunesmith.runs.config import BaseModelRef
from tunesmith.runs.files import lock
from tunesmith.training.losses import weighted_nll
from tunesmith.training.model import Policy, load_full
from tunesmith.training.packing import Sequence, Sharing, build_pack, plan_packs
from tunesmith.training.sft import train

from tests.training.makers import logprobs_at, policy_of, write_base
from tests.training.tuning_makers import left, lines, make_rows, status, write_chat_base, write_tuning

TOLERANCE = 1e-5


@pytest.fixture(scope="session")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chat_base(tmp_path_factory.mktemp("chat") / "base")


def random_sequences(vocabulary: int, count: int = 9) -> list[Sequence]:
    """Rows of several lengths; weights of all signs; gaps between trained stretches."""
    generator = torch.Generator().manual_seed(5)
    made = []
    for number in range(count):
        length = int(torch.randint(6, 40, (), generator=generator))
        ids = torch.randint(vocabulary, (length,), generator=generator).tolist()
        trained = [t for t in range(2, length) if t % 7 != 3]
        weight = [1.0, 2.5, -0.5][number % 3]
        made.append(
            Sequence(
                ids[: trained[-1]],
                trained[0],
                trained,
                [ids[t] for t in trained],
                weights=[weight] * len(trained),
                number=number,
            )
        )
    return made


def loss_and_gradients(policy: Policy, sequences: list[Sequence], budget: int) -> tuple[float, dict[str, Tensor]]:
    """Of one optimizer batch, cut into micro-batches of at most `budget` tokens."""
    for parameter in policy.adapter.values():
        parameter.grad = None
    tokens, loss = sum(len(s.targets) for s in sequences), 0.0
    for plans in plan_packs(sequences, budget, policy.costs, Sharing.NEVER):
        pack = build_pack(plans)
        logp_K, _ = policy.logprobs(pack, entropy=False)
        share = weighted_nll(logp_K, pack.weight_K, tokens)
        share.backward()
        loss += float(share.detach())
    gradients = {}
    for name, parameter in policy.adapter.items():
        assert parameter.grad is not None, name
        gradients[name] = parameter.grad.clone()
    return loss, gradients


def assert_close(one: tuple[float, dict[str, Tensor]], other: tuple[float, dict[str, Tensor]]) -> None:
    assert one[0] == pytest.approx(other[0], abs=TOLERANCE)
    for name, gradient in one[1].items():
        scale = max(1.0, float(other[1][name].abs().max()))
        assert float((gradient - other[1][name]).abs().max()) <= TOLERANCE * scale, name


def with_labels(policy: Policy, sequences: list[Sequence]) -> tuple[float, dict[str, Tensor]]:
    """The formula of other trainers: one padded batch through the model's own forward, labels -100 where nothing is trained, mean
    over the trained tokens of the batch. Weights must be 1."""
    for parameter in policy.adapter.values():
        parameter.grad = None
    longest = max(len(s.token_ids) for s in sequences) + 1
    ids = torch.zeros(len(sequences), longest, dtype=torch.int64)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, sequence in enumerate(sequences):
        whole = torch.tensor([*sequence.token_ids, sequence.targets[-1]])
        ids[row, : len(whole)], mask[row, : len(whole)] = whole, 1
        labels[row, torch.tensor(sequence.trained)] = torch.tensor(sequence.targets)
    policy.base.set_attn_implementation("eager")
    try:
        output = policy.base(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False)
        output.loss.backward()
    finally:
        policy.base.set_attn_implementation("tunesmith_packed")
    return float(output.loss.detach()), {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in policy.adapter.items()
    }


@pytest.fixture(params=["lora", "full", "full, untied head"])
def policy(request: pytest.FixtureRequest, tmp_path: Path, qwen3: Path) -> Policy:
    if request.param == "lora":
        return policy_of(qwen3, disturb=0.05)
    base = qwen3 if request.param == "full" else write_base(tmp_path / "llama", "llama")
    return load_full(BaseModelRef(name="random", path=base))


class TestFormula:
    def test_it_equals_a_plain_forward_with_labels(self, policy: Policy):
        sequences = [
            Sequence(**{**vars(s), "weights": [1.0] * len(s.targets)}) for s in random_sequences(policy.vocabulary)
        ]
        assert_close(loss_and_gradients(policy, sequences, 10_000), with_labels(policy, sequences))

    @pytest.mark.parametrize("budget", [1, 50, 120])
    def test_packed_equals_unpacked_however_it_is_cut(self, policy: Policy, budget: int):
        sequences = random_sequences(policy.vocabulary)
        packs = plan_packs(sequences, 10_000, policy.costs, Sharing.NEVER)
        assert len(packs) == 1
        assert len(plan_packs(sequences, 1, policy.costs, Sharing.NEVER)) == len(sequences)
        assert_close(loss_and_gradients(policy, sequences, budget), loss_and_gradients(policy, sequences, 10_000))

    def test_weights_multiply_tokens_and_do_not_count(self):
        logp_K = torch.tensor([-1.0, -2.0, -4.0], requires_grad=True)
        loss = weighted_nll(logp_K, torch.tensor([2.0, -1.0, 0.5]), batch_tokens=4)
        loss.backward()
        assert float(loss.detach()) == pytest.approx((2 * 1 - 2 + 0.5 * 4) / 4)
        assert torch.equal(logp_K.grad, torch.tensor([-0.5, 0.25, -0.125]))  # pyright: ignore[reportArgumentType]


class TestRun:
    def test_its_first_loss_is_that_of_the_rows(self, tmp_path: Path, chat: Path):
        """Computed from the chat template to the number, by the model's own forward."""
        rows = [{**row, "weight": 1 + number} for number, row in enumerate(make_rows(4))]
        train(tmp_path / "run", write_tuning(tmp_path / "run", chat, rows))
        policy = policy_of(chat)
        total, tokens = 0.0, 0
        renderer = ExampleRenderer(Renderer.load(chat))
        for row in rows:
            for example in renderer.examples(row):
                logprobs = [0.0, *logprobs_at(policy, example.token_ids, 1.0)]
                total -= sum(w * v for w, v in zip(example.weights, logprobs, strict=True))
                tokens += sum(1 for w in example.weights if w)
        [line] = [line for line in lines(tmp_path / "run") if "loss" in line]
        assert line["loss"] == pytest.approx(total / tokens, abs=TOLERANCE)
        assert line["trained_tokens"] == tokens

    def test_evaluations_metrics_and_status(self, tmp_path: Path, chat: Path):
        config = write_tuning(tmp_path / "run", chat, make_rows(20), make_rows(6, seed=9), epochs=1.5, evaluations=2)
        assert train(tmp_path / "run", config) == 8  # 5 of the first pass, then 10 rows in batches of 4
        written = lines(tmp_path / "run")
        assert [line["step"] for line in written if "loss" in line] == list(range(1, 9))
        evaluations = [line for line in written if "eval_loss" in line]
        assert [line["step"] for line in evaluations] == [0, 4, 8]
        for line in evaluations:
            rows = json.loads((tmp_path / "run" / "evaluation" / f"step-{line['step']:06d}.json").read_text())["rows"]
            assert len(rows) == 6
            nats = sum(row["nats"] for row in rows)
            assert line["eval_tokens"] == sum(row["tokens"] for row in rows)
            assert line["eval_loss"] == pytest.approx(nats / line["eval_tokens"], abs=TOLERANCE)
            bits = nats / math.log(2) / sum(row["bytes"] for row in rows)
            assert line["eval_bits_per_byte"] == pytest.approx(bits, abs=TOLERANCE)
        answers = [m["content"] for row in make_rows(6, seed=9) for m in row["messages"] if m["role"] == "assistant"]
        last = json.loads((tmp_path / "run" / "evaluation" / "step-000008.json").read_text())["rows"]
        assert sum(row["bytes"] for row in last) == len("".join(answers))
        said = status(tmp_path / "run")
        best = min(evaluations[1:], key=lambda line: line["eval_loss"])
        assert (said["state"], said["step"], said["total_steps"], said["percent"]) == ("COMPLETED", 8, 8, 100)
        assert (said["best_step"], said["best_eval_loss"]) == (best["step"], best["eval_loss"])
        assert said["trained_tokens"] == sum(line["trained_tokens"] for line in written if "loss" in line)

    def test_the_output_is_the_best_checkpoint(self, tmp_path: Path, chat: Path):
        """Answers held out that contradict the trained ones: the longer it trains, the worse."""
        rows = [{"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "aaaa"}]}] * 8
        other = [{"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "bbbb"}]}]
        config = write_tuning(tmp_path / "run", chat, rows, other, epochs=6, evaluations=12)
        train(tmp_path / "run", config)
        result = json.loads((tmp_path / "run" / "output" / "result.json").read_text())
        losses = {line["step"]: line["eval_loss"] for line in lines(tmp_path / "run") if "eval_loss" in line}
        assert losses[12] > losses[1], "it must get worse for this test to mean anything"
        assert result["step"] == min(range(1, 13), key=lambda step: losses[step])
        assert result["eval_loss"] == losses[result["step"]]
        policy = policy_of(chat, warm_start=tmp_path / "run" / "output")
        [example] = ExampleRenderer(Renderer.load(chat)).examples(other[0])
        logprobs = [0.0, *logprobs_at(policy, example.token_ids, 1.0)]
        loss = -sum(v * w for v, w in zip(logprobs, example.weights, strict=True)) / sum(example.weights)
        assert loss == pytest.approx(result["eval_loss"], abs=1e-4)

    def test_learning_rate_0_leaves_the_adapter_bitwise_unchanged(self, tmp_path: Path, chat: Path):
        config = write_tuning(tmp_path / "run", chat, make_rows(10), learning_rate=0.0, weight_decay=0.1)
        train(tmp_path / "run", config)
        written = load_file(tmp_path / "run" / "output" / "adapter_model.safetensors")
        initial = policy_of(chat).adapter_tensors()
        assert written.keys() == initial.keys()
        assert all(torch.equal(written[name], initial[name]) for name in initial)

    def test_it_learns(self, tmp_path: Path, chat: Path):
        """The held-out loss falls, with a LoRA and with all parameters; a warm start begins where the first ended."""
        rows, held = make_rows(40), make_rows(10, seed=7)
        after = {}
        for name, settings in {"lora": {"lora_rank": 8}, "full": {"lora_rank": 0, "learning_rate": 3e-3}}.items():
            train(tmp_path / name, write_tuning(tmp_path / name, chat, rows, held, epochs=3, **settings))
            losses = [line["eval_loss"] for line in lines(tmp_path / name) if "eval_loss" in line]
            assert losses[-1] < losses[0] - 1.0
            after[name] = losses
        warm = write_tuning(
            tmp_path / "warm", chat, rows, held, lora_rank=8, warm_start=str(tmp_path / "lora" / "output")
        )
        train(tmp_path / "warm", warm)
        first = next(line["eval_loss"] for line in lines(tmp_path / "warm") if "eval_loss" in line)
        assert first == pytest.approx(min(after["lora"][1:]), abs=TOLERANCE)

    def test_a_full_model_folder_loads_like_any_other(self, tmp_path: Path, chat: Path):
        train(tmp_path / "run", write_tuning(tmp_path / "run", chat, make_rows(8), lora_rank=0, learning_rate=1e-3))
        output = tmp_path / "run" / "output"
        assert json.loads((output / "result.json").read_text())["kind"] == "model"
        assert json.loads((output / "tunesmith.json").read_text()) == {"base_model": "accounts/local/models/random"}
        assert Renderer.load(output).render([{"role": "user", "content": "a"}])
        assert Tokenizer.from_file(str(output / "tokenizer.json"))
        model, base = (AutoModelForCausalLM.from_pretrained(folder) for folder in (output, chat))
        assert model.lm_head.weight is model.model.embed_tokens.weight
        changed = [n for (n, a), b in zip(model.named_parameters(), base.parameters(), strict=True) if not a.equal(b)]
        assert len(changed) == len(list(model.named_parameters()))

    def test_a_carve_out_is_never_trained_on(self, tmp_path: Path, chat: Path):
        config = write_tuning(tmp_path / "run", chat, make_rows(30), eval_carve_out=True, evaluations=1)
        train(tmp_path / "run", config)
        train_ids, held_ids = (
            load_file(tmp_path / "run" / "data" / f"{n}.safetensors") for n in ("samples", "held_out")
        )
        assert len(train_ids["rows"]) == 27
        assert held_ids["rows"].tolist() == [0, 1, 2]
        assert len(json.loads((tmp_path / "run" / "evaluation" / "step-000000.json").read_text())["rows"]) == 3
        other = write_tuning(tmp_path / "other", chat, make_rows(30), eval_carve_out=True, evaluations=1, seed=1)
        train(tmp_path / "other", other)
        assert (
            left(tmp_path / "other")["data/held_out.safetensors"] != left(tmp_path / "run")["data/held_out.safetensors"]
        )

    def test_render_samples(self, tmp_path: Path, chat: Path):
        rows = ["", *make_rows(25)]
        train(tmp_path / "run", write_tuning(tmp_path / "run", chat, rows))
        records = [json.loads(line) for line in (tmp_path / "run" / "render_samples.jsonl").read_text().splitlines()]
        assert len(records) == 20
        assert [r["source_jsonl_row_index"] for r in records] == list(range(20))
        assert [r["source_jsonl_line_number"] for r in records] == list(range(2, 22))


class TestRefused:
    def fails(self, run_dir: Path, base: Path, rows: list[Any], **settings: Any) -> str:
        config = write_tuning(run_dir, base, rows, **settings)
        with pytest.raises(TunesmithError) as error:
            train(run_dir, config)
        said = status(run_dir)
        assert said["state"] == "FAILED"
        assert said["message"] == error.value.message
        assert not (run_dir / "output").exists()
        return error.value.message

    def test_wrong_rows_by_their_lines(self, tmp_path: Path, chat: Path):
        rows = [*make_rows(3), "{no json", "", {"messages": []}, *[{"messages": 1}] * 4]
        message = self.fails(tmp_path / "run", chat, rows)
        assert message.startswith("Dataset validation failed: train.jsonl: this is no JSON")
        assert "(line 4)" in message
        assert "(line 6)" in message
        assert "and 3 more wrong rows" in message
        assert not list((tmp_path / "run" / "data").glob("*.safetensors"))
        assert not list((tmp_path / "run" / "data").glob(".*"))

    def test_nothing_to_train(self, tmp_path: Path, chat: Path):
        rows = [
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]}
        ] * 3
        assert "none of the training rows has a token to train on" in self.fails(tmp_path / "run", chat, rows)

    def test_a_loss_that_is_not_finite(self, tmp_path: Path, chat: Path):
        message = self.fails(tmp_path / "run", chat, make_rows(12), learning_rate=1e30)
        assert "Training cannot go on after step" in message
        assert "Lower the learning rate" in message

    def test_a_last_step_that_ruins_the_model(self, tmp_path: Path, chat: Path):
        message = self.fails(tmp_path / "run", chat, make_rows(4), learning_rate=1e30)
        assert "not numbers" in message

    def test_one_row_cannot_be_split(self, tmp_path: Path, chat: Path):
        assert "needs at least 2" in self.fails(tmp_path / "run", chat, make_rows(1), eval_carve_out=True)

    def test_full_parameters_with_a_warm_start(self, tmp_path: Path, chat: Path):
        message = self.fails(tmp_path / "run", chat, make_rows(4), lora_rank=0, warm_start=str(tmp_path))
        assert "cannot continue one" in message

    def test_a_second_learner(self, tmp_path: Path, chat: Path):
        config = write_tuning(tmp_path / "run", chat, make_rows(4))
        with lock(tmp_path / "run" / "learner.lock"), pytest.raises(FailedPrecondition, match="is held by process"):
            train(tmp_path / "run", config)
        assert not (tmp_path / "run" / "status.json").exists()

    def test_a_template_without_the_wanted_history(self, tmp_path: Path, chat: Path):
        assert "cannot do thinking history" in self.fails(
            tmp_path / "run", chat, make_rows(4), thinking_history="preserved"
        )


def test_a_quantized_base_is_refused_for_full_parameters(tmp_path: Path, qwen3: Path):
    folder = tmp_path / "quantized"
    folder.mkdir()
    for file in qwen3.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "fp8"}}))
    with pytest.raises(FailedPrecondition, match="has quantized weights"):
        load_full(BaseModelRef(name="random", path=folder))
