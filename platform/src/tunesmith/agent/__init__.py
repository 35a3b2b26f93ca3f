"""The Agent's thinking: a typed plan, reading English into it, inspection, cost, statistics, the report. Pure functions.

What it decides is carried out by `tunesmith.jobs.session`; what people say reaches it through `tunesmith.server.routes.sessions`.
"""
