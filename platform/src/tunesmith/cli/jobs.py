"""What commands on jobs share: the path of an RFT job in the API, the states, all jobs of an account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.cli.client import all_pages
from tunesmith.cli.listing import short
from tunesmith.cli.profile import Profile

RFT_JOBS = "reinforcementFineTuningJobs"
FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "EARLY_STOPPED", "EXPIRED"})
"""States, as `state_of` gives them, that a job does not leave by itself."""


def rft_path(profile: Profile, job: str | None = None) -> str:
    """The API's path of an RFT job, given by id or resource name; without one, of all of the account."""
    collection = f"/v1/accounts/{profile.account_id}/{RFT_JOBS}"
    return f"{collection}/{short(job)}" if job else collection


def all_rft_jobs(profile: Profile) -> list[dict[str, Any]]:
    """All RFT jobs of the profile's account, newest first. Raises as `client.call`."""
    return all_pages(profile, rft_path(profile), RFT_JOBS)


def state_of(job: Mapping[str, Any]) -> str:
    """`RUNNING` rather than `JOB_STATE_RUNNING`."""
    return job.get("state", "").removeprefix("JOB_STATE_")
