"""The Agent's sessions as jobs: one handler, a module for each phase, and a client of this platform's own REST API.

`handler` walks through the phases; `desk` is what a phase works with; `api` asks for datasets, jobs and deployments; `children` starts
and follows them. What is decided is decided in `tunesmith.agent`, which knows neither database nor network.
"""

from tunesmith.jobs.session.handler import SessionHandler

__all__ = ["SessionHandler"]
