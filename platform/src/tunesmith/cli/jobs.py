"""What commands on jobs share: the path of an RFT job in the API, the states, all jobs of an account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.cli.client import all_pages, resource_path
from tunesmith.cli.profile import Profile

RFT_JOBS = "reinforcementFineTuningJobs"
FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "EARLY_STOPPED", "EXPIRED"})
"""States, as `state_of` gives them, that a job does not leave by itself."""


def rft_path(profile: Profile, job: str | None = None) -> str:
    """The API's path of an RFT job, given by id or resource name; without one, of all of the account."""
    return resource_path(profile, RFT_JOBS, job)


def all_rft_jobs(profile: Profile) -> list[dict[str, Any]]:
    """All RFT jobs of the profile's account, newest first. Raises as `client.call`."""
    return all_pages(profile, rft_path(profile), RFT_JOBS)


def state_of(job: Mapping[str, Any]) -> str:
    """`RUNNING` rather than `JOB_STATE_RUNNING`."""
    return job.get("state", "").removeprefix("JOB_STATE_")
