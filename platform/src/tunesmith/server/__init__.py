"""The web process: control plane, dashboard pages and gateway behind one port.

    app = create_app(Settings.load(data_dir=...))

`python -m tunesmith.server --data-dir D` serves it.
"""

from tunesmith.server.app import create_app

__all__ = ["create_app"]
