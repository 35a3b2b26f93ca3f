"""What the platform knows about a base model: where it lies and how training it starts, option by option."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tunesmith.errors import InvalidArgument


@dataclass(frozen=True)
class Bounds:
    """Valid values of one option: between `low` and `high`, or one of `choices`."""

    low: float = float("-inf")
    high: float = float("inf")
    choices: tuple[int, ...] = ()

    def __contains__(self, value: float) -> bool:
        return value in self.choices if self.choices else self.low <= value <= self.high

    def __str__(self) -> str:
        if self.choices:
            return "one of " + ", ".join(str(choice) for choice in self.choices)
        return f"between {self.low:g} and {self.high:g}"


@dataclass(frozen=True)
class TuningDefaults:
    """What an SFT or DPO job uses when its client names nothing, and what it may name instead.

    Epochs, batch, rank, weight decay and schedule are the documented values. Learning rates are documented as chosen per model:
    for SFT of a LoRA 2e-4, the common middle of the field; for DPO the 5e-6 of full-parameter recipes, ten times as much for a
    LoRA; without a LoRA a tenth, because a LoRA's best rate is about ten times that of full parameters ("LoRA Without Regret", 2025).
    """

    sft_learning_rate: float = 2e-4
    dpo_learning_rate: float = 5e-5
    full_parameter_share: float = 0.1
    """Learning rate of full parameters, as a share of a LoRA's."""
    lora_rank: int = 8
    lora_alpha: int = 32
    epochs: float = 1.0
    sft_batch: int = 32
    """Samples of an optimizer step."""
    dpo_batch: int = 4
    """Pairs of an optimizer step."""
    weight_decay: float = 0.01
    beta: float = 0.1
    """DPO."""
    orpo_lambda: float = 0.1
    learning_rate_bounds: Bounds = Bounds(0, 1e-2)
    """0 is a control: the model stays as it is."""
    lora_rank_bounds: Bounds = Bounds(choices=(0, 1, 2, 4, 8, 16, 32))
    """Powers of 2, as documented; 0: full parameters."""
    epochs_bounds: Bounds = Bounds(0.001, 1000)
    batch_bounds: Bounds = Bounds(1, 65_536)

    def learning_rate(self, method: str, rank: int) -> float:
        """Learning rate of a `SFT`, `DPO` or `ORPO` job with this LoRA rank."""
        rate = self.sft_learning_rate if method == "SFT" else self.dpo_learning_rate
        return rate if rank else rate * self.full_parameter_share


@dataclass(frozen=True)
class TrainingDefaults:
    """What a job uses when its client names nothing (decisions, "Training"), and what it may name instead."""

    learning_rate: float = 1e-4
    lora_rank: int = 8
    lora_alpha: int = 32
    n: int = 8
    """Rollouts per row."""
    epochs: int = 1
    chunk_size: int = 200
    """Rows of one optimizer step; applied when the dataset has at least twice as many rows."""
    max_tokens: int = 2048
    """Longest completion of a rollout, in tokens."""
    temperature: float = 1.0
    learning_rate_bounds: Bounds = Bounds(1e-5, 5e-4)
    lora_rank_bounds: Bounds = Bounds(choices=(4, 8, 16, 32))
    n_bounds: Bounds = Bounds(2, 128)
    epochs_bounds: Bounds = Bounds(1, 10)
    chunk_size_bounds: Bounds = Bounds(1, 10_000)
    max_tokens_bounds: Bounds = Bounds(16, 16_384)
    temperature_bounds: Bounds = Bounds(0.1, 2.0)
    tuning: TuningDefaults = TuningDefaults()
    """Of SFT and DPO jobs."""

    def chunk_for(self, rows: int) -> int | None:
        """Rows of one step for a dataset of `rows` rows; None: the whole epoch in one step."""
        return self.chunk_size if rows >= 2 * self.chunk_size else None

    def check(self, model: str, **options: float | None) -> None:
        """Raise InvalidArgument naming the first option that is out of its range. Options are named as the fields here."""
        for name, value in options.items():
            bounds: Bounds = getattr(self, f"{name}_bounds")
            if value is not None and value not in bounds:
                raise InvalidArgument(f"{name} = {value:g} is out of range for {model}: it must be {bounds}.")


@dataclass(frozen=True)
class BaseModelEntry:
    """A base model that can be loaded from `path`."""

    name: str
    """The one name under which it is served, recorded and compared, whatever alias a client used."""
    path: Path
    """Folder with config.json, safetensors and tokenizer.json."""
    source: str
    """Hugging Face id, `bundled`, `folder`, or `account` (a full model that a job made)."""
    display_name: str
    training: TrainingDefaults = TrainingDefaults()
    inference_max_tokens: int = 2048
    """Completion length of a chat call that names none, in tokens."""
    family: str | None = None
    """Its family in `tunesmith.rendering`; None: found from the folder, or its own chat template renders."""
