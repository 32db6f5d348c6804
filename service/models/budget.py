"""Limits what may be spent a day: on each model, and by each API key."""

from collections.abc import Callable
from datetime import datetime
from math import inf

from service.errors import ModelOverBudget
from service.schema import ApiKey, Price, Usage
from service.store.spendings import Spendings


class Budget:
    """Checks and records what one model costs.

    `daily`: dollars a day that all callers together may spend on the model; None: no limit. A key
    may have a limit of its own, for all models. `price`: as configured. `costs`: whether the model
    costs money.
    """

    def __init__(
        self,
        alias: str,
        spendings: Spendings,
        clock: Callable[[], datetime],
        *,
        price: Price | None = None,
        daily: float | None = None,
        costs: bool = False,
    ) -> None:
        self._alias = alias
        self.price = price
        self._daily = daily
        self._costs = costs
        self._unknown = ""
        """Why it isn't known what was spent; empty while it is known."""
        self._spendings = spendings
        self._clock = clock

    async def check(self, payer: ApiKey | None) -> None:
        """Raises `ModelOverBudget` if today's budget of the model or of the payer's key is spent.
        Calls that are running are not stopped, so a day may end slightly over budget."""
        if not self._costs:
            return
        limit = payer.budget if payer is not None else None
        if self._unknown and (self._daily is not None or limit is not None):
            raise ModelOverBudget(
                f"nobody knows what {self._alias} costs, or has cost: {self._unknown}"
            )
        if self._daily is not None and await self._spent(alias=self._alias) >= self._daily:
            raise ModelOverBudget(
                f"models.{self._alias}.budget: {self._daily:g} dollars a day are spent"
            )
        if payer is None or limit is None:
            return
        if await self._spent(key_id=payer.key_id) >= limit:
            raise ModelOverBudget(f"key {payer.name!r}: its {limit:g} dollars a day are spent")

    async def _spent(self, **of: str) -> float:
        """Dollars spent today. Infinite if the store can't be read: then the request is answered
        without this model instead of failing."""
        try:
            return await self._spendings.spent(self._clock(), **of)
        except Exception:
            return inf

    async def pay(self, usage: Usage, payer: ApiKey | None) -> None:
        """Records what a call cost. If the cost is unknown or can't be stored, `check` refuses the
        model from then on wherever a budget applies."""
        if not self._costs:
            return
        if usage.cost is None:
            self._unknown = f"set models.{self._alias}.price"
            return
        key_id = payer.key_id if payer is not None else ""
        try:
            await self._spendings.add(self._clock(), self._alias, key_id, usage.cost)
            self._unknown = ""
        except Exception as error:  # the answer must not be lost with its bill
            self._unknown = f"what it cost was not kept: {type(error).__name__}"
