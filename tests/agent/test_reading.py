"""The reader on the documented examples and their neighbours: units, negations, word order, revisions, questions, approvals."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tunesmith.agent.document import Gate, GateKind, Question
from tunesmith.agent.plan import Plan
from tunesmith.agent.reading import BaseModelName, Intent, Names, Reading, Topic, read_instruction, read_message
from tunesmith.agent.reading.words import tokens
from tunesmith.catalog.known import KNOWN

NAMES = Names(
    "acme",
    [BaseModelName(known.name, known.repo or "", known.display_name) for known in KNOWN.values()],
    datasets=["accounts/acme/datasets/support", "accounts/acme/datasets/faq-2"],
    evaluators=["accounts/acme/evaluators/strict"],
)
QWEN8, QWEN32 = "accounts/fireworks/models/qwen3-8b", "accounts/fireworks/models/qwen3-32b"
PLAN = Plan.model_validate(
    {
        "dataset": "support",
        "baseModels": [QWEN8, QWEN32],
        "grid": {"loraRanks": [8, 16], "learningRates": [1e-4, 5e-5]},
        "epochs": 3,
    }
)


def fields(reading: Reading) -> dict[str, Any]:
    plan = reading.apply(Plan()).model_dump(mode="json", exclude_defaults=True)
    return {name: plan.get(name) for name in reading.changes}


def said(text: str) -> dict[str, Any]:
    reading = read_instruction(text, NAMES)
    assert not reading.asks, [question.text for question in (*reading.unclear, *reading.contradictions)]
    assert len(reading.understood) >= len(reading.changes) > 0
    return fields(reading)


def answer(text: str, kind: GateKind | None = GateKind.PLAN, *questions: Question, plan: Plan = PLAN) -> Reading:
    gate = Gate(id=1, kind=kind, text="?", questions=list(questions)) if kind else None
    return read_message(text, NAMES, gate, plan)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Run supervised fine-tuning on accounts/myacct/datasets/customer-support-conv. Use Qwen3 32B as the base model. "
            "Use validation loss for evaluation.",
            {
                "method": "sft",
                "dataset": "accounts/myacct/datasets/customer-support-conv",
                "base_models": [QWEN32],
                "evaluation": {"path": "validation_loss"},
            },
        ),
        (
            "Run SFT on accounts/myacct/datasets/mydata across qwen3-8b and qwen3-32b with learning rates 1e-4 and 5e-5, "
            "LoRA ranks 16 and 32, and 3 epochs.",
            {
                "method": "sft",
                "dataset": "accounts/myacct/datasets/mydata",
                "base_models": [QWEN8, QWEN32],
                "grid": {"lora_ranks": [16, 32], "learning_rates": [1e-4, 5e-5]},
                "epochs": 3.0,
            },
        ),
        (
            "Use LoRA ranks 8, 16, 32 with learning rates 1e-4 and 5e-5.",
            {"grid": {"lora_ranks": [8, 16, 32], "learning_rates": [1e-4, 5e-5]}},
        ),
        ("Train each candidate for 3 epochs.", {"epochs": 3.0}),
        ("Use 500 samples for HP tuning.", {"subsample": 500}),
        ("Run up to 10 training jobs in parallel.", {"parallel": 10}),
        ("Skip the full-data final run.", {"final_run": False}),
        (
            "Use accounts/myacct/datasets/holdout as the eval dataset.",
            {"evaluation_dataset": "accounts/myacct/datasets/holdout"},
        ),
        (
            "Use evaluator accounts/myacct/evaluators/my-eval.",
            {"evaluation": {"path": "evaluator", "evaluator": "accounts/myacct/evaluators/my-eval"}},
        ),
        ("Use my own evaluator", {"evaluation": {"path": "evaluator"}}),
        ("Generate an evaluator for me.", {"evaluation": {"path": "generated"}}),
        ("agent-generated evaluator", {"evaluation": {"path": "generated"}}),
        ("validation loss is fine", {"evaluation": {"path": "validation_loss"}}),
    ],
)
def test_the_documented_words(text: str, expected: dict[str, Any]) -> None:
    assert said(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "rank 8 with 1e-4 and rank 16 with 5e\u22125",
            {"grid": {"points": [{"lora_rank": 8, "learning_rate": 1e-4}, {"lora_rank": 16, "learning_rate": 5e-5}]}},
        ),
        (
            "(8, 1.5e-4), (16, 1e-4)",
            {"grid": {"points": [{"lora_rank": 8, "learning_rate": 1.5e-4}, {"lora_rank": 16, "learning_rate": 1e-4}]}},
        ),
        ("ranks 8 through 32", {"grid": {"lora_ranks": [8, 16, 32]}}),
        ("a learning rate of 1.5 \u00d7 10^-4", {"grid": {"learning_rates": [1.5e-4]}}),
        ("learning rate 10\u207b\u2074", {"grid": {"learning_rates": [1e-4]}}),
        ("two epochs", {"epochs": 2.0}),
        ("a 3-epoch run", {"epochs": 3.0}),
        ("one and a half epochs", {"epochs": 1.5}),
        ("subsample to 1k rows", {"subsample": 1000}),
        ("1,500 rows for the sweep", {"subsample": 1500}),
        ("no subsampling", {"subsample": 0}),
        ("batch size 16", {"batch_size_samples": 16}),
        ("a context length of 4096 tokens", {"max_context_length": 4096}),
        ("seed 7", {"seed": 7}),
        ("one job at a time", {"parallel": 1}),
        ("don't deploy", {"deploy": False}),
        ("no deployment and no final run", {"deploy": False, "final_run": False}),
        ("do not deploy the model or do the final run", {"deploy": False, "final_run": False}),
        ("full-parameter training", {"grid": {"lora_ranks": [0]}}),
        ("DPO with betas 0.1 and 0.3", {"method": "dpo", "grid": {"betas": [0.1, 0.3]}}),
        ("ORPO, not DPO", {"method": "orpo"}),
        ("classification", {"method": "classification"}),
        ("Run it without asking me for approval.", {"approvals": {"plan": False}}),
        ("name the final model support-v2", {"output_model": "support-v2"}),
        ("deploy it as support-prod", {"deployment": "support-prod", "deploy": True}),
        ("both Qwen3 8B and 32B", {"base_models": [QWEN8, QWEN32]}),
        ("Qwen/Qwen3-8B", {"base_models": [QWEN8]}),
        ("train on the support dataset", {"dataset": "support"}),
        ("on faq-2", {"dataset": "faq-2"}),
        ("do not generate an evaluator, use validation loss", {"evaluation": {"path": "validation_loss"}}),
        ("3 epochs, not 5", {"epochs": 3.0}),
        ("learning rates 5e-3 and 0, ranks 0 and 8", {"grid": {"learning_rates": [5e-3, 0], "lora_ranks": [0, 8]}}),
        ("deploy it as faq-2", {"deployment": "faq-2", "deploy": True}),
        ("the strong model is qwen3-32b and the weak model is qwen3-8b", {"strong_model": QWEN32, "weak_model": QWEN8}),
    ],
)
def test_other_words_and_units(text: str, expected: dict[str, Any]) -> None:
    assert said(text) == expected


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("3 epochs, but 5 epochs", "epochs"),
        ("use 500", "unclear"),
        ("use 500 rows", "subsample"),
        ("a context of 4k", "max_context_length"),
        ("learning rates from 1e-5 to 1e-4", "grid.learning_rates"),
        ("do RFT with GRPO", "method"),
        ("train Mistral 7B", "base_models"),
        ("train Qwen3", "base_models"),
        ("train the 8B", "base_models"),
        ("use validation loss and generate an evaluator", "evaluation.path"),
        ("deploy it, but do not deploy it", "deploy"),
        ("batch size of 32k tokens", "batch_size_samples"),
        ("use early stopping", "unclear"),
        ("learning rates 1e-3 and 5e-3, 0 subsampling", "unclear"),
        ("spend less than $20", "unclear"),
        ("delete accounts/acme/datasets/support", "unclear"),
        ("1 to 3 epochs", "epochs"),
        ("make the answers polite", "unclear"),
    ],
)
def test_what_is_not_certain_is_asked_and_not_read(text: str, field: str) -> None:
    reading = read_instruction(text, NAMES)
    asked = {question.field for question in (*reading.unclear, *reading.contradictions)}
    assert field in asked
    assert field.split(".")[0] not in reading.changes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("use 2 epochs instead", {"epochs": 2.0}),
        ("Approved, but use 2 epochs", {"epochs": 2.0}),
        ("no, use 2 epochs", {"epochs": 2.0}),
        ("Can you use 2 epochs instead?", {"epochs": 2.0}),
        ("double the epochs", {"epochs": 6.0}),
        ("drop the 5e-5", {"grid": {"lora_ranks": [8, 16], "learning_rates": [1e-4]}}),
        ("add rank 4", {"grid": {"lora_ranks": [8, 16, 4], "learning_rates": [1e-4, 5e-5]}}),
        ("use rank 4 instead of 8", {"grid": {"lora_ranks": [16, 4], "learning_rates": [1e-4, 5e-5]}}),
        ("replace 5e-5 with 2e-5", {"grid": {"lora_ranks": [8, 16], "learning_rates": [1e-4, 2e-5]}}),
        ("only qwen3-8b", {"base_models": [QWEN8]}),
        ("remove qwen3-32b", {"base_models": [QWEN8]}),
        ("lower the epochs to 1", {"epochs": 1.0}),
        ("Proceed, but don't deploy.", {"deploy": False}),
        ("also try rank 4", {"grid": {"lora_ranks": [8, 16, 4], "learning_rates": [1e-4, 5e-5]}}),
        ("don't use rank 16", {"grid": {"lora_ranks": [8], "learning_rates": [1e-4, 5e-5]}}),
        ("never use 5e-5", {"grid": {"lora_ranks": [8, 16], "learning_rates": [1e-4]}}),
        ("everything but rank 16", {"grid": {"lora_ranks": [8], "learning_rates": [1e-4, 5e-5]}}),
    ],
)
def test_revisions(text: str, expected: dict[str, Any]) -> None:
    reading = answer(text)
    assert (reading.intent, reading.asks) == (Intent.REVISE, False)
    assert fields(reading) == expected


def test_a_plain_word_is_a_dataset_where_the_account_has_it() -> None:
    for text in ("train on the dataset support", "SFT with my data support", "use support instead"):
        assert said(text)["dataset"] == "support"
    assert read_instruction("train on the dataset faq", NAMES).asks


@pytest.mark.parametrize("text", ["use -2 epochs", "epochs=-1", "rank -8", "lr -1e-4"])
def test_a_number_below_zero_is_asked_about(text: str) -> None:
    reading = answer(text)
    assert (reading.changes, reading.asks) == ({}, True)


def test_a_value_is_dropped_from_the_default_grid() -> None:
    reading = answer("drop the 5e-5", plan=Plan())
    assert fields(reading) == {
        "grid": {"points": [{"lora_rank": 8, "learning_rate": 1.5e-4}, {"lora_rank": 16, "learning_rate": 1e-4}]}
    }
    assert answer("add rank 4", plan=Plan()).contradictions  # with which learning rate?


@pytest.mark.parametrize(
    "text",
    [
        "Approved, proceed.",
        "yes",
        "Go ahead!",
        "looks good",
        "LGTM",
        "I approve the plan and its cost.",
        "Sure, please start.",
        "do it",
        "y",
        "\U0001f44d\U0001f3fd",
    ],
)
def test_approvals(text: str) -> None:
    assert answer(text).intent is Intent.APPROVE


@pytest.mark.parametrize(
    "text",
    [
        "do not approve", "don't proceed", "not yet", "no", "never", "Approved?", "Should I approve?", "approved if it costs less than $5",
        "Proceed unless it takes more than 2 hours", "not approved", "I would approve it", "maybe", "hold on", "I disapprove",
        "approved, except the epochs", "yes, that is my dataset", "approve only qwen3-8b", "ok, let me think", "Approved, but use 2 epochs",
        "is it approved", "go ahead after lunch", "proceed with 2 epochs", "wait, yes, no",
    ],
)  # fmt: skip
def test_what_is_no_approval(text: str) -> None:
    assert answer(text).intent is not Intent.APPROVE


@pytest.mark.parametrize(
    ("text", "intent", "number"),
    [
        ("Proceed with the winning config.", Intent.APPROVE, None),
        ("use the best one", Intent.APPROVE, None),
        ("use candidate 2", Intent.CHOOSE, 2),
        ("go with the second one", Intent.CHOOSE, 2),
        ("use candidate two", Intent.CHOOSE, 2),
        ("stop here", Intent.STOP, None),
        ("none of them", Intent.STOP, None),
        ("don't use candidate 2", Intent.UNCLEAR, None),
        ("candidate 2 or 3", Intent.UNCLEAR, None),
        ("don't proceed", Intent.UNCLEAR, None),
        ("Why did candidate 2 win?", Intent.QUESTION, None),
    ],
)
def test_the_promotion_gate(text: str, intent: Intent, number: int | None) -> None:
    reading = answer(text, GateKind.PROMOTION)
    assert (reading.intent, reading.candidate) == (intent, number)


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("Which base models do you support for SFT?", Topic.BASE_MODELS),
        ("What does it cost?", Topic.COST),
        ("How much would 5 epochs cost?", Topic.COST),
        ("how long will this take", Topic.COST),
        ("What is the status?", Topic.STATUS),
        ("What is the default grid?", Topic.GRID),
        ("how many epochs do you use by default?", Topic.EPOCHS),
        ("Do you do RFT?", Topic.METHODS),
        ("which datasets do I have?", Topic.DATASETS),
        ("Is it purple?", Topic.HELP),
    ],
)
def test_questions_change_nothing(text: str, topic: Topic) -> None:
    reading = answer(text)
    assert (reading.intent, reading.topics, reading.changes) == (Intent.QUESTION, (topic,), {})


def test_short_answers_are_read_as_what_was_asked() -> None:
    epochs = Question(field="epochs", text="3 or 5?", choices=["3", "5"])
    data = Question(field="dataset", text="Which?", choices=["support", "faq-2"])
    assert fields(answer("5", GateKind.QUESTION, epochs)) == {"epochs": 5.0}
    assert fields(answer("orders-7", GateKind.QUESTION, data)) == {"dataset": "orders-7"}
    assert fields(answer("the first one", GateKind.QUESTION, data)) == {"dataset": "support"}
    assert fields(answer("support, and 5", GateKind.QUESTION, data, epochs)) == {"dataset": "support", "epochs": 5.0}
    assert answer("5", GateKind.PLAN).changes == {}


def test_ignore_that_dismisses_what_was_unclear() -> None:
    assert answer("ignore that", GateKind.QUESTION, Question(field="unclear", text="?")).dismissed


@given(st.text(max_size=80))
def test_any_text_is_read_without_an_error(text: str) -> None:
    read_instruction(text, NAMES)
    for kind in (None, *GateKind):
        reading = answer(text, kind)
        assert reading.intent is not Intent.START


@given(
    st.lists(
        st.sampled_from(
            [
                "yes",
                "no",
                "approved",
                "not",
                "do",
                "proceed",
                "but",
                "epochs",
                "2",
                "use",
                "rank",
                "8",
                "if",
                "?",
                ",",
                "5e-5",
                "drop",
                "deploy",
                "don't",
            ]
        ),
        max_size=7,
    )
)
def test_a_negation_never_approves(words: list[str]) -> None:
    if {"no", "not", "don't", "if", "but", "?"} & set(words):
        assert answer(" ".join(words)).intent is not Intent.APPROVE


@given(st.floats(1e-7, 0.5))
def test_numbers_are_what_they_say(value: float) -> None:
    for text in (repr(value), f"{value:.17e}", f"{value:.17e}".replace("-", "\u2212")):
        assert [token.value for token in tokens(text)] == [value]


@pytest.mark.parametrize("text", ["2", "2.", "candidate 2"])
def test_a_number_alone_chooses_where_candidates_are_shown_and_nowhere_else(text: str) -> None:
    chosen = answer(text, GateKind.PROMOTION)
    assert (chosen.intent, chosen.candidate) == (Intent.CHOOSE, 2)
    assert answer("2", GateKind.PLAN).intent is Intent.UNCLEAR
