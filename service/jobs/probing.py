"""Probes models regularly: a server may start later than the service, or come back with another
model."""

from service.errors import ModelError
from service.models import PROBE_S, Models
from service.telemetry import Telemetry


class Probing:
    """Probes one model. `costs`: whether it costs money; if so, each failure in a row doubles the
    time to the next probe."""

    def __init__(self, alias: str, models: Models, telemetry: Telemetry, *, costs: bool) -> None:
        self._alias = alias
        self._models = models
        self._log = telemetry.log
        self._costs = costs
        self._outcome = ""
        self._failures = 0

    def every_s(self) -> float:
        """Seconds until the next probe."""
        return PROBE_S * (2 ** min(self._failures, 6) if self._costs else 1)

    async def probe(self) -> None:
        """Probes the model once. Logs the outcome if it differs from the last one."""
        able = None
        try:
            able = await self._models.probe(self._alias)
            outcome = able.model_dump_json(exclude={"at", "read_tps", "write_tps"})
        except ModelError as error:
            outcome = f"{error.code}: {error.message}"
        except Exception as error:
            outcome = repr(error)
        if outcome != self._outcome:
            self._outcome = outcome
            log = self._log.info if able else self._log.warning
            log("model_probed" if able else "model_not_probed", alias=self._alias, found=outcome)
        self._failures = 0 if able else self._failures + 1
