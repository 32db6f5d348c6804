"""A circuit breaker for each model: a server that fails is left alone for a while."""

from collections.abc import Callable
from time import monotonic

from service.errors import ModelError

TRIPPING = {"overload", "unreachable", "timeout"}
"""Error codes that count as failures of the server. A useless answer doesn't: the server works."""


class CircuitBreaker:
    """Opens after `failures` failures in a row, or at once if the server asks for a pause.

    It stays open for `seconds`, or for the server's pause if that is longer. Then the model is
    called again; one more failure opens it again.
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
        """Whether the model must not be called now."""
        return self._clock() < self._open_until

    def check(self) -> None:
        """Raises the error that opened the breaker, as long as it is open."""
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
