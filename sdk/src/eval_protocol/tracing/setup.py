"""Sending a program's log lines to the gateway, as its environment says."""

from __future__ import annotations

import logging
import os

from eval_protocol.errors import NotBuiltYet
from eval_protocol.tracing.filters import ContextRolloutIdFilter
from eval_protocol.tracing.handler import FireworksTracingHttpHandler
from eval_protocol.tracing.route import log_gateway


def init_external_logging_from_env() -> None:
    """Have the root logger post what is logged inside a `rollout_logging_context` (INFO and above), if a gateway and its key are known.

    Calling it again changes nothing. A process with `EP_ROLLOUT_ID` posts all its records for that rollout.

    Raises:
        NotBuiltYet: `EP_ELASTICSEARCH_URL` is set; log lines go to a tracing gateway only.
        ProfileError: the client profile cannot be read.
    """
    if os.environ.get("EP_ELASTICSEARCH_URL", "").strip():
        raise NotBuiltYet("EP_ELASTICSEARCH_URL is set, but log lines go to a tracing gateway only. Unset it.")
    root = logging.getLogger()
    if any(isinstance(handler, FireworksTracingHttpHandler) for handler in root.handlers):
        return
    gateway = log_gateway()
    if gateway is None or gateway.key is None:
        return
    handler = FireworksTracingHttpHandler(gateway.base, api_key=gateway.key)
    handler.setLevel(logging.INFO)
    if not os.environ.get(handler.rollout_id_env):
        handler.addFilter(ContextRolloutIdFilter())
    root.addHandler(handler)
