"""The LiteLLM proxy in an environment of its own, pinned."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

PIN = "litellm[proxy]==1.106.2"


def install(environment: Path) -> None:
    """Make the environment unless it is there; downloads about 200 MB."""
    done = environment / PIN.replace("[", "-").replace("]", "")
    if done.exists():
        return
    print(f"bench-gateway: installing {PIN} into {environment} (about 200 MB)", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    packages = [
        PIN,
        "opentelemetry-sdk",
        "uvloop",
        "httptools",
    ]  # what it tries to import on every call, and what speeds it up
    subprocess.run([str(environment / "bin" / "pip"), "install", "-q", *packages], check=True)
    done.touch()


def command(environment: Path, folder: Path, engine: str) -> tuple[list[str], int]:
    """The command that serves one model of the engine's, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    parameters = {"model": "openai/remote", "api_base": f"{engine}/v1", "api_key": "none"}
    config = {
        "model_list": [{"model_name": "remote", "litellm_params": parameters}],
        "general_settings": {"master_key": "sk-bench"},
        "litellm_settings": {"num_retries": 0, "telemetry": False},
    }
    file = folder / "litellm.json"  # YAML reads JSON
    file.write_text(json.dumps(config))
    arguments = ["--config", str(file), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    return [str(environment / "bin" / "litellm"), *arguments, "--telemetry", "False"], port
