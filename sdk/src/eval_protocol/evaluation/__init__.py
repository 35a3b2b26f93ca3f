"""The decorator, the runner, scores and their statistics. Nothing here knows pytest."""
