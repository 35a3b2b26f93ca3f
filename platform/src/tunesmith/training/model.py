"""The policy: a base model, frozen, and the LoRA adapter that is trained; or a base model all of whose parameters are trained.

float32 on the CPU; on CUDA a frozen base is bfloat16, adapter and head float32, and with full parameters all of them are float32
and the backbone computes in bfloat16 (autocast). Only safetensors are read and no code that came with a
model is run. On load the packed forward is checked against the architecture's own attention, so that a model with a
feature that the learner does not compute is refused instead of trained wrongly.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import Linear, Module, Parameter
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tunesmith.catalog.architectures import untrainable
from tunesmith.errors import FailedPrecondition, InvalidArgument, NotFound
from tunesmith.runs.config import BaseModelRef, LearnerConfig
from tunesmith.runs.tuning import TuningConfig
from tunesmith.training import attention
from tunesmith.training.attention import Layout, Segment
from tunesmith.training.logprobs import chosen_logprobs
from tunesmith.training.lora import fuse
from tunesmith.training.norms import fuse_norms
from tunesmith.training.packing import Costs, Pack

CHECK_TOKENS = (9, 7, 4)
"""Prompt and two branches of the check on load."""
CHECK_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.25}
"""Largest difference of hidden-state-derived log-probabilities that the check accepts, in nats."""


class Policy:
    """A causal language model and what of it is trained.

    Attributes:
        adapter: the trainable parameters by their name in `adapter_model.safetensors`, sorted; float32. With full parameters
            these are the model's own, by their name in it, tied ones once.
        lora: the adapter's configuration; None with full parameters.
    """

    def __init__(self, model: PeftModel | PreTrainedModel, device: torch.device) -> None:
        self.model = model.eval()  # dropout off; gradients do not depend on the mode
        self.device = device
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        assert isinstance(base, PreTrainedModel)
        self.base = base
        self.backbone: Module = getattr(base, base.base_model_prefix)
        self.vocabulary = int(base.config.get_text_config().vocab_size)
        lora = model.peft_config["default"] if isinstance(model, PeftModel) else None
        assert lora is None or isinstance(lora, LoraConfig)
        self.lora = lora
        named = {name.replace(".default.", "."): p for name, p in model.named_parameters() if p.requires_grad}
        self.adapter: dict[str, Parameter] = dict(sorted(named.items()))
        head = base.get_output_embeddings()
        assert isinstance(head, Linear)
        if lora is None:
            self._head_VH, self._head_bias_V = head.weight, head.bias
        else:
            self._head_VH = head.weight.detach().float()
            self._head_bias_V = None if head.bias is None else head.bias.detach().float()
        self._mixed = lora is None and device.type == "cuda"
        self._check_tolerance = CHECK_TOLERANCE[torch.bfloat16 if self._mixed else base.dtype]

    @property
    def costs(self) -> Costs:
        """Multiply-adds of a forward pass, for the packing planner."""
        config = self.base.config.get_text_config()
        linear = sum(m.weight.numel() for m in self.backbone.modules() if isinstance(m, Linear | Conv1D))
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return Costs(token=linear, pair=2 * config.num_hidden_layers * config.num_attention_heads * width)

    def logprobs(self, pack: Pack, temperature: float = 1.0, entropy: bool = True) -> tuple[Tensor, Tensor]:
        """log pi of the trained tokens of a pack and the entropy at their positions, at `temperature`; both float32 [K].

        Without `entropy` the second is empty.
        """
        hidden_TH = self._hidden(pack.token_ids_T, pack.position_ids_T, pack.layout)
        return chosen_logprobs(
            hidden_TH.index_select(0, pack.row_K),
            self._head_VH,
            self._head_bias_V,
            pack.target_K,
            temperature,
            entropy,
        )

    @torch.no_grad()
    def score(self, token_ids: list[int]) -> list[float]:
        """Log-probabilities at temperature 1 of all tokens but the first, each given those before it."""
        ids_T = torch.tensor(token_ids, device=self.device)
        layout = Layout.of([Segment(0, ((len(token_ids) - 1,),))], self.device)
        hidden_TH = self._hidden(ids_T[:-1], torch.arange(len(token_ids) - 1, device=self.device), layout)
        logp, _ = chosen_logprobs(hidden_TH, self._head_VH, self._head_bias_V, ids_T[1:], 1.0)
        return logp.tolist()

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Inside, the policy is the base model: adapter off, no gradients. Not with full parameters, where it is gone."""
        assert isinstance(self.model, PeftModel)
        with torch.no_grad(), self.model.disable_adapter():
            yield

    def adapter_tensors(self) -> dict[str, Tensor]:
        """A copy of the adapter on the CPU, in the order of `adapter`."""
        return {name: parameter.detach().cpu().clone() for name, parameter in self.adapter.items()}

    @torch.no_grad()
    def load_adapter_tensors(self, tensors: dict[str, Tensor], where: str) -> None:
        """Overwrite the adapter. Raises InvalidArgument when names or shapes differ; `where` is named in the message."""
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        expected = {name: tuple(parameter.shape) for name, parameter in self.adapter.items()}
        if shapes != expected:
            wrong = sorted(set(shapes.items()) ^ set(expected.items()))[0]
            raise InvalidArgument(
                f"The adapter in {where} does not fit this base model and rank (first difference: {wrong[0]} {wrong[1]})."
            )
        for name, parameter in self.adapter.items():
            parameter.copy_(tensors[name])

    @torch.no_grad()
    def check(self) -> None:
        """Compare the packed forward with the architecture's own attention on a shared prompt and two branches.

        Raises FailedPrecondition when they differ.
        """
        prompt, *branches = CHECK_TOKENS
        ids = [(7 * i + 3) % self.vocabulary for i in range(sum(CHECK_TOKENS))]
        starts = [prompt, prompt + branches[0]]
        positions = [*range(prompt), *(prompt + i for length in branches for i in range(length))]
        layout = Layout.of([Segment(prompt, (tuple(branches),))], self.device)
        hidden_TH = self._hidden(
            torch.tensor(ids, device=self.device), torch.tensor(positions, device=self.device), layout
        )
        packed_TV = torch.nn.functional.linear(hidden_TH.float(), self._head_VH, self._head_bias_V).log_softmax(-1)
        self.base.set_attn_implementation("eager")
        try:
            for start, length in zip(starts, branches, strict=True):
                rows = [*range(prompt), *range(start, start + length)]
                plain = self.base(
                    input_ids=torch.tensor([[ids[row] for row in rows]], device=self.device), use_cache=False
                )
                own_TV = plain.logits[0].float().log_softmax(-1)
                difference = float((own_TV - packed_TV[rows]).abs().max())
                if not difference <= self._check_tolerance:
                    raise FailedPrecondition(
                        f"The learner computes other log-probabilities for {type(self.base).__name__} than the model itself "
                        f"(difference {difference:.3g}); this architecture cannot be trained here."
                    )
        finally:
            self.base.set_attn_implementation(attention.NAME)

    def _hidden(self, token_ids_T: Tensor, position_ids_T: Tensor, layout: Layout) -> Tensor:
        """Hidden states after the last norm, [T, hidden]."""
        with torch.autocast("cuda", torch.bfloat16, enabled=self._mixed):
            output = self.backbone(
                input_ids=token_ids_T[None], position_ids=position_ids_T[None], use_cache=False, layout=layout
            )
        return output.last_hidden_state[0]


