"""SFT and DPO jobs as their users run them: rows up, a job followed to its end, a model that was changed by it, deployed and removed."""

from __future__ import annotations

import json
import urllib.error

import pytest

from tests.loop import projects, tuning
from tests.loop.projects import BASE
from tests.loop.tuning import FORM, create, get, metrics, run, says, sha256, upload

QUICK = ("--batch-size-samples", "4", "--learning-rate", "0.005")


@pytest.fixture(scope="module")
def rows(platform, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("rows")
    upload(platform, folder, "story-chats", tuning.chats())
    upload(platform, folder, "story-pairs", tuning.pairs())


@pytest.fixture(scope="module")
def adapter(platform, rows) -> str:
    """A LoRA that answers in the trained form."""
    flags = (*QUICK, "--eval-auto-carveout", "--learning-rate-scheduler", "linear", "--epochs", "3")
    said = create(platform, "sftj", "story-lora", "story-chats", *flags)
    assert "COMPLETED: accounts/local/models/story-lora is the model after step" in said
    return "story-lora"


def refusal(platform, model: str) -> tuple[int, str]:
    with pytest.raises(urllib.error.HTTPError) as refused:
        platform.chat(model, "How many?", max_tokens=4)
    with refused.value as error:
        return error.code, json.loads(error.read())["error"]["message"]


def test_a_model_answers_as_it_was_taught(platform, adapter, tmp_path):
    assert FORM.fullmatch(says(platform, f"accounts/local/models/{adapter}"))
    assert not FORM.search(says(platform, BASE)), "its base does not"

    run(platform, "sftj", "metrics", adapter, "--output", tmp_path / "metrics.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    losses = [line["eval_loss"] for line in lines if "eval_loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 31))
    assert losses[0] > 2 * min(losses)
    assert steps[0]["learning_rate"] == 0.005
    assert steps[0]["learning_rate"] > steps[-1]["learning_rate"] > 0
    assert all({"grad_norm", "tokens_per_second"} <= set(line) for line in steps)
    assert all(line["eval_bits_per_byte"] > 0 for line in lines if "eval_loss" in line)
    assert get(platform, "sftj", adapter)["run"]["best_eval_loss"] == min(losses[1:])

    run(platform, "sftj", "render-samples", adapter, "--output", tmp_path / "samples.jsonl")
    sample = json.loads((tmp_path / "samples.jsonl").read_text().splitlines()[0])
    trained = [token for token, weight in zip(sample["decoded_tokens"], sample["token_weights"], strict=True) if weight]
    assert FORM.fullmatch("".join(trained).removesuffix("<|im_end|>")), "the answer and its end, nothing of the prompt"


def test_a_deployment_has_a_name_of_its_own(platform, adapter):
    name = "accounts/local/deployments/story"
    assert "READY" in run(platform, "deployment", "create", adapter, "--deployment-id", "story", "--wait")
    answer = says(platform, f"accounts/local/models/{adapter}")
    assert says(platform, name) == answer
    assert says(platform, f"accounts/local/models/{adapter}#{name}") == answer
    assert "is served by" in run(platform, "model", "delete", adapter, status=1)

    run(platform, "deployment", "scale", "story", "0")
    status, message = refusal(platform, name)
    assert (status, "tunesmith deployment scale story 1" in message) == (503, True)
    assert says(platform, f"accounts/local/models/{adapter}") == answer, "the model itself is still there"
    run(platform, "deployment", "scale", "story", "1", "--wait")
    assert says(platform, name) == answer
    run(platform, "deployment", "delete", "story")
    assert refusal(platform, name)[0] == 404


def test_an_adapter_can_be_continued(platform, adapter):
    create(
        platform,
        "sftj",
        "story-warm",
        "story-chats",
        "--warm-start-from",
        adapter,
        "--epochs",
        "0.5",
        "--batch-size-samples",
        "4",
    )
    first = next(line for line in metrics(platform, "sftj", "story-warm") if "loss" in line)
    assert first["loss"] < metrics(platform, "sftj", adapter)[1]["loss"] / 2, "it begins where the other ended"
    assert get(platform, "sftj", "story-warm")["loraRank"] == 16
    assert FORM.fullmatch(says(platform, "accounts/local/models/story-warm"))


def test_reinforcement_goes_on_from_it(platform, adapter, short_tmp):
    project = projects.write(short_tmp / "rft", dataset=projects.rows(10))
    flags = ("--max-output-tokens", "16", "--n", "4", "--chunk-size", "10", "--output-model", "story-rft")
    start = ("ep", "create", "rft", "--yes", "--skip-validation", "--warm-start-from", adapter)
    ended = platform.run(*start, *flags, "--wait", cwd=project)
    assert ended.returncode == 0, ended.stdout
    job = platform.get("/v1/accounts/local/models/story-rft")["fineTuningJob"]
    first = platform.data_dir / "runs" / job.rsplit("/", 1)[-1] / "adapters" / "v000000" / "canary.json"
    assert json.loads(first.read_text())["sha256"] == sha256(platform, adapter), "its version 0 is what SFT made"
    assert sha256(platform, "story-rft") != sha256(platform, adapter)


def test_all_parameters_make_a_model_that_is_a_base(platform, rows):
    full = "accounts/local/models/story-full"
    flags = ("--batch-size-samples", "4", "--lora-rank", "0", "--learning-rate", "0.001", "--epochs", "2")
    create(platform, "sftj", "story-full", "story-chats", *flags)
    assert "full model" in run(platform, "model", "get", "story-full")
    assert FORM.fullmatch(says(platform, full))
    served = {
        process["name"] for process in json.loads((platform.data_dir / "supervisor.json").read_text())["processes"]
    }
    assert f"engine {full}" in served, "an engine of its own"

    create(platform, "sftj", "story-on-full", "story-chats", "--base-model", full, "--epochs", "0.5")
    assert FORM.fullmatch(says(platform, "accounts/local/models/story-on-full"))
    assert "Delete that one first" in run(platform, "model", "delete", "story-full", status=1)


def test_dpo_prefers_what_was_preferred(platform, rows):
    create(platform, "dpoj", "story-dpo", "story-pairs", "--eval-auto-carveout", "--beta", "0.2")
    lines = metrics(platform, "dpoj", "story-dpo")
    evaluations = [line for line in lines if "eval_loss" in line]
    assert evaluations[0]["eval_margin"] == 0, "the model is its own reference before the first step"
    assert evaluations[-1]["eval_margin"] > 0.5
    assert evaluations[-1]["eval_loss"] < evaluations[0]["eval_loss"]
    assert get(platform, "dpoj", "story-dpo")["lossConfig"] == {"method": "DPO", "dpo": {"beta": 0.2}}
    assert says(platform, "accounts/local/models/story-dpo")


def test_orpo_learns_the_preferred_answers(platform, rows):
    flags = ("--loss-method", "ORPO", "--orpo-lambda", "0.2", "--learning-rate", "0.005", "--epochs", "2")
    create(platform, "dpoj", "story-orpo", "story-pairs", *flags)
    steps = [line for line in metrics(platform, "dpoj", "story-orpo") if "loss" in line]
    assert steps[-1]["loss"] < steps[0]["loss"] / 2
    assert FORM.fullmatch(says(platform, "accounts/local/models/story-orpo"))
