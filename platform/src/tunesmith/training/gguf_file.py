"""A model as one GGUF file (version 3), for llama.cpp, Ollama and their kin, with a Modelfile beside it.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The names of tensors come from the `gguf` package; what each
architecture's fields and weights must look like is written here, and an architecture or feature that is not is refused by name:

| family | differs in |
|---|---|
| llama, mistral | rows of the query and key projections of a head go from halves to pairs (GGUF's rotary layout); Llama 3's frequency factors are a tensor |
| qwen2, qwen3 | nothing |
| phi3 | query, key and value stay fused, as do gate and up |
| gemma2 | norms hold weight + 1; soft caps of attention and output |

Matrices are stored as asked, vectors (norms, biases, rotary factors) in float32.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, LlamaFileType, RopeScalingType
from transformers import PreTrainedConfig, PreTrainedModel

from tunesmith.errors import FailedPrecondition, InvalidArgument
from tunesmith.training.gguf_tokenizer import Vocabulary, chatml_template, read_vocabulary

QUANTIZATIONS = {
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}
"""How matrices are stored: exactly, rounded to half precision, or in blocks of 32 with one scale each (8.5 bits a weight)."""
FAMILIES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "phi3": gguf.MODEL_ARCH.PHI3,
    "gemma2": gguf.MODEL_ARCH.GEMMA2,
}
"""`model_type` of a config.json, and the architecture that a GGUF file of it has."""
MODEL_FILE, OLLAMA_FILE = "model.gguf", "Modelfile"


def write_gguf(folder: Path, base: Path, model: PreTrainedModel, quantization: str, name: str) -> None:
    """Write `model.gguf` and `Modelfile` into an existing folder.

    Args:
        folder: where they go.
        base: folder with tokenizer.json, chat template and generation config of the model.
        model: with its final weights, float32 on the CPU.
        quantization: one of `QUANTIZATIONS`.
        name: what the file calls the model.

    Raises FailedPrecondition naming what of the model or its tokenizer has no GGUF form here, InvalidArgument for another quantization.
    """
    if quantization not in QUANTIZATIONS:
        raise InvalidArgument(f"There is no quantization {quantization}; use one of {', '.join(QUANTIZATIONS)}.")
    config = model.config.get_text_config()
    architecture = _architecture(config)
    vocabulary = read_vocabulary(base, config.vocab_size)
    stored, file_type = QUANTIZATIONS[quantization]
    writer = gguf.GGUFWriter(str(folder / MODEL_FILE), gguf.MODEL_ARCH_NAMES[architecture])
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_file_type(file_type)
    if stored is not GGMLQuantizationType.F32 and quantization.startswith("q"):
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_shape(writer, config)
    vocabulary.add_to(writer)
    if factors := _rope_factors(writer, config):
        writer.add_tensor("rope_freqs.weight", np.array(factors, dtype=np.float32))
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    tied = bool(getattr(config, "tie_word_embeddings", False))
    for key, tensor in model.state_dict().items():
        if tied and key == "lm_head.weight":
            continue
        found = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise FailedPrecondition(f"The tensor {key} of {config.model_type} has no place in a GGUF file.")
        _add_tensor(writer, found, _laid_out(key, tensor.float(), config), stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (folder / OLLAMA_FILE).write_text(modelfile(base, vocabulary, config, name))


def modelfile(base: Path, vocabulary: Vocabulary, config: PreTrainedConfig, name: str) -> str:
    """A Modelfile for `ollama create`: the file, the template where it is ChatML, the stop texts, and sampling as trained."""
    lines = [f"# {name}. Use it with: ollama create NAME -f Modelfile", f"FROM ./{MODEL_FILE}"]
    template = chatml_template(base)
    if template:
        lines.append(f'TEMPLATE """{template}"""')
    else:
        lines.append(
            "# The chat template is in the file, under tokenizer.chat_template; Ollama takes it where it knows it."
        )
    lines += [f"PARAMETER stop {json.dumps(text, ensure_ascii=False)}" for text in vocabulary.stop_texts]
    generation = base / "generation_config.json"
    temperature = json.loads(generation.read_text()).get("temperature") if generation.is_file() else None
    lines.append(f"PARAMETER temperature {1 if temperature is None else temperature:g}")
    lines.append(f"PARAMETER num_ctx {min(int(config.max_position_embeddings), 8192)}")
    return "\n".join(lines) + "\n"


def _architecture(config: PreTrainedConfig) -> gguf.MODEL_ARCH:
    family = FAMILIES.get(config.model_type)
    problem = "" if family else f"the architecture {config.model_type} is not among {', '.join(FAMILIES)}"
    head = _head_size(config)
    if family is gguf.MODEL_ARCH.LLAMA and _window(config):
        problem = "its sliding window has no field in a llama file"
    if config.model_type == "qwen3" and getattr(config, "attention_bias", False):
        problem = "its attention has biases, which a qwen3 file has no room for"
    if config.model_type == "gemma2" and config.query_pre_attn_scalar != head:
        problem = f"its attention scales by {config.query_pre_attn_scalar}, not by the {head} of a head"
    if getattr(config, "mlp_bias", False):
        problem = "its MLP has biases"
    if config.model_type in ("qwen2", "qwen3") and _window(config):
        problem = "some of its layers have a sliding window"
    activation = getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", "silu")
    if activation != ("gelu_pytorch_tanh" if config.model_type == "gemma2" else "silu"):
        problem = f"its activation is {activation}"
    if problem or family is None:
        raise FailedPrecondition(f"This model cannot be written as GGUF: {problem}. Export it as merged safetensors.")
    return family


def _add_shape(writer: gguf.GGUFWriter, config: PreTrainedConfig) -> None:
    head, rope = _head_size(config), _rope(config)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    writer.add_rope_dimension_count(int(head * float(rope.get("partial_rotary_factor") or 1.0)))
    if config.model_type == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
        writer.add_sliding_window(config.sliding_window)
    if config.model_type == "phi3":
        writer.add_sliding_window(_window(config) or 0)
        writer.add_rope_scaling_orig_ctx_len(config.max_position_embeddings)


def _rope_factors(writer: gguf.GGUFWriter, config: PreTrainedConfig) -> list[float]:
    """Write how positions are stretched; returns what each frequency is divided by, where that is a tensor (Llama 3)."""
    rope = _rope(config)
    kind = rope.get("rope_type", "default")
    if kind == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))
    elif kind == "llama3" and config.model_type == "llama":
        return _llama3_factors(rope, _head_size(config))
    elif kind != "default":
        raise FailedPrecondition(
            f"This model cannot be written as GGUF: its rotary scaling {kind} is not known here. Export it as merged safetensors."
        )
    return []


def _llama3_factors(rope: dict[str, Any], head: int) -> list[float]:
    """Llama 3.1's smoothed frequency scaling, as divisors (Meta's llama-models, `apply_scaling`)."""
    original = rope["original_max_position_embeddings"]
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    found = []
    for index in range(0, head, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (index / head)
        smooth = min(1.0, max(0.0, (original / wavelength - low) / (high - low)))
        found.append(1 / ((1 - smooth) / factor + smooth))
    return found


def _laid_out(key: str, tensor: torch.Tensor, config: PreTrainedConfig) -> np.ndarray[Any, Any]:
    if FAMILIES[config.model_type] is gguf.MODEL_ARCH.LLAMA and ("q_proj" in key or "k_proj" in key):
        heads = config.num_attention_heads if "q_proj" in key else config.num_key_value_heads
        halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
        tensor = halves.swapaxes(1, 2).reshape(tensor.shape)
    if config.model_type == "gemma2" and key.endswith("norm.weight"):
        tensor = tensor + 1
    return tensor.contiguous().numpy()


def _add_tensor(writer: gguf.GGUFWriter, name: str, values: np.ndarray[Any, Any], stored: GGMLQuantizationType) -> None:
    if values.ndim == 1:
        stored = GGMLQuantizationType.F32
    block, _ = gguf.GGML_QUANT_SIZES[stored]
    if values.shape[-1] % block:  # a row must be whole blocks: half precision is the next best
        stored = GGMLQuantizationType.F16
    if stored is GGMLQuantizationType.F32:
        writer.add_tensor(name, values)
    elif stored is GGMLQuantizationType.F16:
        if float(np.abs(values).max(initial=0.0)) > float(np.finfo(np.float16).max):
            raise FailedPrecondition(f"{name} has values beyond half precision; use --quantization f32.")
        writer.add_tensor(name, values.astype(np.float16))
    else:
        writer.add_tensor(name, gguf.quants.quantize(values, stored), raw_dtype=stored)


def _head_size(config: PreTrainedConfig) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _rope(config: PreTrainedConfig) -> dict[str, Any]:
    return getattr(config, "rope_parameters", None) or {}


def _window(config: PreTrainedConfig) -> int | None:
    """The sliding window, where some layer uses one that is shorter than the context."""
    if getattr(config, "use_sliding_window", True) is False:
        return None
    window = getattr(config, "sliding_window", None)
    return window if window and window < config.max_position_embeddings else None
