"""Preference tuning: it learns, it says what it saw, and packing changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tunesmith.errors import FailedPrecondition, InvalidArgument
from tunesmith.runs.tuning import TuningConfig
from tunesmith.training.dpo import train
from tunesmith.training.model import Policy
from tunesmith.training.packing import Costs, Sequence, Sharing
from tunesmith.training.pairs import answer_logprobs, packs_of, pair_input, pairs_of, plan_pairs, sequences_of
from tunesmith.training.preferences import pair_loss_for
from tunesmith.training.samples import Samples
from tunesmith.training.tuning import TuningRun

from tests.training.pair_makers import lines, pair_row, polite_rows, write_chat_base, write_pair_run

METHODS: list[dict[str, Any]] = [
    {"loss": "DPO"},
    {"loss": "ORPO", "orpo_lambda": 0.5},
    {"loss": "DPO", "lora_rank": 0, "learning_rate": 2e-3},
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chat_base(tmp_path_factory.mktemp("dpo") / "base")


def policy_of(run_dir: Path, config: TuningConfig) -> Policy:
    """The model before training; an adapter with an effect, so that gradients reach both of its factors."""
    policy = TuningRun(run_dir, config).load_policy()
    if config.lora_rank:
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in policy.adapter.values():
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return policy


def prepared(run_dir: Path, config: TuningConfig) -> Samples:
    train(run_dir, config, until_step=0)
    return Samples(run_dir / "data" / "samples.safetensors")


@pytest.mark.parametrize("method", METHODS, ids=["dpo", "orpo", "full"])
def test_it_learns_a_preference_and_says_so(tmp_path: Path, base: Path, method: dict[str, Any]):
    config = write_pair_run(
        tmp_path, base, polite_rows(96), polite_rows(24, seed=1), epochs=1.5, evaluations=3, **method
    )
    assert train(tmp_path, config) == 18
    steps = [line for line in lines(tmp_path) if "loss" in line]
    evaluations = [line for line in lines(tmp_path) if "eval_loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 19))
    assert [line["step"] for line in evaluations] == [0, 6, 12, 18]
    assert evaluations[0]["eval_accuracy"] < 0.8
    assert evaluations[-1]["eval_accuracy"] == 1.0
    margins = [line["eval_margin"] for line in evaluations]
    assert margins == sorted(margins)
    assert evaluations[-1]["eval_loss"] < evaluations[0]["eval_loss"]
    for line in steps:
        assert line["margin"] == pytest.approx(line["chosen_reward"] - line["rejected_reward"], abs=1e-6)
    last = json.loads((tmp_path / "evaluation" / "step-000018.json").read_text())
    assert len(last["rows"]) == 24
    assert sum(row["loss"] for row in last["rows"]) / 24 == pytest.approx(evaluations[-1]["eval_loss"])
    assert sum(row["margin"] for row in last["rows"]) / 24 == pytest.approx(margins[-1])
    status = json.loads((tmp_path / "status.json").read_text())
    result = json.loads((tmp_path / "output" / "result.json").read_text())
    assert (status["state"], status["best_step"], status["percent"]) == ("COMPLETED", 18, 100)
    assert (result["kind"], result["step"]) == ("model" if config.lora_rank == 0 else "adapter", 18)
    assert (tmp_path / "reference.safetensors").exists() == (method["loss"] == "DPO")
    shown = [json.loads(line) for line in (tmp_path / "render_samples.jsonl").read_text().splitlines()]
    assert [(one["source_jsonl_line_number"], one["split_index"]) for one in shown[:4]] == [
        (1, 0),
        (1, 1),
        (2, 0),
        (2, 1),
    ]


def test_before_training_it_is_the_reference(tmp_path: Path, base: Path):
    """Exactly, so that nobody takes rounding for a preference."""
    config = write_pair_run(tmp_path, base, polite_rows(16), polite_rows(8, seed=1), learning_rate=0, weight_decay=0.1)
    train(tmp_path, config)
    for line in lines(tmp_path):
        if "eval_loss" in line:
            assert (line["eval_accuracy"], line["eval_margin"]) == (0.5, 0.0)
            assert line["eval_loss"] == pytest.approx(0.693147, abs=1e-6)


@pytest.mark.parametrize("rank", [4, 0])
def test_learning_rate_0_leaves_the_model_bitwise_as_it_was(tmp_path: Path, base: Path, rank: int):
    config = write_pair_run(tmp_path, base, polite_rows(16), learning_rate=0, lora_rank=rank, weight_decay=0.1)
    before = TuningRun(tmp_path, config).load_policy().adapter_tensors()
    train(tmp_path, config)
    after = load_file(tmp_path / "output" / ("adapter_model.safetensors" if rank else "model.safetensors"))
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_the_reference_of_a_warm_start_is_the_warm_start(tmp_path: Path, base: Path):
    first, second = tmp_path / "first", tmp_path / "second"
    train(first, write_pair_run(first, base, polite_rows(48)))
    config = write_pair_run(second, base, polite_rows(48), polite_rows(8, seed=1), warm_start=str(first / "output"))
    train(second, config)
    cold = load_file(first / "reference.safetensors")["train"]
    warm = load_file(second / "reference.safetensors")["train"]
    assert float((warm - cold)[::2].mean()) > 1
    assert next(line for line in lines(second) if "eval_loss" in line)["eval_margin"] == 0.0


@pytest.mark.parametrize("method", METHODS, ids=["dpo", "orpo", "full"])
def test_packed_equals_unpacked(tmp_path: Path, base: Path, method: dict[str, Any]):
    """Loss and gradient of a batch: all in one pack with shared prompts, cut into many, and one pair at a time, unshared."""
    config = write_pair_run(tmp_path, base, polite_rows(12), **method)
    samples, policy = prepared(tmp_path, config), policy_of(tmp_path, config)
    reference = torch.linspace(-30, -20, len(samples)) if config.loss == "DPO" else None
    ways = [(10_000, Sharing.ALWAYS), (10_000, Sharing.AUTO), (150, Sharing.ALWAYS), (1, Sharing.NEVER)]
    packs, losses, gradients = [], [], []
    for budget, sharing in ways:
        policy.model.zero_grad(set_to_none=True)
        answers = sequences_of(samples, range(12), policy.vocabulary)
        found = list(packs_of(answers, budget, policy, sharing))
        loss = 0.0
        for pack in found:
            output = pair_loss_for(config).compute(pair_input(pack, answer_logprobs(policy, pack), reference, 12))
            output.loss.backward()
            loss += float(output.loss.detach())
        packs.append(len(found))
        losses.append(loss)
        gradients.append(torch.cat([p.grad.flatten() for p in policy.adapter.values() if p.grad is not None]))
    assert packs[0] == packs[1] == 1
    assert 1 < packs[2] < packs[3] == 12
    for loss, gradient in zip(losses, gradients, strict=True):
        assert loss == pytest.approx(losses[3], abs=1e-5)
        torch.testing.assert_close(gradient, gradients[3], rtol=0, atol=1e-5)


def test_loss_and_gradient_are_those_of_a_plain_forward(tmp_path: Path, base: Path):
    """A padded batch through the model's own attention, log-softmax over everything, answers summed under a mask."""
    config = write_pair_run(tmp_path, base, polite_rows(6), lora_rank=0, beta=0.2)
    samples, policy = prepared(tmp_path, config), policy_of(tmp_path, config)
    reference = load_file(tmp_path / "reference.safetensors")["train"] - torch.linspace(0, 3, len(samples))
    answers = sequences_of(samples, range(6), policy.vocabulary)
    (pack,) = packs_of(answers, 10_000, policy)
    ours = pair_loss_for(config).compute(pair_input(pack, answer_logprobs(policy, pack), reference, 6)).loss
    ours.backward()
    gradients = {name: p.grad.clone() for name, p in policy.adapter.items() if p.grad is not None}
    policy.model.zero_grad(set_to_none=True)

    policy.base.set_attn_implementation("eager")
    longest = max(len(answer.token_ids) for answer in answers) + 1
    ids, mask, counts = (torch.zeros(len(answers), longest, dtype=torch.int64) for _ in range(3))
    for row, answer in enumerate(answers):
        whole = [*answer.token_ids, answer.targets[-1]]
        ids[row, : len(whole)], mask[row, : len(whole)] = torch.tensor(whole), 1
        counts[row, answer.trained] = 1
    logits = policy.base(input_ids=ids, attention_mask=mask, use_cache=False).logits
    logp = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    answer_N = (logp * counts[:, 1:]).sum(1)
    ratio_N = answer_N - reference
    plain = -torch.nn.functional.logsigmoid(0.2 * (ratio_N[::2] - ratio_N[1::2])).mean()
    plain.backward()
    assert ours.item() == pytest.approx(plain.item(), abs=1e-5)
    assert len(gradients) > 20
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, policy.adapter[name].grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sharing", list(Sharing))
@pytest.mark.parametrize("budget", [1, 40, 75, 1000])
def test_pairs_are_never_split(budget: int, sharing: Sharing):
    answers = [
        Sequence(list(range(3 + pair)) + [side] * (side + pair % 4), 3 + pair, [3 + pair], [1], number=2 * pair + side)
        for pair in range(9)
        for side in (0, 1)
    ]
    planned = plan_pairs(answers, budget, Costs(1000, 1), sharing)
    numbers = [sorted(one.number for plan in plans for tile in plan.tiles for one in tile) for plans in planned]
    assert sorted(sum(numbers, [])) == list(range(18))
    assert all(number ^ 1 in pack for pack in numbers for number in pack)
    for plans, pack in zip(planned, numbers, strict=True):
        assert sum(plan.tokens for plan in plans) <= budget or len(pack) == 2


