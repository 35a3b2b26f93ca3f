"""The evaluator of the SVG example: which judge, what it is shown, and what is the drawing's fault. The vision judge is a local server."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from eval_protocol.models import EvaluateResult, EvaluationRow

from tests.examples.svg import bench_rows, evaluator_module, pixels

evaluation = evaluator_module("evaluation")
extract = evaluator_module("extract")
render = evaluator_module("render")
vision = evaluator_module("vision")
RED = '<svg viewBox="0 0 10 10" width="10" height="10"><rect width="10" height="10" fill="red"/></svg>'
TOP_LEFT = '<svg viewBox="0 0 100 100"><circle cx="18" cy="18" r="16" fill="red"/></svg>'
Answer = Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]


class FakeJudge:
    """An OpenAI-compatible server that answers what the test says, and keeps what it was asked."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.answer: Answer = lambda body: (200, completion(verdicts(range(1, requirements_in(body) + 1), True)))
        judge = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                judge.seen.append(body)
                judge.keys.append(self.headers["Authorization"])
                status, answer = (
                    judge.answer(body) if self.path == "/v1/chat/completions" else (404, {"error": self.path})
                )
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.send_header("retry-after-ms", "1")
                self.end_headers()
                with suppress(OSError):  # the evaluator gave up
                    self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def requirements_in(body: dict[str, Any]) -> int:
    text = body["messages"][1]["content"][0]["text"]
    return sum(line.split(".")[0].isdigit() for line in text.splitlines())


def verdicts(numbers: Any, fulfilled: bool) -> str:
    return json.dumps({"verdicts": [{"number": n, "seen": f"saw {n}", "fulfilled": fulfilled} for n in numbers]})


def completion(content: str | None, finish_reason: str = "stop", **message: Any) -> dict[str, Any]:
    choice = {
        "index": 0,
        "finish_reason": finish_reason,
        "message": {"role": "assistant", "content": content, **message},
    }
    return {"id": "c", "object": "chat.completion", "created": 0, "model": "judge", "choices": [choice]}


@pytest.fixture(autouse=True)
def no_judge(monkeypatch: pytest.MonkeyPatch):
    for name in (
        *("SVG_JUDGE_MODEL", "SVG_JUDGE_BASE_URL", "SVG_JUDGE_API_KEY", "SVG_JUDGE_SECONDS"),
        *("OPENAI_API_KEY", "SVG_RENDERER"),
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeJudge]:
    fake = FakeJudge()
    monkeypatch.setenv("SVG_JUDGE_MODEL", "eyes-1")
    monkeypatch.setenv("SVG_JUDGE_BASE_URL", fake.url)
    monkeypatch.setenv("SVG_JUDGE_API_KEY", "judge-key")
    yield fake
    fake.close()


def answered(answer: str | None, requirements: Any) -> EvaluationRow:
    messages = [{"role": "user", "content": "Draw."}, {"role": "assistant", "content": answer}]
    return EvaluationRow.model_validate(
        {"messages": messages, "input_metadata": {"dataset_info": {"requirements": requirements}}}
    )


async def score(answer: str | None, requirements: Any) -> EvaluateResult:
    return (await evaluation.svg_agent(answered(answer, requirements))).evaluation_result


@pytest.mark.parametrize(
    ("answer", "svg"),
    [
        (f"Here:\n```svg\n{RED}\n```\nDone.", RED),
        (f"```xml\r\n<?xml version='1.0'?>\r\n{RED}```", RED),
        (f"```\n{RED}\n```", RED),
        (f"```svg {RED}```", RED),
        (f"Sure! {RED} That is it.", RED),
        (f"```python\nprint(1)\n```\n```svg\n<svg/>\n```\nBetter:\n```svg\n{RED}\n```", RED),
        ("<svg><svg></svg></svg>", "<svg><svg></svg></svg>"),
        (f"I use the <svgfoo> tag. {RED}", RED),
    ],
)
def test_the_drawing_is_found_in_the_answer(answer: str, svg: str):
    assert extract.extract_svg(answer) == svg


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "no <svg>"),
        ("I cannot draw.", "no <svg>"),
        ("```svg\n<svg viewBox='0 0 1 1'><rect", "no </svg>"),
        ("</svg> <svg>", "no </svg>"),
    ],
)
async def test_an_answer_without_a_drawing_scores_nothing(answer: str, reason: str):
    result = await score(answer, ["exactly one shape"])
    assert (result.score, result.is_score_valid) == (0.0, True)
    assert reason in (result.reason or "")
    assert (await score(None, ["exactly one shape"])).score == 0.0


