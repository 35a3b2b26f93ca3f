"""The loop on sealed batches: what it publishes, what it reports, when it refuses and when it ends."""

from __future__ import annotations

import json
import math
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tunesmith.errors import FailedPrecondition, InvalidArgument
from tunesmith.runs.batch import Batch, BatchHeader, BatchRollout, Sample
from tunesmith.runs.config import LossMethod
from tunesmith.runs.files import adapter_path, batch_path, lock
from tunesmith.training.model import Policy
from tunesmith.training.publish import canary, canary_ids, publish
from tunesmith.training.rft import train

from tests.training.makers import make_batch, metrics, policy_of, published, seal, write_base, write_run


def weights(run_dir: Path, version: int) -> dict[str, torch.Tensor]:
    return load_file(adapter_path(run_dir, version) / "adapter_model.safetensors")


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def changed(batch: Batch, **header: object) -> Batch:
    return Batch(batch.header.model_copy(update=header), batch.samples)


def test_three_steps_give_four_adapters_two_checkpoints_and_three_lines(tmp_path: Path, qwen3: Path):
    policy = policy_of(qwen3)
    seal(write_run(tmp_path, qwen3), *(make_batch(policy, step, temperature=0.7) for step in range(3)))
    assert train(tmp_path) == 3
    assert [p.name for p in sorted((tmp_path / "adapters").iterdir())] == [f"v00000{k}" for k in range(4)]
    assert [p.name for p in sorted((tmp_path / "checkpoints").iterdir())] == ["step-000002", "step-000003"]
    lines = metrics(tmp_path)
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert {
        "step", "loss", "grad_norm", "learning_rate", "trained_tokens", "kept_groups", "mismatch_max", "mismatch_mean",
        "entropy", "kl", "ratio_p01", "ratio_p99", "clip_fraction",
    } <= set(lines[0])  # fmt: skip
    # The first batch was sampled by version 0, so pi is mu up to rounding; the later ones come from another policy.
    assert lines[0]["mismatch_max"] < 1e-5
    assert lines[0]["kl"] < 1e-9
    assert lines[0]["trained_tokens"] == sum(sum(s.sampled) for s in Batch.read(batch_path(tmp_path, 0)).samples)
    assert lines[2]["mismatch_mean"] > 1e-3
    assert lines[2]["ratio_p01"] < 1 < lines[2]["ratio_p99"]
    assert 0 < lines[0]["entropy"] <= math.log(61)
    assert weights(tmp_path, 0).keys() == weights(tmp_path, 3).keys()
    assert distance(weights(tmp_path, 0), weights(tmp_path, 3)) > 1e-3


def test_the_best_versions_checkpoint_is_kept(tmp_path: Path, qwen3: Path):
    policy = policy_of(qwen3)
    seal(write_run(tmp_path, qwen3), *(make_batch(policy, step) for step in range(5)))
    (tmp_path / "status.json").write_text(json.dumps({"state": "RUNNING", "best_version": 2}))
    train(tmp_path)
    assert [p.name for p in sorted((tmp_path / "checkpoints").iterdir())] == [f"step-00000{k}" for k in (2, 4, 5)]


def test_the_same_seed_and_batches_give_the_same_bits(tmp_path: Path, qwen3: Path):
    policy = policy_of(qwen3)
    batches = [make_batch(policy, step) for step in range(3)]
    for name in ("one", "two"):
        seal(write_run(tmp_path / name, qwen3), *batches)
        train(tmp_path / name)
    assert published(tmp_path / "one") == published(tmp_path / "two")
    assert metrics(tmp_path / "one") == metrics(tmp_path / "two")
    seal(write_run(tmp_path / "seed", qwen3, seed=1), *batches)
    train(tmp_path / "seed")
    assert published(tmp_path / "seed").keys() == published(tmp_path / "one").keys()
    assert distance(weights(tmp_path / "seed", 0), weights(tmp_path / "one", 0)) > 1e-3


@pytest.mark.parametrize("loss", list(LossMethod))
@pytest.mark.parametrize("control", ["learning rate 0", "constant scores"])
def test_controls_leave_the_adapter_bitwise_unchanged(tmp_path: Path, qwen3: Path, loss: str, control: str):
    policy = policy_of(qwen3)
    zero_rate = control == "learning rate 0"
    options: dict[str, Any] = {"learning_rate": 0.0} if zero_rate else {"scores": [0.5] * 4}
    seal(write_run(tmp_path, qwen3, loss=loss), *(make_batch(policy, step, **options) for step in range(2)))
    train(tmp_path)
    for name in ("adapter_model.safetensors", "canary.json"):
        contents = {(adapter_path(tmp_path, version) / name).read_bytes() for version in range(3)}
        assert len(contents) == 1
    # The control is about this step's update, not about a dead gradient.
    assert (metrics(tmp_path)[0]["grad_norm"] > 0) is zero_rate


