"""Runs inside vLLM's processes, in vLLM's environment, as a plugin of its `vllm.general_plugins`. Imports nothing of ours.

vLLM answers with log-probabilities at temperature 1 (`--logprobs-mode raw_logprobs`) or with those of the distribution that it
sampled from (`processed_logprobs`), not with both. The second follows from the first by one number for each position, the
log of the normaliser at the sampling temperature T:

    log p_T(x) = log p(x) / T - log sum_y exp(log p(y) / T)

That number is sent along as one more entry of a position's log-probabilities, under a token id that no vocabulary has.
"""

from __future__ import annotations

import functools
import os
import select
import signal
import threading

NORMALISER_ID = -2
"""Stands for the normaliser among the token ids of a position (-1 is vLLM's own padding)."""


def register() -> None:
    """Called once in every process of vLLM."""
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    _send_normalisers()


def _end_with_parent(parent: int) -> None:
    """kill -9 of the parent must not leave a process that holds the device's memory."""
    try:
        handle = os.pidfd_open(parent)
    except OSError:
        os.kill(os.getpid(), signal.SIGKILL)
        return
    select.select([handle], [], [])
    os.kill(os.getpid(), signal.SIGKILL)


def _send_normalisers() -> None:
    import torch  # noqa: PLC0415 - of vLLM's environment
    from vllm.v1.outputs import LogprobsTensors  # noqa: PLC0415 # pyright: ignore[reportMissingImports]
    from vllm.v1.sample.sampler import Sampler  # noqa: PLC0415 # pyright: ignore[reportMissingImports]

    if getattr(Sampler.forward, "sends_normalisers", False):
        return
    forward = Sampler.forward

    @functools.wraps(forward)
    def with_normalisers(self: Sampler, logits: torch.Tensor, sampling_metadata: object, *args: object, **kw: object):
        wanted = getattr(sampling_metadata, "max_num_logprobs", None)
        temperature_B = getattr(sampling_metadata, "temperature", None)
        lse_B = None
        if isinstance(wanted, int) and wanted >= 2 and temperature_B is not None:
            scale_B = torch.where(temperature_B < 1e-5, torch.ones_like(temperature_B), temperature_B)
            # Before forward: it scales the logits in place.
            logprobs_BV = logits.log_softmax(dim=-1, dtype=torch.float32)
            lse_B = torch.logsumexp(logprobs_BV / scale_B[:, None], dim=-1)
        output = forward(self, logits, sampling_metadata, *args, **kw)
        sent = output.logprobs_tensors
        if lse_B is not None and sent is not None and wanted is not None and sent.logprobs.shape[-1] == wanted + 1:
            # Second, so that a request that asked for fewer entries than its neighbours has it among its own.
            ids, logprobs = sent.logprob_token_ids, sent.logprobs
            marker = torch.full_like(ids[:, :1], NORMALISER_ID)
            output.logprobs_tensors = LogprobsTensors(
                torch.cat([ids[:, :1], marker, ids[:, 1:-1]], dim=1),
                torch.cat([logprobs[:, :1], lse_B[:, None], logprobs[:, 1:-1]], dim=1),
                sent.selected_token_ranks,
            )
        return output

    with_normalisers.sends_normalisers = True  # pyright: ignore[reportAttributeAccessIssue]
    Sampler.forward = with_normalisers
