"""Durable work: a worker claims jobs by lease and runs the handler of each kind (`python -m tunesmith.jobs --data-dir D`)."""

from tunesmith.jobs.handler import ClaimedJob, Handler, JobContext, Outcome

__all__ = ["ClaimedJob", "Handler", "JobContext", "Outcome"]
