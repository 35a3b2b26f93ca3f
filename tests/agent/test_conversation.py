"""What a message does to a session's document, gate by gate."""

from __future__ import annotations

import pytest
from tunesmith.agent.conversation import begin, respond
from tunesmith.agent.document import (
    CandidateResult,
    Document,
    Estimate,
    EventKind,
    Gate,
    GateKind,
    Question,
    Range,
    Score,
    State,
)
from tunesmith.agent.inspection import Inspection
from tunesmith.agent.plan import Candidate, Plan
from tunesmith.agent.questions import open_questions
from tunesmith.agent.reading import BaseModelName, Names
from tunesmith.agent.rows import RowFormat
from tunesmith.errors import FailedPrecondition, InvalidArgument

MODEL = "accounts/tunesmith/models/tiny-math-v1"
NAMES = Names(
    "acme",
    [
        BaseModelName(MODEL, "", "Tiny Math v1", 512),
        BaseModelName("accounts/fireworks/models/qwen3-8b", "Qwen/Qwen3-8B", "Qwen3-8B", here=False),
    ],
    datasets=["accounts/acme/datasets/support"],
    evaluators=["accounts/acme/evaluators/strict"],
)
PLAN = Plan(dataset="support", base_models=[MODEL], epochs=3)


def at(kind: GateKind, *questions: Question, **fields: object) -> Document:
    gate = Gate(id=1, kind=kind, text="What now?", questions=list(questions))
    return Document.model_validate({"plan": PLAN.model_dump(), **fields, "gate": gate.model_dump()})


def swept() -> Document:
    one = Candidate(base_model=MODEL, lora_rank=8, learning_rate=1e-3)
    score = Score(mean=1.5, low=1.4, high=1.6, rows=100)
    results = [
        CandidateResult(number=0, loss=score),
        CandidateResult(number=1, candidate=one, loss=score),
        CandidateResult(number=2, candidate=one, failed="out of memory"),
    ]
    fields = {"candidates": [result.model_dump() for result in results], "winner": 1}
    return at(GateKind.PROMOTION, **fields, approved_plan=PLAN.model_dump())


def test_an_instruction_becomes_a_plan_and_is_restated() -> None:
    turn = begin("Run SFT on support with tiny-math-v1, 2 epochs, and make it purple.", None, NAMES)
    assert (turn.document.plan.dataset, turn.document.plan.epochs) == ("support", 2)
    assert turn.document.plan.base_models == [MODEL]
    assert len(turn.document.understood) == 4
    assert [question.field for question in turn.document.unclear] == ["unclear"]
    assert "purple" in turn.document.unclear[0].text
    assert turn.events[0].kind is EventKind.USER_MESSAGE


def test_an_instruction_revises_the_plan_that_comes_with_it() -> None:
    turn = begin("Use 5 epochs.", PLAN, NAMES)
    assert (turn.document.plan.epochs, turn.document.plan.dataset) == (5, "support")


def test_a_document_of_an_earlier_version_is_read() -> None:
    assert Document.model_validate({**at(GateKind.PLAN).dump(), "fieldThatIsGone": 0}) == at(GateKind.PLAN)


def test_words_said_again_and_understood_are_asked_about_no_more() -> None:
    text = "I did not understand 'support'. Say it in other words, or `ignore that`."
    open_now = [Question(field="dataset", text="Which dataset?"), Question(field="unclear", text=text)]
    document = at(GateKind.QUESTION, *open_now, unclear=[open_now[1].model_dump()], plan={})
    assert respond(document, State.WAITING, "use the dataset support", NAMES).document.unclear == []
    assert respond(document, State.WAITING, "use the dataset faq-2", NAMES).document.unclear == [open_now[1]]
    again = respond(document, State.WAITING, "dataset faq-2, support!", NAMES).document.unclear
    assert len(again) == 1


def test_only_what_holds_still_is_restated() -> None:
    document = begin(
        "SFT on support with tiny-math-v1, 2 epochs, ranks 8 and 16, validation loss.", None, NAMES
    ).document
    for words in ("use 3 epochs", "rank 4", "full parameters instead", "Use evaluator strict."):
        document = respond(document, State.RUNNING, words, NAMES).document
    assert document.understood == [
        "Method: supervised fine-tuning (SFT).",
        "Dataset: support.",
        f"Base model: {MODEL}.",
        "Epochs of each candidate: 3.",
        "All parameters are trained (no LoRA).",
        "Candidates are compared by your evaluator, strict.",
    ]


