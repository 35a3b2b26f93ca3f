"""The peer process: transformers' `generate`, and the floor of matrix products, on one thread, CPU-seconds by its own clock.

`generate` is given its best case: one batch, padded on the left where prompts differ in length, no token that ends early.
The floor is every linear layer of the model at the sizes of the workload, and nothing else: each prompt's products once (a
prompt that several requests share is counted once), then for each further token the products of the whole batch.
"""

from __future__ import annotations

import resource
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def serve(connection: Connection, folder: Path) -> None:
    """Answer ("generate" | "floor", prompts, copies, tokens) with (tokens made, CPU-seconds) and "memory" with bytes, until None."""
    import torch  # noqa: PLC0415 - only this process has it
    import transformers  # noqa: PLC0415 - as above

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    work = {"generate": _generate, "floor": _floor}
    while (asked := connection.recv()) is not None:
        if asked == "memory":
            connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
            continue
        what, *arguments = asked
        with torch.inference_mode():
            connection.send(work[what](model, *arguments))


def _generate(model: Any, prompts: list[list[int]], copies: int, tokens: int) -> tuple[int, float]:
    import torch  # noqa: PLC0415 - see serve

    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    before = time.process_time()
    output = model.generate(
        ids, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, num_return_sequences=copies,
        max_new_tokens=tokens, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    seconds = time.process_time() - before
    made = output.shape[0] * (output.shape[1] - longest)
    return made, seconds


def _floor(model: Any, prompts: list[list[int]], copies: int, tokens: int) -> tuple[int, float]:
    import torch  # noqa: PLC0415 - see serve

    head = model.get_output_embeddings()
    weights = [m.weight for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    rows = len(prompts) * copies
    seconds = 0.0
    for count, times in [*((len(prompt), 1) for prompt in prompts), (rows, tokens - 1)]:
        inputs = {width: torch.randn(count, width) for width in {weight.shape[1] for weight in [*weights, head.weight]}}
        before = time.process_time()
        for _ in range(times):
            for weight in weights:
                torch.nn.functional.linear(inputs[weight.shape[1]], weight)
            read = inputs[head.weight.shape[1]]
            torch.nn.functional.linear(read if count == rows and times > 1 else read[:1], head.weight)
        seconds += time.process_time() - before
    return rows * tokens, seconds
