"""Points as a TensorBoard event file, one record a point, appended.

The file itself says how far it got: its records are counted when it is opened, a torn last one is cut. So a writer that was killed goes on
where it stopped, which the usual writers, that begin a new file each time, do not. Format: TFRecord framing (length, masked CRC-32C, data,
masked CRC-32C) around the protocol buffers `Event` and `Summary` (tensorflow/core/util/event.proto, framework/summary.proto), of which
wall_time = 1 (double), step = 2 (int64), file_version = 3 (string) and summary = 5 with value = 1 {tag = 1, simple_value = 2 (float)} are written.
"""

from __future__ import annotations

import struct
from pathlib import Path

from tunesmith.trackers.points import FILES, Point, Points

FOLDER = "tensorboard"
NAME = "events.out.tfevents.0000000000.tunesmith"
VERSION = b"brain.Event:2"
_CASTAGNOLI = 0x82F63B78


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (_CASTAGNOLI if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _crc_table()


class EventFile:
    """The event file of one run directory, `tensorboard/events.out.tfevents...`."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / FOLDER / NAME
        self._points = Points(run_dir)
        self._written: dict[str, int] | None = None

    def catch_up(self) -> int:
        """Write the points that the file does not have yet; returns how many. Raises OSError."""
        new = list(self._points.new())
        if not new:
            return 0
        if self._written is None:
            self._written = self._open()
        content, taken = b"", 0
        for point in new:
            if point.number >= self._written[point.file] and point.values:
                content += _record(_event(point))
                taken += 1
            self._written[point.file] = max(self._written[point.file], point.number + 1)
        try:
            with self.path.open("ab") as file:
                file.write(content)
        except OSError:
            self._written, self._points = None, Points(self.path.parent.parent)  # look again at what arrived
            raise
        return taken

    def _open(self) -> dict[str, int]:
        """Points of each file that are in the event file; makes it, and cuts what is torn."""
        counts: dict[str, int] = dict.fromkeys(FILES, 0)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = self.path.read_bytes() if self.path.exists() else b""
        end = 0
        while (data := _data_at(content, end)) is not None:
            if end:
                counts["metrics.jsonl" if b"train/" in data[:64] else "events.jsonl"] += 1
            end += len(data) + 16
        if not end:
            self.path.write_bytes(_record(b"\x1a" + _varint(len(VERSION)) + VERSION))
        elif end < len(content):
            with self.path.open("r+b") as file:
                file.truncate(end)
        return counts


def _event(point: Point) -> bytes:
    summary = b"".join(
        _delimited(1, _delimited(1, tag.encode()) + b"\x15" + struct.pack("<f", value))
        for tag, value in point.values.items()
    )
    return b"\x09" + struct.pack("<d", point.time or 0.0) + b"\x10" + _varint(point.step) + _delimited(5, summary)


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", _masked(length)) + data + struct.pack("<I", _masked(data))


def _data_at(content: bytes, start: int) -> bytes | None:
    """The data of the record that begins there; None where none does, whole and unharmed."""
    header = content[start : start + 12]
    if len(header) < 12 or struct.unpack("<I", header[8:])[0] != _masked(header[:8]):
        return None
    end = start + 12 + struct.unpack("<Q", header[:8])[0]
    data, check = content[start + 12 : end], content[end : end + 4]
    return data if len(check) == 4 and struct.unpack("<I", check)[0] == _masked(data) else None


def _masked(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _delimited(field: int, data: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