def load_policy(
    base_model: BaseModelRef, config: LearnerConfig | TuningConfig, seed: int, dtype: torch.dtype | None = None
) -> Policy:
    """Load the base model and put an adapter on all its linear layers but the head.

    `dtype` of the base; None = bfloat16 on CUDA, float32 on the CPU. The adapter is float32 in any case.
    The adapter is `config.warm_start` where given, else drawn from `seed` (B = 0: it has no effect).
    Raises NotFound, InvalidArgument or FailedPrecondition with the reason when base model or warm start cannot be used.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    base = _load_base(base_model, dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32))
    targets = _linear_names(base)
    torch.manual_seed(seed)
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=0.0,
        target_modules=targets,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in base.modules()),
        base_model_name_or_path=str(base_model.path),
    )
    with warnings.catch_warnings():
        # peft asks transformers for a property under its old name; nothing here depends on it.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        model = get_peft_model(base, lora, autocast_adapter_dtype=True)
    assert isinstance(model, PeftModel)
    fuse(model)
    fuse_norms(model)
    policy = Policy(model.to(device), device)
    policy.check()
    if config.warm_start is not None:
        policy.load_adapter_tensors(_read_warm_start(config), str(config.warm_start))
    return policy


def load_full(base_model: BaseModelRef) -> Policy:
    """Load the base model with all parameters trainable, in float32.

    Raises NotFound, InvalidArgument or FailedPrecondition with the reason when it cannot be trained as a whole.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = base_model.path / "config.json"
    if settings.is_file() and json.loads(settings.read_text()).get("quantization_config"):
        raise FailedPrecondition(
            f"Base model {base_model.name} has quantized weights; only a LoRA can be trained on it. Set a LoRA rank above 0."
        )
    base = _load_base(base_model, torch.float32)
    if not isinstance(base.get_output_embeddings(), Linear):
        raise FailedPrecondition(f"The output head of {type(base).__name__} is no linear layer; train a LoRA instead.")
    policy = Policy(base.to(device), device)  # pyright: ignore[reportArgumentType]
    policy.check()
    return policy


