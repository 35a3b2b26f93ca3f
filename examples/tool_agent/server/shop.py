"""The shops: what is in stock, and at what price.

This stands for the database of a real agent. There are 9,000 shops, each with a list of its own; an entry is derived from
the shop's number and the item's name by a hash, so that no file is needed and no model can know it without looking it up.
Nothing here knows a question or its answer.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

ITEMS = (
    "lamp",
    "chair",
    "table",
    "shelf",
    "mirror",
    "clock",
    "vase",
    "candle",
    "pillow",
    "blanket",
    "carpet",
    "basket",
    "bucket",
    "broom",
    "ladder",
    "hammer",
    "drill",
    "saw",
    "rope",
    "kettle",
    "pan",
    "plate",
    "cup",
    "spoon",
    "knife",
    "jar",
    "bowl",
    "tray",
    "stool",
    "bench",
)
"""What every shop sells, by the names that `lookup` knows."""

SHOPS = range(1000, 10_000)
LOWEST_PRICE, HIGHEST_PRICE = 2, 60
LOWEST_STOCK, HIGHEST_STOCK = 10, 90

_NAMED = re.compile(r"\bshop (\d{4})\b", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """One line of a shop's list.

    Attributes:
        item: Its name.
        price: Of one piece, in dollars.
        stock: Pieces in the shop.
    """

    item: str
    price: int
    stock: int


def entry(shop: int, item: str) -> Entry | None:
    """Gives a shop's entry for an item; None for an item that no shop sells."""
    if item not in ITEMS:
        return None
    digest = hashlib.sha256(f"{shop}/{item}".encode()).digest()
    price = LOWEST_PRICE + int.from_bytes(digest[:4]) % (HIGHEST_PRICE - LOWEST_PRICE + 1)
    stock = LOWEST_STOCK + int.from_bytes(digest[4:8]) % (HIGHEST_STOCK - LOWEST_STOCK + 1)
    return Entry(item, price, stock)


def shop_named_in(text: str) -> int | None:
    """Gives the number of the shop that a question is about ("Shop 4711: ..."); None when it names none."""
    found = _NAMED.search(text)
    return int(found.group(1)) if found and int(found.group(1)) in SHOPS else None