def test_a_question_in_an_instruction_is_answered_at_once() -> None:
    turn = begin("Which base models do you support for SFT?", None, NAMES)
    answers = [said.text for said in turn.events if said.kind is EventKind.ANSWER]
    assert len(answers) == 1
    assert "tiny-math-v1 (context 512 tokens)" in answers[0]
    assert "qwen3-8b" in answers[0]


def test_nothing_at_all_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="instruction"):
        begin(" ", None, NAMES)
    with pytest.raises(InvalidArgument, match="empty"):
        respond(at(GateKind.PLAN), State.WAITING, " ", NAMES)


def test_an_approval_keeps_the_plan_as_it_was_approved() -> None:
    before = at(GateKind.PLAN)
    turn = respond(before, State.WAITING, "Approved, proceed.", NAMES)
    assert turn.wake
    assert turn.document.gate is not None
    assert (turn.document.gate.answered, turn.document.gate.answer) == (True, "Approved, proceed.")
    assert turn.document.approved_plan == PLAN
    assert before.approved_plan is None


def test_a_revision_leaves_the_gate_to_be_shown_anew() -> None:
    turn = respond(at(GateKind.PLAN), State.WAITING, "Approved, but use 2 epochs.", NAMES)
    assert turn.wake
    assert turn.document.plan.epochs == 2
    assert turn.document.approved_plan is None
    assert turn.document.gate is not None
    assert not turn.document.gate.answered


@pytest.mark.parametrize("words", ["do not approve", "hm", "Approved if it is purple", "What does it cost?"])
def test_what_is_neither_approval_nor_change_leaves_everything(words: str) -> None:
    before = at(GateKind.PLAN)
    turn = respond(before, State.WAITING, words, NAMES)
    assert not turn.wake
    assert turn.document == before
    assert [said.kind for said in turn.events] == [EventKind.USER_MESSAGE, EventKind.ANSWER]


def test_a_rejected_plan_ends_the_session() -> None:
    turn = respond(at(GateKind.PLAN), State.WAITING, "stop here", NAMES)
    assert turn.end
    assert "nothing was trained" in turn.document.message


@pytest.mark.parametrize(
    ("document", "state", "words", "says"),
    [
        (Document(), State.RUNNING, "Approved, proceed.", "no plan to approve yet"),
        (at(GateKind.PLAN), State.RUNNING, "yes", "no plan to approve yet"),
        (at(GateKind.QUESTION), State.WAITING, "yes", "questions are open"),
        (Document(approved_plan=PLAN), State.RUNNING, "Approved.", "approved already"),
        (Document(approved_plan=PLAN), State.RUNNING, "use 2 epochs", "cannot be changed"),
        (Document(approved_plan=PLAN), State.RUNNING, "stop", "session cancel"),
        (swept(), State.WAITING, "use 2 epochs", "cannot be changed"),
        (swept(), State.WAITING, "use candidate 2", "out of memory"),
        (swept(), State.WAITING, "use candidate 9", "no candidate 9"),
        (at(GateKind.PLAN), State.WAITING, "use candidate 1", "promotion gate"),
        (Document(), State.SUCCEEDED, "yes", "has ended"),
        (Document(), State.CANCELLED, "What is the status?", "has ended"),
    ],
)
def test_right_words_at_the_wrong_moment(document: Document, state: State, words: str, says: str) -> None:
    with pytest.raises(FailedPrecondition, match=says):
        respond(document, state, words, NAMES)


def test_the_promotion_gate() -> None:
    proposed = respond(swept(), State.WAITING, "Proceed with the winning config.", NAMES).document.gate
    chosen = respond(swept(), State.WAITING, "use candidate 1", NAMES).document.gate
    ended = respond(swept(), State.WAITING, "stop here", NAMES).document.gate
    assert [gate.choice for gate in (proposed, chosen, ended) if gate and gate.answered] == [None, 1, 0]
    without = swept().model_copy(update={"winner": 0})
    with pytest.raises(FailedPrecondition, match="no winner"):
        respond(without, State.WAITING, "proceed", NAMES)


def test_a_pending_question_is_answered_in_words() -> None:
    questions = [Question(field="dataset", text="Which?"), Question(field="epochs", text="3 or 5?", choices=["3", "5"])]
    document = at(GateKind.QUESTION, *questions, unclear=[questions[1].model_dump()])
    turn = respond(document, State.WAITING, "Take the dataset faq-2, and 5 epochs.", NAMES)
    assert turn.wake
    assert (turn.document.plan.dataset, turn.document.plan.epochs) == ("faq-2", 5)
    assert turn.document.unclear == []
    assert turn.document.gate is not None
    assert turn.document.gate.answered


