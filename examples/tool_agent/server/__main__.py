"""Starts the agent server: `python -m server [--port 3100]`."""

from __future__ import annotations

import argparse

import uvicorn

from .app import app

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=3100)
    arguments = parser.parse_args()
    uvicorn.run(app, host=arguments.host, port=arguments.port, log_level="warning")