async def test_without_a_judge_model_geometry_decides():
    result = await score(TOP_LEFT, ["a large red circle in the top-left corner", "exactly one shape"])
    assert result.score == 1.0
    assert result.reason == "2 of 2 requirements fulfilled, by the geometric judge."
    assert result.metrics["requirement_1"].score == 1.0
    assert result.metrics["requirement_1"].data["parts"]["colour"] is True
    wrong = await score(TOP_LEFT, ["a large blue circle in the top-left corner", "exactly one shape"])
    assert 0 < wrong.score < 1
    assert wrong.metrics["requirement_1"].data["parts"]["colour"] is False


async def test_a_drawing_that_cannot_be_rendered_scores_nothing_and_nobody_is_asked(judge: FakeJudge):
    result = await score('<svg><image href="/etc/hostname"/></svg>', ["a red thing"])
    assert (result.score, result.is_score_valid) == (0.0, True)
    assert "/etc/hostname" in (result.reason or "")
    assert judge.seen == []


@pytest.mark.parametrize("requirements", [None, [], "red"])
async def test_a_row_without_requirements_is_invalid(requirements: Any):
    row = answered(RED, None)
    row.input_metadata.dataset_info = {"requirements": requirements}
    result = (await evaluation.svg_agent(row)).evaluation_result
    assert not result.is_score_valid


async def test_what_geometry_cannot_judge_is_invalid_and_says_what_to_do():
    result = await score(RED, ["Create a cow with clearly recognizable bovine features."])
    assert not result.is_score_valid
    assert "SVG_JUDGE_MODEL" in (result.reason or "")


async def test_svgbench_rows_are_shown_to_the_vision_judge(judge: FakeJudge):
    """Every published row: the judge gets the picture and the numbered requirements, and the score is the share it grants."""
    judge.answer = lambda body: (200, completion(verdicts_of_odd(requirements_in(body))))
    for line in bench_rows():
        row = EvaluationRow.model_validate(json.loads(line))
        requirements = row.input_metadata.dataset_info["requirements"]  # type: ignore[index]
        row.messages.append(answered(f"```svg\n{RED}\n```", None).messages[1])
        result = (await evaluation.svg_agent(row)).evaluation_result
        assert result.is_score_valid, result.reason
        odd = (len(requirements) + 1) // 2
        assert result.score == pytest.approx(odd / len(requirements))
        assert result.reason == f"{odd} of {len(requirements)} requirements fulfilled, by the vision (eyes-1) judge."
        assert [result.metrics[f"requirement_{n}"].score for n in (1, 2)] == [1.0, 0.0]
        assert result.metrics["requirement_2"].reason == f"{requirements[1]}: saw 2"
        assert json.loads(result.metrics["judge"].data["raw"])["verdicts"][-1]["seen"] == "saw 1"
        text, picture = judge.seen[-1]["messages"][1]["content"]
        assert all(f"{n}. {requirement}\n" in text["text"] for n, requirement in enumerate(requirements, start=1))
        png = base64.b64decode(picture["image_url"]["url"].removeprefix("data:image/png;base64,"))
        if len(judge.seen) == 1:
            rows = pixels(render.Picture(png, 512, 512))
            assert {pixel for row in rows for pixel in row} == {(255, 0, 0)}
    assert set(judge.keys) == {"Bearer judge-key"}
    assert judge.seen[0]["model"] == "eyes-1"
    assert judge.seen[0]["response_format"]["json_schema"]["strict"] is True


