"""Drawings to pixels: resvg in guarded child processes, or Chromium where its fidelity is wanted.

The same drawing gives the same pixels on every machine with resvg: the fonts are those in `fonts/`, none of the system's. Nothing
that a drawing does reaches the caller: a crash, a hang or too much memory ends the child, and the drawing is a `BadDrawing`.

`SVG_RENDERER` chooses: `resvg` (default) or `chromium`.
"""

import atexit
import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Protocol

import chromium
from guard import BadDrawing, Checked, check

HERE = Path(__file__).parent
FONTS = [str(HERE / "fonts" / name) for name in ("Lato-Regular.ttf", "Lato-Bold.ttf")]
FAMILY = "Lato"
GENERIC = ("font_family", "serif_family", "sans_serif_family", "cursive_family", "fantasy_family", "monospace_family")
KINDS = ("resvg", "chromium")


class RendererUnavailable(RuntimeError):
    """There is no renderer to be had: not the drawing's fault, so nothing is scored."""


@dataclass(frozen=True)
class Limits:
    """What one drawing may cost."""

    seconds: float = 10.0
    """Wall time."""
    memory_bytes: int = 1024 * 1024 * 1024
    """Address space of a child."""
    longest_side: int = 512
    """Pixels of the picture's longer side."""


@dataclass(frozen=True)
class Picture:
    """A rendered drawing, on white."""

    png: bytes
    width: int
    height: int


class Renderer(Protocol):
    """What renders; safe to call from several threads."""

    def render(self, svg: str) -> Picture:
        """Raises BadDrawing with the reason, RendererUnavailable when it is not the drawing's fault."""
        ...

    def close(self) -> None:
        """End what was started."""
        ...


class Resvg:
    """A pool of child processes, started when they are needed and kept.

    Args:
        limits: what one drawing may cost.
        processes: children at once; further callers wait.
    """

    def __init__(self, limits: Limits = Limits(), processes: int = 2) -> None:
        self._limits = limits
        self._idle: queue.SimpleQueue[_Child | None] = queue.SimpleQueue()
        self._pid = os.getpid()
        self._size = processes
        self._fill()

    def render(self, svg: str) -> Picture:
        """The picture of a drawing, its longer side `limits.longest_side` pixels."""
        checked = check(svg)
        if os.getpid() != self._pid:  # a fork shares the pipes of the children, not their answers
            self._pid, self._idle = os.getpid(), queue.SimpleQueue()
            self._fill()
        child = self._idle.get()
        try:
            if child is None or not child.lives():  # whatever ended an idle one, this drawing is not to blame
                child = _Child(self._limits)
            return child.render(checked)
        finally:
            self._idle.put(child if child is not None and child.lives() else None)

    def close(self) -> None:
        """End the children that are idle."""
        if os.getpid() == self._pid:
            for _ in range(self._size):
                child = self._idle.get()
                if child is not None:
                    child.kill()
                self._idle.put(None)

    def _fill(self) -> None:
        for _ in range(self._size):
            self._idle.put(None)


