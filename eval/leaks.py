"""Does a prompt give the answers away? Arms are flagged whose prompt names what is asked for."""

import json
from random import Random

from eval.rows import RunJob
from eval.run import Run
from eval.stats import fisher
from eval.suite import Arm

LEAK_CASES = 50
"""The most cases of an arm for which prompts are made and read."""
OTHERS = 100
"""The most other items that the answers of a case are compared with."""


async def find_leaks(run: Run) -> dict[str, str]:
    """Returns by arm a sentence on each arm whose prompts name the answers before the candidates
    do. Asks no model; writes `leaks.json`, which reports read.

    A prompt may name any title by chance (the next film of a series): an arm is flagged if its
    prompts name answers more often than other items, by Fisher's exact test at 0.001."""
    leaks = {}
    for arm in run.arms:
        if arm.model is not None and arm.strategy != "likelihood":
            leak = await _leak(run, arm)
            if leak:
                leaks[arm.name] = leak
    (run.out / "leaks.json").write_text(json.dumps(leaks) + "\n")
    return leaks


async def _leak(run: Run, arm: Arm) -> str:
    """What the arm's prompts give away; "" if they name answers no more often than other items."""
    service, data = await run.service(arm), run.data[arm.data]
    titles = {item.id: item.title.casefold() for item in data.items}
    hits = answers = other_hits = others = 0
    for case in run.cases(arm)[:LEAK_CASES]:
        prompt = await service.previewer.preview(run.request(RunJob(arm, case)), "rank")
        text = "\n".join(message["content"] for message in prompt.messages)
        before = _before_candidates(text).casefold()
        relevant = set(case.relevant)
        free = sorted(titles.keys() - relevant - set(case.history))
        sample = Random(case.case_id).sample(free, min(OTHERS, len(free)))
        hits += sum(_names(before, titles.get(item, "")) for item in relevant)
        answers += len(relevant)
        other_hits += sum(_names(before, titles[item]) for item in sample)
        others += len(sample)
    if not hits or fisher(hits, answers, other_hits, others) >= 0.001:
        return ""
    return f"its prompt names {hits} of {answers} answers, and {other_hits} of {others} other items"


def _names(text: str, title: str) -> bool:
    return len(title) > 3 and title in text


def _before_candidates(text: str) -> str:
    """The text without the candidates' lines, which begin with a letter and a bracket: what stands
    there is no leak."""
    return "\n".join(
        line for line in text.splitlines() if not (line[1:2] == ")" and line[:1].isupper())
    )