@pytest.mark.parametrize("loss", ["DEFAULT", "GRPO", "DAPO", "GSPO_TOKEN"])
def test_the_micro_batch_size_does_not_matter(tmp_path: Path, qwen3: Path, loss: str):
    policy = policy_of(qwen3, disturb=0.05)
    batches = [make_batch(policy, step, gaps=True, completion=(3, 12), noise=0.1) for step in range(2)]
    norms = {}
    for budget in (1, 40, 16384):
        run_dir = write_run(
            tmp_path / str(budget), qwen3, loss=loss, max_tokens_per_micro_batch=budget, max_grad_norm=1e9
        )
        seal(run_dir, *batches)
        train(run_dir)
        norms[budget] = [(line["grad_norm"], line["loss"]) for line in metrics(run_dir)]
        # AdamW's first steps divide gradients by their own size, which magnifies rounding; the gradients agree to 1e-5.
        assert norms[budget] == [pytest.approx(pair, rel=1e-5, abs=1e-5) for pair in norms[1]]
        moments = load_file(run_dir / "checkpoints/step-000001/state.safetensors")
        expected = load_file(tmp_path / "1/checkpoints/step-000001/state.safetensors")
        for name, tensor in moments.items():
            if name.startswith("exp_avg/"):
                torch.testing.assert_close(10 * tensor, 10 * expected[name], rtol=1e-4, atol=1e-5)


def test_a_stale_batch_says_how_stale_and_its_versions_change_no_bit(tmp_path: Path, qwen3: Path):
    """The correction is by the recorded log-probability of every token, not by the version."""
    policy = policy_of(qwen3)
    fresh = [make_batch(policy, step, noise=0.3) for step in range(3)]
    stale = [
        changed(
            batch,
            rollouts=[
                r.model_copy(update={"version": max(0, batch.header.step - 1 - i % 2)})
                for i, r in enumerate(batch.header.rollouts)
            ],
        )
        for batch in fresh
    ]
    for name, batches in (("fresh", fresh), ("stale", stale)):
        seal(write_run(tmp_path / name, qwen3), *batches)
        train(tmp_path / name)
    assert published(tmp_path / "fresh") == published(tmp_path / "stale")
    last = metrics(tmp_path / "stale")[2]
    assert (last["staleness_mean"], last["staleness_max"]) == (1.5, 2)
    assert {line["staleness_max"] for line in metrics(tmp_path / "fresh")} == {0}
    assert 0.5 < last["ess"] < 0.99, "log-probabilities that are off by 0.3 nats"
    seal(write_run(tmp_path / "exact", qwen3), make_batch(policy))
    train(tmp_path / "exact")
    assert metrics(tmp_path / "exact")[0]["ess"] == pytest.approx(1.0, abs=1e-6)


def test_zero_advantage_tokens_count_in_the_mean(tmp_path: Path, qwen3: Path):
    """Two groups, one of them constant: its tokens make the gradient smaller, by their share."""
    policy = policy_of(qwen3)
    both = make_batch(policy, groups=2, completion=(4, 5))
    varied = changed(
        both, rollouts=[r.model_copy(update={"score": float(i % 2)}) for i, r in enumerate(both.header.rollouts)]
    )
    mixed = changed(
        varied, rollouts=[r.model_copy(update={"score": 0.5}) if r.group else r for r in varied.header.rollouts]
    )
    alone = Batch(varied.header.model_copy(update={"rollouts": varied.header.rollouts[:4]}), varied.samples[:4])
    norms = []
    for name, batch in (("mixed", mixed), ("alone", alone)):
        seal(write_run(tmp_path / name, qwen3, max_grad_norm=1e9), batch)
        train(tmp_path / name)
        norms.append(metrics(tmp_path / name)[0]["grad_norm"] * metrics(tmp_path / name)[0]["trained_tokens"])
    assert metrics(tmp_path / "mixed")[0]["trained_tokens"] > metrics(tmp_path / "alone")[0]["trained_tokens"]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_warm_up_and_clipping_take_effect(tmp_path: Path, qwen3: Path):
    policy = policy_of(qwen3)
    batches = [make_batch(policy, step, learning_rate=4e-3) for step in range(5)]
    seal(write_run(tmp_path / "warm", qwen3, warmup_steps=4), *batches)
    train(tmp_path / "warm")
    assert [line["learning_rate"] for line in metrics(tmp_path / "warm")] == pytest.approx(
        [1e-3, 2e-3, 3e-3, 4e-3, 4e-3]
    )
    seal(write_run(tmp_path / "clip", qwen3, max_grad_norm=1e-3), *batches[:1])
    train(tmp_path / "clip")
    moments = load_file(tmp_path / "clip/checkpoints/step-000001/state.safetensors")
    squares = sum(float((10 * t).pow(2).sum()) for name, t in moments.items() if name.startswith("exp_avg/"))
    assert math.sqrt(squares) == pytest.approx(1e-3, rel=1e-3)
    assert metrics(tmp_path / "clip")[0]["grad_norm"] > 1e-3


