"""A stand-in for the SDK inside an evaluator's environment: a host that speaks the wire and needs no package; and project archives."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

ENTRY = "evaluation.py::test_it"

# The smallest program that keeps the evaluator host's contract: --check, and `describe` on a socket. The user's function is called
# once per `probe` message, so that a test can look at the world from inside the sandbox.
HOST = """
import argparse, importlib.util, json, os, socket, sys

def load(entry):
    path, name = entry.split("::")
    spec = importlib.util.spec_from_file_location("user_module", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)

parser = argparse.ArgumentParser()
parser.add_argument("--entry"); parser.add_argument("--socket"); parser.add_argument("--check", action="store_true")
parser.add_argument("--evaluation-timeout", type=float)
options = parser.parse_args()
try:
    function = load(options.entry)
except Exception as error:
    print(json.dumps({"type": "error", "message": f"{type(error).__name__}: {error}"}))
    sys.exit(1)
described = {"type": "described", "name": function.__name__, "mode": "pointwise", "file": "evaluation.py", "line": 1, "timeout": 60}
if options.check:
    print(json.dumps(described))
    sys.exit(0)
server = socket.socket(socket.AF_UNIX)
server.bind(options.socket)
server.listen()
while True:
    connection, _ = server.accept()
    with connection, connection.makefile("rwb") as stream:
        for line in stream:
            message = json.loads(line)
            answer = described if message["type"] == "describe" else {"type": "seen", "result": function(message)}
            stream.write(json.dumps(answer).encode() + b"\\n")
            stream.flush()
"""


def make_wheel(folder: Path, name: str, version: str, files: dict[str, str], metadata: str = "") -> Path:
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n{metadata}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"]))
    return path


def make_wheels(folder: Path) -> Path:
    """The two wheels that every evaluator's environment gets, with the stand-in inside."""
    extras = 'Provides-Extra: svgbench\nRequires-Dist: tiny-extra; extra == "svgbench"\n'
    make_wheel(
        folder, "tunesmith_eval", "0.1.0", {"eval_protocol/__init__.py": "", "eval_protocol/host.py": HOST}, extras
    )
    mapped = 'Requires-Dist: tunesmith-eval\nProvides-Extra: svgbench\nRequires-Dist: tunesmith-eval[svgbench]; extra == "svgbench"\n'
    make_wheel(folder, "eval_protocol", "0.3.33+tunesmith", {}, mapped)
    return folder


def pack(archive: Path, files: dict[str, str]) -> Path:
    """Pack `{path: text}` below one top folder, as the clients do."""
    with tarfile.open(archive, "w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(f"project/{name}")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return archive
