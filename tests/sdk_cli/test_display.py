"""What a person sees while a job runs: the curve, the live picture, the pauses between polls, and ids."""

from __future__ import annotations

import io
from datetime import datetime

import pytest
from eval_protocol.cli.curve import curve, sparkline
from eval_protocol.cli.evaluators import wait_until_active
from eval_protocol.cli.follow import LineDisplay, LiveDisplay, closing_lines, output_model
from eval_protocol.cli.selection import dataset_id, normalize_evaluator_id
from eval_protocol.cli.session import Printer, dashboard, mask
from eval_protocol.client.control_plane import ControlPlane
from eval_protocol.client.watch import JobView
from eval_protocol.client.wire import Job, JobMetrics
from rich.console import Console

from tests.sdk_cli.fake_platform import KEY, FakePlatform


def heights(lines: list[str]) -> list[int]:
    """For each dot column of a drawing the topmost dot, counted from the bottom; 0 without any."""
    dots = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
    rows = [line[7:] for line in lines]
    found = []
    for x in range(max(map(len, rows)) * 2):
        tops = [
            4 * (len(rows) - y) - dot
            for y, row in enumerate(rows)
            for dot in range(4)
            if x // 2 < len(row) and (ord(row[x // 2]) - 0x2800) & dots[dot][x % 2]
        ]
        found.append(max(tops, default=0))
    return found


def test_a_rising_reward_rises_on_the_screen() -> None:
    drawn = heights(curve([0.0, 0.5, 1.0], width=20, height=5))
    assert drawn[0] == 1
    assert drawn[-1] == 20
    assert drawn == sorted(drawn)
    assert 0 not in drawn


def test_many_values_are_averaged_into_the_width() -> None:
    lines = curve([0.0] * 500 + [1.0] * 500, width=10, height=3)
    assert max(len(line) for line in lines) == 7 + 10
    drawn = heights(lines)
    assert (drawn[0], drawn[-1]) == (1, 12)


def test_values_outside_the_axis_are_cut_to_it() -> None:
    assert heights(curve([-3.0, 7.0], width=4, height=2))[-1] == 8
    assert sparkline([-1.0, 0.0, 0.5, 1.0, 2.0]) == "▁▁▅██"


def view(step: int, **job: object) -> JobView:
    events = [
        {
            "kind": "chunk",
            "chunk": at,
            "step": at,
            "epoch": 0,
            "mean_score": (at + 1) / 10,
            "kept_groups": 4,
        }
        for at in range(step)
    ]
    held_out = {"kind": "evaluation", "step": step, "version": step, "score": 0.25, "low": 0.2, "high": 0.3, "n": 100}
    fields = {"name": "j", "state": "JOB_STATE_RUNNING", "run": {"step": step, "total_steps": 8}} | job
    return JobView(Job.model_validate(fields), JobMetrics.model_validate({"events": [*events, held_out]}))


def test_the_live_picture_has_bar_epoch_step_reward_held_out_and_curve() -> None:
    shown: list = []
    LiveDisplay(shown.append).show(view(4))
    stream = io.StringIO()
    Console(file=stream, width=100).print(shown[0])
    text = stream.getvalue()
    assert "RUNNING  epoch 0  step 4/8  mean reward 0.400  held-out 0.250 [0.200, 0.300] (v4)" in text
    lines = [line.rstrip() for line in text.splitlines()]
    assert set(lines[1]) <= set("━╸╺")
    assert all("┤" in line or "│" in line for line in lines[2:7])
    assert any(0x2800 < ord(character) <= 0x28FF for character in text)
    assert lines[-1] == "Ctrl-C stops watching; the job goes on."


def test_lines_are_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    display = LineDisplay(Printer())
    for step in (1, 1, 3):
        display.show(view(step))
    lines = [line for line in capsys.readouterr().out.splitlines() if "mean reward" in line]
    assert [line.split()[3] for line in lines] == ["1/8", "2/8", "3/8"]


def test_the_best_score_is_that_of_the_version_that_was_kept() -> None:
    found = view(3)
    scores = [
        {"kind": "evaluation", "step": v, "version": v, "score": score} for v, score in ((0, 0.1), (2, 0.9), (4, 0.9))
    ]
    metrics = JobMetrics.model_validate({"events": scores})
    assert "   Best:  held-out 0.900 (v4)" in closing_lines(JobView(found.job, metrics))
    kept = view(3, run={"best_version": 2, "total_steps": 8})
    assert "   Best:  held-out 0.900 (v2)" in closing_lines(JobView(kept.job, metrics))


def test_a_job_without_a_step_has_no_model() -> None:
    stopped = Job.model_validate({"name": "a/j", "state": "JOB_STATE_EARLY_STOPPED", "run": {"optimizer_steps": 0}})
    assert output_model(stopped, "local") is None
    assert "• Job EARLY_STOPPED" in closing_lines(JobView(stopped, JobMetrics()))
    done = Job.model_validate({"name": "a/j", "state": "JOB_STATE_COMPLETED", "run": {"optimizer_steps": 5}})
    assert output_model(done, "local") == "accounts/local/models/j"


async def test_a_build_is_polled_quickly_at_first_and_then_every_ten_seconds(platform: FakePlatform) -> None:
    platform.evaluators["mine"] = {"state": "BUILDING", "builds": ["BUILDING"] * 12 + ["ACTIVE"]}
    now, pauses = [0.0], []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    async with ControlPlane(platform.base, KEY, "local") as client:
        assert await wait_until_active(client, "mine", "", Printer(), sleep=sleep, clock=lambda: now[0])
    assert pauses[:3] == [0.5, 0.75, 1.125]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 10.0


async def test_a_hiccup_while_polling_is_a_warning(platform: FakePlatform, capsys: pytest.CaptureFixture[str]) -> None:
    platform.evaluators["mine"] = {"state": "ACTIVE", "builds": ["ACTIVE"]}
    platform.failures["GET /v1/accounts/local/evaluators/mine"] = [(400, {"message": "not now"})]

    async def sleep(seconds: float) -> None:
        """No pause."""

    async with ControlPlane(platform.base, KEY, "local") as client:
        assert await wait_until_active(client, "mine", "", Printer(), sleep=sleep)
    assert "Warning: Failed to check evaluator status" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("evaluation-gsm8k_example", "evaluation-gsm8k-example"),
        ("My Eval!--x_", "myeval-x"),
        ("1st", "eval-1st"),
        ("___", "eval"),
        ("a" * 80, "a" * 63),
    ],
)
def test_evaluator_ids(text: str, expected: str) -> None:
    assert normalize_evaluator_id(text) == expected


def test_dataset_ids_fit_and_end_in_the_time() -> None:
    now = datetime(2025, 11, 10, 1, 10, 54)
    assert dataset_id("evaluation-gsm8k-example", now) == "evaluation-gsm8k-example-dataset-20251110011054"
    assert dataset_id("accounts/a/evaluators/x", now) == "x-dataset-20251110011054"
    long = dataset_id("a" * 80, now, kind="evaluation")
    assert len(long) == 63
    assert long.endswith("-evaluation-20251110011054")


def test_dashboards_are_beside_the_api() -> None:
    assert dashboard("http://127.0.0.1:7777/x") == "http://127.0.0.1:7777"
    assert dashboard("https://api.example.org") == "https://app.example.org"


def test_masks_keep_short_secrets_whole() -> None:
    assert mask("short") == "***"
    assert mask("sk-0123456789abcdef") == "sk-0***cdef"
