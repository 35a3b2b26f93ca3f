"""Data loaders: objects that produce evaluation rows in one or several variants. `output_data_loader` of a remote rollout returns one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import BaseModel

from eval_protocol.models import EvaluationRow

Preprocess = Callable[[list[EvaluationRow]], list[EvaluationRow]]


class DataLoaderResult(BaseModel):
    """The rows of one variant."""

    rows: list[EvaluationRow]
    type: str
    """Class name of the loader."""
    variant_id: str
    variant_description: str | None = None
    preprocessed: bool = False
    """Whether `preprocess_fn` was applied."""


class DataLoaderVariant(Protocol):
    """One way to load rows."""

    def __call__(self) -> DataLoaderResult:
        """Load them."""
        ...


@dataclass(kw_only=True)
class EvaluationDataLoader(ABC):
    """Base of data loaders: a subclass says which variants there are."""

    preprocess_fn: Preprocess | None = None
    """Rows in, rows out; applied to every variant."""

    @abstractmethod
    def variants(self) -> Sequence[DataLoaderVariant]:
        """The variants, not loaded yet."""

    def load(self) -> list[DataLoaderResult]:
        """Load all variants."""
        return [self._preprocessed(variant()) for variant in self.variants()]

    def _preprocessed(self, result: DataLoaderResult) -> DataLoaderResult:
        if self.preprocess_fn is None or result.preprocessed:
            return result
        return result.model_copy(update={"rows": self.preprocess_fn(result.rows), "preprocessed": True})


@dataclass(kw_only=True)
class DynamicDataLoader(EvaluationDataLoader):
    """Rows made by functions: one variant for each."""

    generators: Sequence[Callable[[], list[EvaluationRow]]]

    def variants(self) -> Sequence[DataLoaderVariant]:
        """One per generator, named after its function."""
        return [self._variant(place, generator) for place, generator in enumerate(self.generators)]

    def _variant(self, place: int, generator: Callable[[], list[EvaluationRow]]) -> DataLoaderVariant:
        name = getattr(generator, "__name__", type(generator).__name__)

        def load() -> DataLoaderResult:
            return DataLoaderResult(
                rows=list(generator()),
                type=type(self).__name__,
                variant_id=name if len(self.generators) == 1 else f"{name}_{place}",
                variant_description=getattr(generator, "__doc__", None),
            )

        return load
