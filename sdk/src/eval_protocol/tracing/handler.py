"""The logging handler that carries an agent's log lines, and the status of its rollouts, to the tracing gateway."""

from __future__ import annotations

import logging
import os
import threading

from eval_protocol.tracing.lines import line_of
from eval_protocol.tracing.posting import FLUSH_SECONDS, GatewayHandler, LogPoster, log
from eval_protocol.tracing.route import TracingGateway, gateway_of, log_gateway

NO_GATEWAY = "Log lines of rollouts go nowhere: no tracing gateway is known. Set FW_TRACING_GATEWAY_BASE_URL and FIREWORKS_API_KEY."


class FireworksTracingHttpHandler(GatewayHandler):
    """Posts the records of rollouts to the gateway, in the background: logging never waits for it and never fails because of it.

    A record belongs to the rollout that its `rollout_id` names (set by a filter), else to the environment's; without one it goes
    nowhere. A `status` (`extra={"status": Status.rollout_finished()}`) sets the rollout's state.

    Args:
        gateway_base_url: None = `FW_TRACING_GATEWAY_BASE_URL`, and on as docs/reference/settings.md says. A `model_base_url` with ids in
            it is fine, too.
        rollout_id_env: the variable with the id of a process that works for one rollout only.
        api_key: None = the one that belongs to the gateway.
    """

    def __init__(
        self, gateway_base_url: str | None = None, rollout_id_env: str = "EP_ROLLOUT_ID", *, api_key: str | None = None
    ) -> None:
        super().__init__()
        self.gateway_base_url = gateway_base_url
        self.rollout_id_env = rollout_id_env
        self._api_key = api_key
        self._poster: LogPoster | None = None
        self._making = threading.Lock()
        self._mute = False

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record."""
        try:
            if self.is_ours(record):
                return
            rollout_id = getattr(record, "rollout_id", None) or os.environ.get(self.rollout_id_env)
            if not rollout_id or self._mute:
                return
            poster = self.poster()
            if poster is not None:
                poster.put(line_of(record, str(rollout_id), self.formatter))
        except Exception:  # noqa: BLE001 - the logging module's own contract: a handler reports and goes on
            self.handleError(record)

    def poster(self) -> LogPoster | None:
        """What sends the lines; None when no gateway is known, which is said once."""
        with self._making:
            if self._poster is None and not self._mute:
                gateway = self._gateway()
                self._mute = gateway is None
                self._poster = LogPoster(gateway) if gateway is not None else None
                if self._mute:
                    log.warning(NO_GATEWAY)
            return self._poster

    def _gateway(self) -> TracingGateway | None:
        if self.gateway_base_url and self._api_key:
            return gateway_of(self.gateway_base_url, self._api_key)
        found = log_gateway(self.gateway_base_url)
        if found is None:
            return None
        return gateway_of(found.base, self._api_key or found.key)

    def flush(self) -> None:
        """Wait a short while until all is sent. `logging` calls it at the end of the program."""
        poster = self._poster
        if poster is not None and not poster.flush():
            log.warning(
                "%d log lines had not reached %s after %g s.", poster.waiting, poster.gateway.base, FLUSH_SECONDS
            )