def test_the_kl_term_pulls_towards_the_base_model(tmp_path: Path, qwen3: Path):
    """Constant scores leave only the KL term; it brings a policy that was led astray back to the base, which sampled mu."""
    base, astray = policy_of(qwen3), policy_of(qwen3, disturb=0.05)
    start = publish(tmp_path / "astray", 0, astray, canary(astray))
    batch = make_batch(base, groups=4, completion=(5, 9), scores=[1.0] * 4, learning_rate=1e-3)
    run_dir = write_run(tmp_path / "run", qwen3, loss="GRPO", kl_beta=1.0, warm_start=start)
    seal(run_dir, *(changed(batch, step=step) for step in range(10)))
    train(run_dir)
    lines = metrics(run_dir)
    assert lines[0]["loss"] > 0.01
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert lines[-1]["mismatch_mean"] < 0.8 * lines[0]["mismatch_mean"]


def test_it_begins_at_the_warm_start(tmp_path: Path, qwen3: Path):
    policy = policy_of(qwen3)
    seal(write_run(tmp_path / "first", qwen3), make_batch(policy))
    train(tmp_path / "first")
    start = adapter_path(tmp_path / "first", 1)
    seal(write_run(tmp_path / "second", qwen3, warm_start=start))
    assert train(tmp_path / "second") == 0
    assert published(tmp_path / "second") == {
        name.replace("v000001", "v000000"): content
        for name, content in published(tmp_path / "first").items()
        if "v000001" in name
    }


class TestRefusal:
    """A step that is not a number leaves nothing behind; with a good batch in its place the run goes on."""

    def refuses(self, run_dir: Path, good: Batch, bad: Batch, reason: str) -> None:
        seal(run_dir, good, bad)
        with pytest.raises(FailedPrecondition, match=reason):
            train(run_dir)
        assert [p.name for p in sorted((run_dir / "adapters").iterdir())] == ["v000000", "v000001"]
        assert [p.name for p in (run_dir / "checkpoints").iterdir()] == ["step-000001"]
        assert len(metrics(run_dir)) == 1
        seal(run_dir, changed(good, step=1))
        assert train(run_dir) == 2

    def test_an_update_that_overflows(self, tmp_path: Path, qwen3: Path):
        good = make_batch(policy_of(qwen3))
        bad = changed(good, step=1, learning_rate=1e25)
        reason = "Step 1 was refused: the new adapter's canary is nan. No adapter was published"
        self.refuses(write_run(tmp_path, qwen3), good, bad, reason)

    def test_a_recorded_log_probability_that_is_no_number(self, tmp_path: Path, qwen3: Path):
        good = make_batch(policy_of(qwen3))
        bad = [Sample(s.token_ids, s.sampled, [math.nan] * len(s.logprobs), s.rollout) for s in good.samples]
        reason = "Sample 0 of batch 1 has a recorded log-probability that is not finite"
        self.refuses(write_run(tmp_path, qwen3), good, Batch(changed(good, step=1).header, bad), reason)

    def test_a_forward_pass_that_is_no_number(self, tmp_path: Path):
        """One token's embedding is broken; only the second batch contains it."""
        base = write_base(tmp_path / "base", "llama", vocab_size=500)
        broken = next(
            token for token in range(500) if token not in {*canary_ids(500), *range(0, 500, 7)} and token % 7 != 3
        )
        tensors = load_file(base / "model.safetensors")
        tensors["model.embed_tokens.weight"][broken] = math.nan
        good = make_batch(policy_of(base))
        good = Batch(good.header, [replaced(sample, broken, 0) for sample in good.samples])
        save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
        first = good.samples[0]
        bad = Batch(changed(good, step=1).header, [replaced(first, first.token_ids[0], broken), *good.samples[1:]])
        run_dir = write_run(tmp_path / "run", base)
        self.refuses(run_dir, good, bad, "Step 1 was refused: the loss is nan and the gradient norm is nan")


