"""The forms in which a trained model leaves the platform: one list for the command line that asks and the process that converts."""

from __future__ import annotations

CONVERTED = ("merged", "gguf")
"""Made from base and adapter, which needs torch."""
FORMATS = ("peft", *CONVERTED)
QUANTIZATIONS = ("f16", "f32", "q8_0")
"""How a GGUF file stores matrices; the first is the default."""
