"""A job whose evaluator lacked a secret fails; with the secret there it is resumed and comes to its model."""

from __future__ import annotations

from tests.loop import projects
from tests.loop.test_story import create_rft

NEEDS_A_SECRET = """    import os
    if number % 5 and "ANSWERS" not in os.environ:
        raise KeyError("ANSWERS is not set")
    score = len(text) % 7 / 6
"""


def test_a_failed_job_goes_on_where_it_failed(platform, short_tmp):
    source = projects.HEADER + NEEDS_A_SECRET + projects.FOOTER
    project = projects.write(short_tmp / "needs-secret", source=source, dataset=projects.rows(10))
    flags = ("--max-output-tokens", "16", "--response-candidates-count", "4", "--chunk-size", "5")
    name, _ = create_rft(platform, project, *flags)
    failed = platform.wait(name)
    assert failed["state"] == "JOB_STATE_FAILED", failed
    assert "ANSWERS is not set" in failed["status"]["message"]
    before = platform.get(f"/v1/{name}/rollouts?pageSize=200&view=SUMMARY")["rollouts"]
    secret = {"name": "accounts/local/secrets/answers", "keyName": "ANSWERS", "value": "forty-two"}
    platform.request("POST", "/v1/accounts/local/secrets", secret)
    platform.request("POST", f"/v1/{name}:resume")
    job = platform.wait(name)
    assert job["state"] == "JOB_STATE_COMPLETED", job
    assert job["run"]["optimizer_steps"] == 2
    assert 0 < job["run"]["trained_tokens"] <= job["run"]["sampled_tokens"]
    after = platform.get(f"/v1/{name}/rollouts?pageSize=200&view=SUMMARY")["rollouts"]
    again = [rollout for rollout in after if rollout not in before and rollout["step"] == 0]
    valid_before = {(r["rowIndex"], r["k"]) for r in before if r["isScoreValid"]}
    assert valid_before, "some rows have a score without the secret"
    assert {(r["rowIndex"], r["k"]) for r in again if r["attempt"]}.isdisjoint(valid_before), "scored ones are reused"
    valid = [rollout for rollout in after if rollout["isScoreValid"]]
    assert len({(r["step"], r["rowIndex"], r["k"]) for r in valid}) == len(valid) == 10 * 4
    assert any(rollout["advantage"] for rollout in valid)
    log = platform.get(f"/v1/{name}/logs?tail=500")["lines"]
    assert {"job", "orchestrator", "evaluator-host"} & {line["source"] for line in log} >= {"job"}
    assert "forty-two" not in str(log)
