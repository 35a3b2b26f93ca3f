"""The platform: serve, evaluate and fine-tune models against evals, on your own machine."""

__version__ = "0.1.0"