def verdicts_of_odd(count: int) -> str:
    return json.dumps(
        {"verdicts": [{"number": n, "seen": f"saw {n}", "fulfilled": n % 2 == 1} for n in range(count, 0, -1)]}
    )


async def test_an_endpoint_without_structured_output_is_asked_in_words(judge: FakeJudge):
    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if "response_format" in body:
            return 400, {"error": {"message": "response_format is not supported"}}
        return 200, completion(f"Let me see {{so}}.\n```json\n{verdicts([1, 2], True)}\n```")

    judge.answer = answer
    assert (await score(RED, ["red", "square"])).score == 1.0
    assert ["response_format" in body for body in judge.seen] == [True, False]


async def test_a_malformed_judgement_is_asked_for_again(judge: FakeJudge):
    answers = iter(["What a nice picture!", verdicts([1], True)])
    judge.answer = lambda _: (200, completion(next(answers)))
    assert (await score(RED, ["red"])).score == 1.0


async def test_a_busy_judge_is_asked_again(judge: FakeJudge):
    statuses = iter([429, 500, 503])
    judge.answer = lambda _: (next(statuses, 200), completion(verdicts([1], True)))
    assert (await score(RED, ["red"])).score == 1.0
    assert len(judge.seen) == 4


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((200, completion(None, refusal="I do not look at pictures.")), "refused: I do not look at pictures."),
        ((200, completion("")), "answered with no judgement"),
        ((200, completion("no JSON here {")), "answered with no judgement"),
        ((200, completion(verdicts([1], True)[:-5], "length")), "cut off"),
        ((200, completion(verdicts([1], True))), "verdicts on [1] instead of 1 to 2"),
        ((200, completion(verdicts([1, 2, 3], True))), "verdicts on [1, 2, 3] instead"),
        ((200, completion(verdicts([1, 1], True))), "two verdicts on requirement 1"),
        ((200, completion('{"verdicts": [{"number": 1, "fulfilled": "yes"}]}')), "without number or decision"),
        ((200, {**completion("x"), "choices": []}), "without a message"),
        ((401, {"error": {"message": "wrong key"}}), "wrong key"),
        ((500, {"error": {"message": "on fire"}}), "on fire"),
    ],
)
async def test_no_judgement_is_an_invalid_score_never_zero(judge: FakeJudge, answer: Any, reason: str):
    judge.answer = lambda _: answer
    result = await score(RED, ["red", "square"])
    assert not result.is_score_valid
    assert reason in (result.reason or "")
    assert judge.url in (result.reason or "")


async def test_a_silent_judge_is_given_up(judge: FakeJudge, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SVG_JUDGE_SECONDS", "0.2")
    release = threading.Event()

    def answer(_: Any) -> tuple[int, dict[str, Any]]:
        release.wait(30)
        return 200, completion(verdicts([1], True))

    judge.answer = answer
    try:
        result = await score(RED, ["red"])
    finally:
        release.set()
    assert not result.is_score_valid
    assert "within 0.2 s" in (result.reason or "")


def test_an_openai_key_goes_to_openai_only():
    settings = vision.JudgeSettings.from_environment
    here = {"SVG_JUDGE_MODEL": "m", "OPENAI_API_KEY": "secret"}
    assert settings({}) is None
    assert settings(here).api_key == "secret"
    assert settings({**here, "SVG_JUDGE_BASE_URL": "http://127.0.0.1:1/v1"}).api_key == "none"
    assert "secret" not in repr(settings(here))
    with pytest.raises(vision.JudgeFailed, match="no key"):
        settings({"SVG_JUDGE_MODEL": "m"})
    with pytest.raises(vision.JudgeFailed, match="SVG_JUDGE_SECONDS"):
        settings({**here, "SVG_JUDGE_SECONDS": "soon"})
