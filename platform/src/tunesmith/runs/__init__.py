"""The run directory: what orchestrator and learner say to each other, as files (`docs/reference/seams.md`)."""
