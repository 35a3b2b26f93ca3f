"""One drawing through Chromium: shown as a picture in a page, so no script of it runs and nothing of it is fetched."""

import base64
import shutil
import struct
import subprocess
import tempfile
import zlib
from pathlib import Path

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
"""PNG colour type -> samples a pixel."""
FRAME = 200
"""Pixels that the window is larger than the drawing: part of a window is not page."""


class ChromiumFailed(RuntimeError):
    """Chromium gave no picture; the message is what it said."""


def find() -> str | None:
    """The program, or None."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


def screenshot(program: str, svg: str, width: int, height: int, *, seconds: float) -> bytes:
    """The drawing at `width` x `height` pixels on white, as PNG.

    Raises ChromiumFailed, or subprocess.TimeoutExpired after `seconds`.
    """
    source = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    page = f'<!doctype html><style>body{{margin:0}}img{{display:block}}</style><img width={width} height={height} src="{source}">'
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "page.html").write_text(page)
        argv = [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        argv += ["--no-first-run", "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND"]
        argv += ["--proxy-server=127.0.0.1:9", "--force-device-scale-factor=1", f"--user-data-dir={folder}/profile"]
        argv += [f"--window-size={width + FRAME},{height + FRAME}", f"--screenshot={folder}/page.png"]
        done = subprocess.run([*argv, f"file://{folder}/page.html"], capture_output=True, timeout=seconds, cwd=folder)
        picture = Path(folder) / "page.png"
        if not picture.exists():
            said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"status {done.returncode}"]
            raise ChromiumFailed(f"Chromium gave no picture: {said[0][:300]}")
        return crop(picture.read_bytes(), width, height)


def crop(png: bytes, width: int, height: int) -> bytes:
    """The top left of a PNG of 8 bits a sample.

    Its rows are cut, not decoded: a filtered byte depends only on what stands to its left and above it.
    """
    parts = dict[bytes, bytes]()
    at = len(SIGNATURE)
    while at < len(png):
        (size,) = struct.unpack_from(">I", png, at)
        kind = png[at + 4 : at + 8]
        parts[kind] = parts.get(kind, b"") + png[at + 8 : at + 8 + size]
        at += 12 + size
    full_width, full_height, depth, colour, *rest = struct.unpack(">IIBBBBB", parts[b"IHDR"])
    if depth != 8 or colour not in CHANNELS or rest[-1] != 0 or width > full_width or height > full_height:
        raise ChromiumFailed(f"Chromium's picture ({full_width} x {full_height}, type {colour}) cannot be cut.")
    rows, samples = zlib.decompress(parts[b"IDAT"]), CHANNELS[colour]
    stride, kept = 1 + full_width * samples, 1 + width * samples
    data = b"".join(rows[y * stride : y * stride + kept] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, *rest)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(data)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
