"""What tokens and machine hours cost here, as the operator wrote it in `prices.json` of the data folder. Without the file: time, no money."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunesmith.errors import InvalidArgument

FILE = "prices.json"


class Price(BaseModel):
    """Of one base model, in the currency of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    training_per_million: float = Field(default=0.0, ge=0)
    """Per 1,000,000 trained tokens."""
    inference_per_million: float = Field(default=0.0, ge=0)
    """Per 1,000,000 tokens, prompts and answers alike."""


class Prices(BaseModel):
    """`prices.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    currency: str | None = None
    """Such as `USD`; None: no prices are set."""
    machine_hour: float = Field(default=0.0, ge=0)
    """Of wall time of this machine, beside what tokens cost."""
    default: Price = Price()
    """Of base models that `models` does not name."""
    models: dict[str, Price] = {}

    def of(self, base_model: str) -> Price:
        """The price of a base model, by its resource name."""
        return self.models.get(base_model, self.default)


def load_prices(data_dir: Path) -> Prices:
    """The operator's prices. Raises InvalidArgument when the file cannot be read or says what it cannot mean."""
    file = data_dir / FILE
    if not file.is_file():
        return Prices()
    try:
        prices = Prices.model_validate_json(file.read_bytes())
    except (ValidationError, OSError) as error:
        raise InvalidArgument(f"The prices in {file} are not valid: {error}") from error
    if prices.currency is None:
        raise InvalidArgument(f'The prices in {file} have no "currency"; name one, such as "USD".')
    return prices
