"""Write an eval as a pytest test, run it, and train against it."""

__version__ = "0.1.0"
