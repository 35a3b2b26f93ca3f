"""`python -m tunesmith.server.openapi`: print the OpenAPI document that `/openapi.json` serves; no data folder is needed."""

from __future__ import annotations

import json
import sys

from tunesmith.server.app import declare


def main() -> None:
    """Write the document to standard output, as JSON with sorted keys, so that two of one version are equal."""
    json.dump(declare().openapi(), sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
