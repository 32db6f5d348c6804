"""A run's rows with their cases, scored; and the bounds of what any arm could reach."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from eval import stats
from eval.cases import Data
from eval.metrics import World, metric
from eval.rows import RunRow, rows
from eval.suite import sibling
from service.errors import BadRequest
from service.schema import Event, Item

FLOOR, CEILING = "shuffled", "oracle"
ALONE = "alone:"
"""The prefix of an arm that is added for another arm: its model's own order, without the prior's
share."""
SHUFFLES = 10

CaseKey = tuple[str, str]
"""The name of a data folder, and the id of a case in it."""


class Results:
    """A run's rows, scored. `rows`: by arm and case, one row a repeat; the order of the cases
    doesn't depend on the order in which rows were written. `probes`: by arm, case id and probe.
    `scores`: by arm and case, the value of each metric, the mean over repeats. `missing`: how many
    rankings the run still lacks."""

    def __init__(self, out: Path) -> None:
        """Reads the run in `out`. Raises `BadRequest` if `out` holds no run, if its case folders
        have changed since, or if the baseline has no row yet."""
        manifest = out / "manifest.json"
        if not manifest.exists():
            raise BadRequest(f"{out} holds no run: 'whyrank eval run SUITE --out {out}' makes one")
        self.out = out
        self.manifest: dict[str, Any] = json.loads(manifest.read_text())
        suite = self.manifest["suite"]
        self.names: list[str] = suite["metrics"]
        self.baseline: str = suite["baseline"]
        self.seed: int = suite["seed"]
        self.folders = {Path(folder).name: Path(folder) for folder in self.manifest["folders"]}
        self.data = {name: Data.read(folder) for name, folder in self.folders.items()}
        for name, data in self.data.items():
            if data.sha != self.manifest["data"][name]:
                raise BadRequest(
                    f"{data.folder} is not what it was when {out} was run: its rows can't be "
                    f"scored any more"
                )
        self.cases = {
            (name, case.case_id): case for name, data in self.data.items() for case in data.cases
        }
        self.worlds = {name: _world(data.items, data.events) for name, data in self.data.items()}
        self.rows: dict[str, dict[CaseKey, list[RunRow]]] = defaultdict(lambda: defaultdict(list))
        self.probes: dict[str, dict[str, dict[str, RunRow]]] = defaultdict(
            lambda: defaultdict(dict)
        )
        self.missing = max(0, self._wanted() - self._read_rows())
        self._add_models_alone()
        self._add_bounds()
        self.scores = {
            arm: {key: self._score(key, repeats) for key, repeats in cases.items()}
            for arm, cases in self.rows.items()
        }

    def _wanted(self) -> int:
        """Returns how many rankings the run is to have; 0 if its folder doesn't say."""
        file = self.out / "wanted.json"
        return int(json.loads(file.read_text())["rankings"]) if file.exists() else 0

    def _read_rows(self) -> int:
        """Reads the rows into `rows` and `probes`; returns how many there are. A hundred thousand
        are to fit in memory: rows share their ids, and fields that no report needs are left out.
        Raises `BadRequest` if the baseline has no row yet."""
        known: dict[str, str] = {}
        count = 0
        for row in rows(self.out):
            count += 1
            ids = [known.setdefault(item, item) for item in row.items]
            light = replace(
                row,
                items=ids,
                scores=(),
                prior_values=(),
                model_values=(),
                likelihoods=(),
                asked=(),
                said=(),
            )
            if row.probe:
                self.probes[row.arm][row.case][row.probe] = light
            else:
                self.rows[row.arm][row.data, row.case].append(light)
        if not any(self.baseline in {arm, arm.partition(" ")[0]} for arm in self.rows):
            raise BadRequest(
                f"{self.out}: no row of the baseline {self.baseline!r} yet: let the run go on"
            )
        places = {key: place for place, key in enumerate(self.cases)}
        for arm, cases in self.rows.items():
            ordered = sorted(cases.items(), key=lambda pair: places[pair[0]])
            self.rows[arm] = defaultdict(list, ordered)
        return count

    def _add_models_alone(self) -> None:
        """Adds an arm, named with `ALONE` in front, for each model's own order without the
        prior."""
        for arm in list(self.rows):
            for key, (row, *_) in list(self.rows[arm].items()):
                if row.order:
                    self.rows[ALONE + arm][key] = [replace(row, items=row.behind(row.order))]

    def _add_bounds(self) -> None:
        """Adds the arms `shuffled` and `oracle` for each prior that a model is asked beside. They
        reorder the window that the model sees: by chance (ten shuffles of each case), and with all
        relevant items first."""
        for prior in [arm for arm in self.rows if arm.partition(" ")[0] == "prior"]:
            if prior in self._named_priors:
                continue
            size = self.manifest["windows"][prior]
            for key, (row, *_) in list(self.rows[prior].items()):
                window, rest = row.items[:size], row.items[size:]
                relevant = set(self.cases[key].relevant)
                dice = Random(f"{self.seed} {key}")
                best = sorted(window, key=lambda item: item not in relevant)
                mixed = [dice.sample(window, len(window)) for _ in range(SHUFFLES)]
                self.rows[sibling(CEILING, prior)][key] = [replace(row, items=[*best, *rest])]
                self.rows[sibling(FLOOR, prior)][key] = [
                    replace(row, items=[*order, *rest]) for order in mixed
                ]

    @property
    def _named_priors(self) -> set[str]:
        """The names of the arms that the suite's `priors` make: arms of their own, not
        baselines."""
        return {f"prior {name}" for name in self.manifest["suite"].get("priors", {})}

    def baseline_of(self, arm: str) -> str:
        """Returns the baseline for an arm: the one of the same settings and data, else the one that
        the suite names."""
        if arm in self._named_priors:
            return self.baseline
        same_settings = sibling(self.baseline, arm)
        return same_settings if same_settings in self.rows else self.baseline

    def is_baseline(self, arm: str) -> bool:
        return arm == self.baseline_of(arm)

    def _score(self, key: CaseKey, repeats: Sequence[RunRow]) -> list[float]:
        relevant, world = frozenset(self.cases[key].relevant), self.worlds[key[0]]
        metrics = [metric(name).of for name in self.names]
        values = [[value(row.items, relevant, world) for value in metrics] for row in repeats]
        return [sum(column) / len(values) for column in zip(*values, strict=True)]

    def column(self, arm: str, keys: Iterable[CaseKey], name: str | None = None) -> list[float]:
        """An arm's values of a metric, by default the first, for these cases."""
        place = self.names.index(name) if name is not None else 0
        return [self.scores[arm][key][place] for key in keys]

    def shared(self, arm: str, reference: str) -> list[CaseKey]:
        """The cases that both arms have, in the first one's order."""
        return [key for key in self.scores[arm] if key in self.scores[reference]]

    def difference(self, arm: str, reference: str, looks: int = 1) -> stats.Paired | None:
        """Returns the difference of two arms, `arm` less `reference`, in the first metric, over the
        cases that both have; None where there are none. `looks`: how many comparisons are made in
        all."""
        keys = self.shared(arm, reference) if reference in self.scores else []
        if not keys:
            return None
        return stats.paired(
            self.column(arm, keys), self.column(reference, keys), self.seed, looks=looks
        )


def is_bound(arm: str) -> bool:
    """Returns whether the arm is not the suite's own but one that a report adds to say what could
    be reached: `shuffled`, `oracle`, or a model alone."""
    return arm.partition(" ")[0] in {FLOOR, CEILING} or arm.startswith(ALONE)


def _world(items: Sequence[Item], events: Sequence[Event]) -> World:
    acted = {(event.user_id, event.item_id) for event in events if event.item_id is not None}
    return World(
        facts={item.id: frozenset(item.facts()) for item in items},
        actors=Counter(item for _, item in acted if item is not None),
        people=len({user for user, _ in acted}),
    )
