"""Serving an agent: from an async function to a server that rollouts can be sent to."""

from __future__ import annotations

from eval_protocol.agents.app import AgentApp, AgentFunction, agent_app

__all__ = ["AgentApp", "AgentFunction", "agent_app"]
