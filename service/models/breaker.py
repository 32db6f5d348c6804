"""A circuit breaker for each model: a server that fails is left alone for a while."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from service.errors import ModelError

TRIPPING = {"overload", "unreachable", "timeout"}
"""Codes of failures that open the breaker: the server is in trouble. An answer that is of no use
says nothing of the server."""


class CircuitBreaker:
    """Opens after `failures` failures in a row, for `seconds` or for as long as the server said.

    Then the model is tried again; one more failure opens it again.
    """

    def __init__(
        self, failures: int, seconds: float, clock: Callable[[], float] = monotonic
    ) -> None:
        self._failures = failures
        self._seconds = seconds
        self._clock = clock
        self._in_a_row = 0
        self._open_until = 0.0
        self._cause: ModelError | None = None

    @property
    def open(self) -> bool:
        """Is the model not to be asked now?"""
        return self._clock() < self._open_until

    def check(self) -> None:
        """Raises the failure that opened the breaker while it is open."""
        if self._cause is not None and self.open:
            seconds = self._open_until - self._clock()
            raise type(self._cause)(
                f"not asked for {seconds:.0f} s more, after: {self._cause.message}"
            )

    def succeeded(self) -> None:
        self._in_a_row = 0

    def failed(self, error: ModelError) -> None:
        if error.code not in TRIPPING:
            self.succeeded()
            return
        self._in_a_row += 1
        if self._in_a_row >= self._failures or error.rest_s:
            self._cause = error
            self._open_until = self._clock() + max(error.rest_s, self._seconds)