def replaced(sample: Sample, token: int, other: int) -> Sample:
    ids = [other if i == token else i for i in sample.token_ids]
    return Sample(ids, sample.sampled, sample.logprobs, sample.rollout)


class TestEnding:
    """END and every batch trained, a final status, or the asked number of steps."""

    def test_it_trains_what_lies_before_the_end(self, tmp_path: Path, qwen3: Path):
        seal(write_run(tmp_path, qwen3), *(make_batch(policy_of(qwen3), step) for step in range(2)))
        assert train(tmp_path, until_step=1) == 1
        assert train(tmp_path) == 2
        assert train(tmp_path) == 2

    @pytest.mark.parametrize("state", ["COMPLETED", "FAILED", "CANCELLED", "EARLY_STOPPED"])
    def test_a_final_status_ends_it(self, tmp_path: Path, qwen3: Path, state: str):
        seal(write_run(tmp_path, qwen3), make_batch(policy_of(qwen3)), end=False)
        (tmp_path / "status.json").write_text(json.dumps({"state": state}))
        assert train(tmp_path) == 0

    def test_it_waits_for_batches(self, tmp_path: Path, qwen3: Path):
        run_dir = write_run(tmp_path, qwen3)
        (tmp_path / "status.json").write_text(json.dumps({"state": "RUNNING"}))
        policy = policy_of(qwen3)

        def orchestrate() -> None:
            for step in range(2):
                while not adapter_path(run_dir, step).exists():
                    time.sleep(0.005)
                seal(run_dir, make_batch(policy, step), end=step == 1)

        thread = threading.Thread(target=orchestrate)
        thread.start()
        assert train(run_dir) == 2
        thread.join()

    def test_a_second_learner_is_refused(self, tmp_path: Path, qwen3: Path):
        held = lock(write_run(tmp_path, qwen3) / "learner.lock")
        with pytest.raises(FailedPrecondition, match="learner.lock is held by process"):
            train(tmp_path)
        held.close()

    def test_a_misplaced_batch_is_refused(self, tmp_path: Path, qwen3: Path):
        make_batch(policy_of(qwen3), 3).write(batch_path(write_run(tmp_path, qwen3), 0))
        with pytest.raises(FailedPrecondition, match="says it is batch 3"):
            train(tmp_path)

    def test_an_option_without_effect_is_refused(self, tmp_path: Path, qwen3: Path):
        with pytest.raises(InvalidArgument, match="kl_beta"):
            train(write_run(tmp_path, qwen3, kl_beta=0.1))


def test_a_bandit_is_learned(tmp_path: Path, qwen3: Path):
    """One prompt, one sampled token, one token that pays: from a few percent to more than half (this base model's head allows 0.59)."""
    run_dir, policy, rng = write_run(tmp_path, qwen3), policy_of(qwen3), random.Random(0)
    prompt, shares = [4, 8, 15], []
    paid = int(next_logprobs(policy, prompt).sort(descending=True).indices[5])
    for step in range(20):
        if train(run_dir, until_step=step):
            policy.load_adapter_tensors(weights(run_dir, step), "here")
        shares.append(float(next_logprobs(policy, prompt)[paid].exp()))
        if shares[-1] > 0.5:
            break
        seal(run_dir, bandit_batch(policy, prompt, paid, step, rng), end=False)
    assert shares[0] < 0.05
    assert shares[-1] > 0.5


@torch.no_grad()
def next_logprobs(policy: Policy, prompt: list[int]) -> torch.Tensor:
    return torch.tensor([policy.score([*prompt, token])[-1] for token in range(policy.vocabulary)])


def bandit_batch(policy: Policy, prompt: list[int], paid: int, step: int, rng: random.Random) -> Batch:
    """64 draws from the policy itself."""
    logprobs = next_logprobs(policy, prompt).tolist()
    tokens = rng.choices(range(policy.vocabulary), weights=[math.exp(v) for v in logprobs], k=64)
    rollouts = [
        BatchRollout(rollout_id=f"{step}-{k}", row_index=0, group=0, score=float(token == paid), version=step)
        for k, token in enumerate(tokens)
    ]
    samples = [Sample([*prompt, t], [0, 0, 0, 1], [0, 0, 0, logprobs[t]], k) for k, t in enumerate(tokens)]
    header = BatchHeader(
        step=step, epoch=0, temperature=1.0, learning_rate=1e-2, evaluator_version="1", rollouts=rollouts
    )
    return Batch(header, samples)
