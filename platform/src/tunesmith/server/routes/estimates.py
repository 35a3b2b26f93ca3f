"""What a job would take: the body of a create, answered with steps, tokens, time and money; nothing is created."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from tunesmith.schemas.dpo_jobs import DpoJobInput
from tunesmith.schemas.reinforcement_fine_tuning_jobs import RftJobInput
from tunesmith.schemas.supervised_fine_tuning_jobs import SftJobInput
from tunesmith.server import estimate_inputs
from tunesmith.server.auth import AccountId
from tunesmith.server.control import Control
from tunesmith.server.tuning_options import read_dpo, read_sft

router = APIRouter(prefix="/v1/accounts/{account_id}", tags=["estimates"])


@router.post("/reinforcementFineTuningJobs:estimate")
def estimate_rft(account: AccountId, body: RftJobInput, control: Control) -> dict[str, Any]:
    """Steps, rollouts, tokens, time and cost of an RFT job, as ranges, and what they assume. Checked as a create is."""
    return estimate_inputs.rft(control, account, body)


@router.post("/supervisedFineTuningJobs:estimate")
def estimate_sft(account: AccountId, body: SftJobInput, control: Control) -> dict[str, Any]:
    """Steps, tokens, time and cost of an SFT job, as ranges, and what they assume. Checked as a create is."""
    return estimate_inputs.tuning(control, account, read_sft(body))


@router.post("/dpoJobs:estimate")
def estimate_dpo(account: AccountId, body: DpoJobInput, control: Control) -> dict[str, Any]:
    """Steps, tokens, time and cost of a DPO or ORPO job, as ranges, and what they assume. Checked as a create is."""
    return estimate_inputs.tuning(control, account, read_dpo(body))
