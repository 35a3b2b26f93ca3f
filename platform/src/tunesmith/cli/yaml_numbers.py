"""YAML as people write plans: `1e-4` is a number, which YAML 1.1 takes for text because it has no dot."""

from __future__ import annotations

import re

import yaml


class Loader(yaml.SafeLoader):
    """Loads plain data only, with exponents as numbers."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)
