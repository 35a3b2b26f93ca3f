"""Before serving: does this model come out right through our attention, and do neighbours leave a row's bits alone?

Both are tried on the model itself. A model that comes out wrong is refused; the bitwise capability is claimed only where
it held on this machine.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from tunesmith.engines.attention import ATTENTION
from tunesmith.engines.cache import NEUTRAL, STEM_ROWS, Prefix, RowCache
from tunesmith.engines.model import Model
from tunesmith.engines.plain import positions_stand_alone
from tunesmith.engines.wire import NEIGHBOUR_INDEPENDENT_LOGPROBS, NEIGHBOUR_INDEPENDENT_NOISE
from tunesmith.errors import InvalidArgument

logger = logging.getLogger(__name__)

_TOLERANCE = 2e-3
"""Largest difference of log-probabilities between our attention and transformers' own, in fp32."""
_NEIGHBOURS = (1, 4, 7, 30)
_BESIDE_SHORT = 120
"""Tokens of a prompt that is computed together with short ones."""


@dataclass(eq=False)
class _Row:
    position: int


def try_model(model: Model, context: int) -> list[str]:
    """Run the trials; returns the capabilities that hold. Raises InvalidArgument when the model is computed wrongly."""
    ids = torch.randint(model.vocab_size, (min(40, context),), generator=torch.Generator().manual_seed(0)).tolist()
    _compare_with_transformers(model, ids)
    capabilities = [NEIGHBOUR_INDEPENDENT_NOISE]
    if _bits_hold(model, ids, context):
        capabilities.append(NEIGHBOUR_INDEPENDENT_LOGPROBS)
    else:
        logger.warning("On this machine a row's log-probabilities depend on its neighbours in the last bits.")
    return capabilities


def kv_bytes_per_token(model: Model) -> int:
    """Bytes that one token's keys and values take."""
    (prefix,) = model.prefill([[0]])
    return prefix.keys.nbytes + prefix.values.nbytes


def _compare_with_transformers(model: Model, ids: list[int]) -> None:
    module = model.module
    module.set_attn_implementation("sdpa" if module._supports_sdpa else "eager")
    expected = torch.log_softmax(module(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float(), -1)
    module.set_attn_implementation(ATTENTION)
    half = len(ids) // 2
    try:
        (prefix,) = model.prefill([ids[:half]])
        ours = [prefix.logits]
        cache, row = RowCache[_Row](), _Row(half)
        cache.insert([(row, prefix)])
        for token_id in ids[half:]:
            ours.append(model.decode(cache.decode_pass(), [token_id])[0])
            row.position += 1
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InvalidArgument(
            f"{type(module).__name__} cannot be decoded by this engine: {error}. Use another."
        ) from error
    difference = (torch.log_softmax(torch.stack(ours), -1) - expected[half - 1 :]).abs().max().item()
    if not difference <= _TOLERANCE:
        raise InvalidArgument(
            f"{type(module).__name__} comes out differently here than in transformers (log-probabilities differ by "
            f"{difference:.2g}): this engine does not support its architecture. Serve it with another engine."
        )


def _bits_hold(model: Model, ids: list[int], context: int) -> bool:
    if torch.get_num_threads() > 1 or not positions_stand_alone(model.module):
        # With several threads PyTorch splits large element-wise operations at places that depend on the batch's size, and
        # computes the elements before each split by the scalar routine (see PADDING_ROWS).
        return False
    lengths = [len(ids) // 2, *(1 + i % len(ids) for i in range(max(_NEIGHBOURS)))]
    prompts = [ids[: min(length, context - 1)] for length in lengths]
    prefixes = [model.prefill([prompt])[0] for prompt in prompts]
    long, longer, longest = (
        model.prefill([(ids * 250)[: min(length, context - 1)]])[0] for length in (_BESIDE_SHORT, 200, NEUTRAL)
    )
    together = model.prefill([*prompts[1:18], prompts[0], *prompts[18:]])
    if not _same(together[17], prefixes[0]) or not _same(together[0], prefixes[1]):
        return False
    alone = _decode_first(model, prefixes[:1], at=0)
    if not all(torch.equal(alone, _decode_first(model, [prefixes[0]] * n, at=n - 1)) for n in (2, 5, STEM_ROWS + 3)):
        return False
    # A neighbour with a longer prompt, or with more sampled, has every row look further; the longest prompts are looked at apart.
    if not torch.equal(_decode_first(model, [longer], at=0), _decode_first(model, [longer, longest], at=1)):
        return False
    return all(
        torch.equal(alone, _decode_first(model, [*prefixes[: count + 1], *others], at=at, sampled=sampled))
        for count in _NEIGHBOURS
        for at in (0, count // 2, count)
        for others, sampled in (([], 0), ([long], 40), ([longer], 0))
    )


def _same(one: Prefix, other: Prefix) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("keys", "values", "logits"))


def _decode_first(model: Model, prefixes: list[Prefix], at: int, sampled: int = 0) -> Tensor:
    """Logits of prefix 0's next step, when it stands at row `at` among the others, which have `sampled` keys already (zeros)."""
    cache = RowCache[_Row]()
    rows = [(_Row(prefix.length + sampled), prefix) for prefix in prefixes[1:]]
    rows.insert(at, (_Row(prefixes[0].length), prefixes[0]))
    cache.insert(rows)
    return model.decode(cache.decode_pass(), [0] * len(prefixes))[cache.rows().index(rows[at][0])]
