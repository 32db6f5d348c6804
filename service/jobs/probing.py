"""Find out what a model can do, again and again: it may come up after us, or come back as another
one."""

from __future__ import annotations

from service.errors import ModelError
from service.models import PROBE_S, Models
from service.telemetry import Telemetry


class Probing:
    """Of one model. `costs`: it costs money, so after failures it is probed ever more rarely."""

    def __init__(self, alias: str, models: Models, telemetry: Telemetry, *, costs: bool) -> None:
        self._alias = alias
        self._models = models
        self._log = telemetry.log
        self._costs = costs
        self._outcome = ""
        self._failures = 0

    def every_s(self) -> float:
        """Seconds until the next round."""
        return PROBE_S * (2 ** min(self._failures, 6) if self._costs else 1)

    async def probe(self) -> None:
        """One round; an outcome that is not that of the round before is logged."""
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