def _load_base(reference: BaseModelRef, dtype: torch.dtype) -> PreTrainedModel:
    path = reference.path
    if not (path / "config.json").is_file():
        raise NotFound(f"Base model {reference.name}: there is no config.json in {path}.")
    if not any(path.glob("*.safetensors")):
        raise NotFound(f"Base model {reference.name}: there are no safetensors weights in {path}.")
    if reason := untrainable(path):
        raise FailedPrecondition(f"Base model {reference.name} cannot be trained: {reason}")
    attention.register()
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        base = AutoModelForCausalLM.from_pretrained(
            path,
            config=config,
            dtype=dtype,
            attn_implementation=attention.NAME,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError, KeyError) as error:
        raise InvalidArgument(f"Base model {reference.name} in {path} cannot be loaded: {error}") from error
    base.config.use_cache = False
    return base


def _linear_names(base: PreTrainedModel) -> list[str]:
    """Last parts of the names of all linear layers except the output head, sorted."""
    head = base.get_output_embeddings()
    return sorted(
        {
            name.rsplit(".", 1)[-1]
            for name, module in base.named_modules()
            if isinstance(module, Linear | Conv1D) and module is not head
        }
    )


def _read_warm_start(config: LearnerConfig | TuningConfig) -> dict[str, Tensor]:
    """Tensors of the warm start's adapter. Raises when it is not the plain LoRA that this job trains."""
    folder = config.warm_start
    assert folder is not None
    file = folder / "adapter_model.safetensors"
    if not file.is_file():
        raise NotFound(f"Warm start: there is no adapter_model.safetensors in {folder}.")
    settings = _read_adapter_config(folder)
    for name, wanted in (("r", config.lora_rank), ("lora_alpha", config.lora_alpha)):
        if settings.get(name) != wanted:
            raise InvalidArgument(
                f"Warm start {folder} has {name} {settings.get(name)}, but the job asks for {wanted}; they must be equal."
            )
    odd = [
        name
        for name in ("use_dora", "use_rslora", "modules_to_save", "rank_pattern", "alpha_pattern")
        if settings.get(name)
    ]
    if settings.get("peft_type") != "LORA" or odd:
        raise InvalidArgument(
            f"Warm start {folder} is not a plain LoRA adapter ({', '.join(odd) or settings.get('peft_type')})."
        )
    return load_file(file)


def _read_adapter_config(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "adapter_config.json").read_text())
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"Warm start: {folder / 'adapter_config.json'} cannot be read: {error}") from error
