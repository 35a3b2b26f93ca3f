"""Whether a model call may be made: the budget of its key, the state of its rollout. Asked before anything is done for the call."""

from __future__ import annotations

from tunesmith.db.completions import CompletionStore
from tunesmith.errors import ResourceExhausted
from tunesmith.gateway.auth import Key
from tunesmith.gateway.states import RolloutStates


class BudgetExhausted(ResourceExhausted):
    """The tokens of a job's rollout key are spent. Waiting does not help, so the answer names no time to try again."""

    reason = "budget_exhausted"


class Admission:
    """Asked by every kind of model call, passed-through ones included."""

    def __init__(self, store: CompletionStore, states: RolloutStates) -> None:
        self._store, self._states = store, states

    async def admit(self, key: Key, job: str | None, rollout_id: str | None) -> None:
        """Let a call of `key` in, for the job that it counts for.

        A budget is looked at before a call, not during it: calls in flight when it runs out are let finish and counted.

        Raises BudgetExhausted (429), RolloutClosed (409).
        """
        if key.budget is not None and key.job is not None:
            spent = await self._store.tokens_of_job(key.account, key.job)
            if spent >= key.budget:
                raise BudgetExhausted(
                    f"The rollout key of job {key.job} has spent its budget: {spent} of {key.budget} tokens, prompts and completions "
                    "together. A runaway agent is the usual cause; TUNESMITH_ROLLOUT_KEY_BUDGET_TOKENS sets the budget of later jobs."
                )
        if rollout_id:
            await self._states.admit(key.account, job, rollout_id)