def test_words_that_were_not_understood_stay_until_they_are_reworded_or_dismissed() -> None:
    unclear = Question(field="unclear", text="I did not understand 'purple'.")
    data = Question(field="dataset", text="Which?")
    document = at(GateKind.QUESTION, unclear, data, unclear=[unclear.model_dump()])
    assert respond(document, State.WAITING, "dataset faq-2", NAMES).document.unclear == [unclear]
    assert respond(document, State.WAITING, "ignore that", NAMES).document.unclear == []
    assert respond(document, State.WAITING, "2 epochs", NAMES).document.unclear == []


def test_a_plan_takes_the_place_of_the_one_before() -> None:
    turn = respond(at(GateKind.PLAN, unclear=[]), State.WAITING, Plan(dataset="other"), NAMES)
    assert turn.document.plan == Plan(dataset="other")
    with pytest.raises(FailedPrecondition, match="replaced"):
        respond(Document(approved_plan=PLAN), State.RUNNING, PLAN, NAMES)


def test_questions_are_answered_from_the_document() -> None:
    spent = Range(low=60, high=120)
    document = at(GateKind.PLAN)
    document.estimate = Estimate(
        training_seconds=spent, inference_seconds=spent, total_seconds=spent, training_tokens=1, inference_tokens=1
    )
    document.message = "Waiting for the plan to be approved."

    def ask(words: str) -> str:
        return respond(document, State.WAITING, words, NAMES, phase="plan").events[-1].text

    assert "1 min to 2 min" in ask("What does it cost?")
    assert "in phase plan" in ask("What is the status?")
    assert "dataset: support" in ask("What is the plan?")
    assert "rank 8 at learning rate 0.00015" in ask("What is the default grid?")
    assert "min(5, ceil(2500 / rows))" in ask("How many epochs by default?")
    assert (
        "1.5000 [1.4000, 1.6000]" in respond(swept(), State.WAITING, "Which candidate is best?", NAMES).events[-1].text
    )


def test_what_was_found_and_written_is_shown() -> None:
    document = at(GateKind.PLAN)

    def ask(words: str) -> str:
        return respond(document, State.WAITING, words, NAMES).events[-1].text

    assert "not looked at yet" in ask("What did you find in the data?")
    assert "validation loss" in ask("Show me the evaluator.")
    document.inspection = {"support": Inspection(rows=7, format=RowFormat.CHAT).model_dump(mode="json")}
    document.generated = {"evaluator.py": "def f(): ...\n", "verdict": "ok", "validation": "It is validated."}
    assert ask("What did you find in the data?").startswith("support: 7 rows")
    assert ask("Show me the evaluator.") == "evaluator.py:\n\ndef f(): ...\n\nIt is validated."


def test_a_change_at_the_promotion_gate_says_what_can_be_answered() -> None:
    with pytest.raises(FailedPrecondition, match="use candidate N"):
        respond(swept(), State.WAITING, "use the one with rank 16", NAMES)


def test_a_base_model_on_the_scoreboard_is_no_candidate() -> None:
    document = swept()
    document.candidates[0].candidate = Candidate(base_model=MODEL, lora_rank=0, learning_rate=0)
    shown = respond(document, State.WAITING, "Show the scoreboard.", NAMES).events[-1].text
    assert shown.startswith("base model tiny-math-v1: loss 1.5")


def test_gaps_are_asked_about_and_defaults_are_not() -> None:
    fields = [question.field for question in open_questions(Plan(), Document(), NAMES)]
    assert fields == ["dataset", "base_models"]
    assert open_questions(PLAN, Document(), NAMES) == []


@pytest.mark.parametrize(
    ("plan", "field", "says"),
    [
        ({"dataset": "suport"}, "dataset", "Did you mean support"),
        ({"evaluationDataset": "nope"}, "evaluation_dataset", "no evaluation dataset nope"),
        ({"evaluationDataset": "support"}, "evaluation_dataset", "both to train on"),
        ({"baseModels": ["accounts/fireworks/models/qwen3-9b"]}, "base_models", "no base model"),
        ({"evaluation": {"path": "evaluator"}}, "evaluation.evaluator", "Which evaluator"),
        ({"evaluation": {"path": "evaluator", "evaluator": "strikt"}}, "evaluation.evaluator", "Did you mean strict"),
        ({"strongModel": MODEL}, "weak_model", "weak"),
    ],
)
def test_names_that_are_not_there_are_asked_about(plan: dict[str, object], field: str, says: str) -> None:
    whole = Plan.model_validate({**PLAN.model_dump(by_alias=True), **plan})
    questions = open_questions(whole, Document(), NAMES)
    assert [question.field for question in questions] == [field]
    assert says in questions[0].text