class _Child:
    """One process of `render_child.py`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        argv = [sys.executable, str(HERE / "render_child.py"), str(limits.memory_bytes), str(int(limits.seconds) + 1)]
        try:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            raise RendererUnavailable(f"The renderer's process cannot be started: {error}.") from error
        self._first = True
        self._closed = False

    def lives(self) -> bool:
        """Whether it may be asked again. One that ended is reaped."""
        if self._process.poll() is None:
            return True
        self.kill()
        return False

    def render(self, checked: Checked) -> Picture:
        width, height = checked.fitted(self._limits.longest_side)
        request = {"svg_string": checked.svg, "width": width, "height": height, "background": "white"}
        request |= {"skip_system_fonts": True, "font_files": FONTS, "resources_dir": os.devnull}
        request |= dict.fromkeys(GENERIC, FAMILY)
        deadline = time.monotonic() + self._limits.seconds
        try:
            _write(self._pipe("stdin"), json.dumps(request).encode() + b"\n", deadline)
            head, png = b"", b""
            while b"\n" not in head:
                head += self._read(deadline)
            line, _, png = head.partition(b"\n")
            answer = json.loads(line)
            while len(png) < answer["bytes"]:
                png += self._read(deadline)
        except (TimeoutError, OSError) as error:
            raise self._lost(error) from error
        self._first = False
        if answer["reason"] is not None:
            raise BadDrawing(f"resvg cannot render the drawing: {answer['reason']}.")
        return Picture(png, width, height)

    def kill(self) -> str:
        """End it, if it still runs; what it wrote on standard error (the first time)."""
        if self._closed:
            return ""
        self._closed = True
        self._process.kill()
        self._process.wait()
        with self._pipe("stdin"), self._pipe("stdout"), self._pipe("stderr") as errors:
            return errors.read().decode(errors="replace")

    def _pipe(self, name: str) -> IO[bytes]:
        return getattr(self._process, name)

    def _read(self, deadline: float) -> bytes:
        pipe = self._pipe("stdout")
        if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        piece = os.read(pipe.fileno(), 1 << 20)
        if not piece:
            raise BrokenPipeError
        return piece

    def _lost(self, error: Exception) -> Exception:
        """What it means that there is no answer."""
        if not isinstance(error, TimeoutError):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)  # its own status, not that of our kill
        said = self.kill().strip().splitlines()
        if self._first and any("ModuleNotFoundError" in line for line in said):
            return RendererUnavailable("resvg is not installed: run `pip install 'eval-protocol[svgbench]'`.")
        if isinstance(error, TimeoutError):
            return BadDrawing(f"The drawing was not rendered within {self._limits.seconds:g} s; its process was ended.")
        why = f"status {self._process.returncode}" + (f", {said[0][:200]}" if said else "")
        return BadDrawing(f"The drawing ended the renderer's process ({why}).")


def _write(pipe: IO[bytes], data: bytes, deadline: float) -> None:
    """Write it all, in pieces that a pipe takes without waiting: a child that does not read must not hold the caller."""
    view = memoryview(data)
    while view:
        if not select.select([], [pipe], [], max(0.0, deadline - time.monotonic()))[1]:
            raise TimeoutError
        view = view[os.write(pipe.fileno(), view[: select.PIPE_BUF]) :]


def make_renderer(environ: Mapping[str, str] = os.environ, limits: Limits = Limits()) -> Renderer:
    """The renderer that `SVG_RENDERER` names. Raises RendererUnavailable for an unknown one, or where it is not installed."""
    kind = environ.get("SVG_RENDERER", "") or KINDS[0]
    if kind not in KINDS:
        raise RendererUnavailable(f"SVG_RENDERER is {kind!r}; it must be one of {', '.join(KINDS)}.")
    if kind == "resvg":
        return Resvg(limits)
    program = chromium.find()
    if program is None:
        raise RendererUnavailable(
            "SVG_RENDERER is chromium, but there is no Chromium on this machine: install it, or set SVG_RENDERER=resvg."
        )
    return _Chromium(program, limits)


class _Chromium:
    """Chromium, started anew for each drawing and never more than one at a time."""

    def __init__(self, program: str, limits: Limits) -> None:
        self._program, self._limits = program, limits
        self._one = threading.Lock()

    def render(self, svg: str) -> Picture:
        checked = check(svg)
        width, height = checked.fitted(self._limits.longest_side)
        with self._one:
            try:
                png = chromium.screenshot(self._program, checked.svg, width, height, seconds=self._limits.seconds * 3)
            except subprocess.TimeoutExpired as error:
                raise BadDrawing(f"Chromium did not render the drawing within {error.timeout:g} s.") from error
            except chromium.ChromiumFailed as error:
                raise RendererUnavailable(str(error)) from error
        return Picture(png, width, height)

    def close(self) -> None:
        """Nothing stays."""


@cache
def default_renderer(longest_side: int = Limits.longest_side) -> Renderer:
    """One for the whole process, ended with it."""
    renderer = make_renderer(limits=Limits(longest_side=longest_side))
    atexit.register(renderer.close)
    return renderer
