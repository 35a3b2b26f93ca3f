"""The floor that a benchmark holds an engine against."""

from __future__ import annotations

import pytest

from benchmarks.gpu_engine import Decoder

QWEN = {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936}
SMALL = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16, **QWEN}
LARGE = {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32, **QWEN}
BANDWIDTH, PEAK = 4.8e12, 9.9e14
"""Of an H200, as published."""


def test_what_a_token_reads_is_counted_from_the_shape() -> None:
    assert Decoder.of(SMALL).kv_bytes == 112 * 1024
    assert Decoder.of(LARGE).kv_bytes == 144 * 1024
    assert Decoder.of(SMALL).weights == pytest.approx(0.596e9, rel=0.01)
    assert Decoder.of(LARGE).weights == pytest.approx(4.02e9, rel=0.01)


@pytest.mark.parametrize(
    ("config", "batch", "length", "tokens"),
    [(SMALL, 1, 1000, 3.7e3), (SMALL, 64, 1000, 35e3), (SMALL, 256, 2000, 20e3), (LARGE, 1, 1000, 586), (LARGE, 64, 1000, 17e3)],
)  # fmt: skip
def test_the_floor_of_decoding(config: dict[str, int], batch: int, length: int, tokens: float) -> None:
    assert Decoder.of(config).floor(batch, length, BANDWIDTH, PEAK) == pytest.approx(tokens, rel=0.06)


def test_large_batches_of_short_sequences_are_bound_by_arithmetic() -> None:
    decoder = Decoder.of(SMALL)
    assert decoder.floor(100_000, 1, BANDWIDTH, PEAK) == pytest.approx(PEAK / (2 * decoder.weights), rel=0.01)
