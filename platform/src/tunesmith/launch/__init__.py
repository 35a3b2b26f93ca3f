"""Start processes that die with their parent, follow them from asyncio, stop them as a group. This machine; Linux."""

from tunesmith.launch.process import Process, run, start

__all__ = ["Process", "run", "start"]