def test_a_pack_knows_its_pairs(tmp_path: Path, base: Path):
    config = write_pair_run(tmp_path, base, polite_rows(5))
    samples, policy = prepared(tmp_path, config), policy_of(tmp_path, config)
    (pack,) = packs_of(sequences_of(samples, [1, 3, 4], policy.vocabulary), 10_000, policy)
    assert pairs_of(pack) == [1, 3, 4]
    with torch.no_grad():
        logp_S = answer_logprobs(policy, pack)
    inputs = pair_input(pack, logp_S, None, 3)
    for place, pair in enumerate([1, 3, 4]):
        for side, logp in enumerate((inputs.chosen_P[place], inputs.rejected_P[place])):
            answer = samples.sequence(2 * pair + side, policy.vocabulary)
            told = policy.score([*answer.token_ids, answer.targets[-1]])[-len(answer.targets) :]
            assert float(logp) == pytest.approx(sum(told), abs=1e-4)


def test_held_out_rows_of_which_nothing_can_be_compared_say_null(tmp_path: Path, base: Path):
    long = pair_row("q" * 200, "a", "b")
    held_out = [*polite_rows(2, seed=1), long, *polite_rows(1, seed=2)]
    config = write_pair_run(tmp_path, base, polite_rows(8), held_out, max_context_length=100)
    train(tmp_path, config)
    rows = json.loads((tmp_path / "evaluation" / "step-000001.json").read_text())["rows"]
    assert [row["loss"] is None for row in rows] == [False, False, True, False]


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ([*polite_rows(3), pair_row("q", "a", "a")], {}, r"train\.jsonl: .*are the same answer.* \(line 4\)"),
        (
            [pair_row("q", "a", "b"), {"messages": []}],
            {},
            r"a preference row is a JSON object with 'input'.* \(line 2\)",
        ),
        (polite_rows(3), {"beta": 0.5}, "for DPO it must lie between 0 and 0.5"),
        (polite_rows(3), {"loss": "ORPO", "orpo_lambda": 0.0}, "orpo_lambda is 0; it must be a number above 0"),
        ([pair_row("q" * 99, "a", "b")], {"max_context_length": 50}, "none of the training rows"),
    ],
)
def test_what_cannot_be_trained_ends_the_run_with_the_reason(
    tmp_path: Path, base: Path, rows: list[dict[str, Any]], settings: dict[str, Any], message: str
):
    config = write_pair_run(tmp_path, base, rows, **settings)
    with pytest.raises((InvalidArgument, FailedPrecondition), match=message) as caught:
        train(tmp_path, config)
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["state"], status["message"]) == ("FAILED", caught.value.message)
    assert not (tmp_path / "output").exists()
