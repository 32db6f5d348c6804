"""The real `tiny` in this process."""

import asyncio
from pathlib import Path

import pytest

from service.build import build
from service.config import Settings
from service.errors import InvalidOutput, ModelUnreachable
from service.llm import Asked
from service.llm.local import Local
from tests.conftest import MODELS, sent
from tests.scripted import ScriptedLLM

CONTEXT = ("Films that one person liked:\n", "Alien\n", "The Thing\n")
TITLES = ["The Shining", "The Fly", "Before Sunrise", "Amélie", "沙丘", "\N{GHOST}", "x" * 300]


@pytest.fixture(scope="module")
def local() -> Local:
    return Local("tiny", MODELS / "tiny", threads=2, cache_mb=64)


@pytest.fixture(scope="module")
def one_by_one(local: Local) -> dict[str, float]:
    """Each title after the context by the general classes, in float32, alone."""
    import torch  # seconds, for who collects this file and runs another
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM

    tokenizer = Tokenizer.from_file(str(MODELS / "tiny" / "tokenizer.json"))
    model = AutoModelForCausalLM.from_pretrained(MODELS / "tiny", dtype=torch.float32).eval()
    before = [
        token
        for piece in CONTEXT
        for token in tokenizer.encode(piece, add_special_tokens=False).ids
    ]
    found = {}
    for title in TITLES:
        ids = tokenizer.encode(title, add_special_tokens=False).ids
        with torch.inference_mode():
            logs = model(input_ids=torch.tensor([before + ids])).logits[0].log_softmax(-1)
        found[title] = sum(float(logs[len(before) - 1 + n, token]) for n, token in enumerate(ids))
    return found


async def test_all_in_one_pass_are_as_likely_as_one_by_one(
    local: Local, one_by_one: dict[str, float]
) -> None:
    found = await local.loglikelihoods([sent(CONTEXT, title) for title in TITLES])
    for title, value in zip(TITLES, found.values, strict=True):
        assert value == pytest.approx(
            one_by_one[title], rel=0.05, abs=1.0
        )  # bfloat16 where the machine is fast in it


async def test_a_kept_context_is_not_read_again_and_changes_nothing(
    local: Local, one_by_one: dict[str, float]
) -> None:
    asked = [sent(CONTEXT, title) for title in TITLES]
    await local.loglikelihoods(asked)
    again = await local.loglikelihoods(asked[:3])
    assert again.usage.cached_tokens > 5
    longer = await local.loglikelihoods([sent((*CONTEXT, "Heat\n"), TITLES[0])])
    assert longer.usage.cached_tokens == again.usage.cached_tokens
    for title, value in zip(TITLES[:3], again.values, strict=True):
        assert value == pytest.approx(one_by_one[title], rel=0.05, abs=1.0)


async def test_contexts_of_all_kinds_share_a_pass_without_seeing_each_other(local: Local) -> None:
    mixed = [
        sent(CONTEXT, "The Fly"),
        sent(CONTEXT[:2], "The Fly"),
        sent(CONTEXT[:1], "The Fly"),
        sent(("x",), "The Fly"),
    ]
    together = (await local.loglikelihoods(mixed)).values
    alone = [(await local.loglikelihoods([one])).values[0] for one in mixed]
    assert together == pytest.approx(alone, rel=0.05, abs=1.0)


async def test_apart_a_number_is_the_same_to_the_last_bit_whatever_else_is_asked(
    local: Local, one_by_one: dict[str, float]
) -> None:
    contexts = [
        CONTEXT,
        CONTEXT[:2],
        (*CONTEXT, "Heat\n"),
        *((*CONTEXT[:1], f"{'A long title ' * 40}{n}\n") for n in range(10)),
    ]
    everything = [sent(one, title) for one in contexts for title in TITLES[:3]]
    found = dict(
        zip(everything, (await local.loglikelihoods(everything, apart=True)).values, strict=True)
    )
    await local.loglikelihoods([sent(CONTEXT, "Alien")])
    one = [sent(context, TITLES[2]) for context in contexts]
    alone = await local.loglikelihoods([*one, sent(CONTEXT[:1], TITLES[2])], apart=True)
    assert alone.values[:-1] == [found[asked] for asked in one]
    assert alone.usage.cached_tokens == 0
    assert (await local.loglikelihoods([], apart=True)).values == []
    for title in TITLES[:3]:
        assert found[sent(CONTEXT, title)] == pytest.approx(one_by_one[title], rel=0.05, abs=1.0)


async def test_more_than_fits_a_pass_is_scored_in_several(local: Local) -> None:
    asked = [sent(CONTEXT, f"{n} {title * 3}") for n in range(60) for title in TITLES[:5]]
    found = await local.loglikelihoods(asked)
    assert len(found.values) == len(asked)
    assert all(value < 0 for value in found.values)


async def test_what_is_kept_is_bounded() -> None:
    small = Local("tiny", MODELS / "tiny", threads=2, cache_mb=1)
    for n in range(8):
        await small.loglikelihoods(
            [sent((f"Films that person {n} liked:\n", *(f"Film {m}\n" for m in range(5))), "Heat")]
        )
    assert small.held <= 2**20


async def test_nothing_to_score_and_no_weights_are_errors_of_the_model(
    local: Local, tmp_path: Path
) -> None:
    with pytest.raises(InvalidOutput):
        await local.loglikelihoods([sent(CONTEXT, "")])
    with pytest.raises(InvalidOutput):
        await local.loglikelihoods([sent((), "Heat")])
    with pytest.raises(InvalidOutput):
        await local.loglikelihoods([sent(CONTEXT, "Heat"), sent(CONTEXT, "")], apart=True)
    with pytest.raises(ModelUnreachable, match="no weights"):
        await Local("ghost", tmp_path / "ghost", threads=1, cache_mb=1).loglikelihoods(
            [sent(CONTEXT, "Heat")]
        )


async def test_all_passes_of_a_call_keep_its_first_context_alone() -> None:
    local = Local("tiny", MODELS / "tiny", threads=2, cache_mb=64)
    await local.loglikelihoods([sent(CONTEXT, "Heat")])
    held = local.held
    others = [
        sent((*CONTEXT[:2], f"{n} {title}\n"), title) for n in range(60) for title in TITLES[:4]
    ]
    found = await local.loglikelihoods([sent(CONTEXT, "Heat"), *others])
    assert local.held == held
    assert found.usage.cached_tokens > 20  # in each of several passes


async def test_two_that_are_loaded_at_once_do_not_mix_their_numbers() -> None:
    """As a service does whose configuration names two: torch has one default type for a whole
    process."""
    both = [Local(alias, MODELS / "tiny", threads=1, cache_mb=8) for alias in ("one", "two")]
    found = await asyncio.gather(
        *(local.loglikelihoods([sent(CONTEXT, "Heat")], apart=True) for local in both)
    )
    assert all(one.values[0] < 0 for one in found)


async def test_a_processor_without_avx512_scores_in_float32(
    one_by_one: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    local = Local("tiny", MODELS / "tiny", threads=1, cache_mb=8)
    found = await local.loglikelihoods([sent(CONTEXT, title) for title in TITLES])
    for title, value in zip(TITLES, found.values, strict=True):
        assert value == pytest.approx(one_by_one[title], abs=0.01)


async def test_weights_without_work_are_not_loaded(settings: Settings) -> None:
    """They cost no money, but gigabytes of the service's memory."""
    idle: list[Asked] = []

    def likely(asked: Asked) -> float:
        idle.append(asked)
        return -1.0

    alone = settings.changed({"models": {"idle": {"backend": "local", "model": "idle"}}})
    models = {"tiny": ScriptedLLM(lambda call: "A", alias="tiny")}
    service = await build(
        alone,
        llms=models,
        scorers={"idle": ScriptedLLM(lambda call: "", alias="idle", likely=likely)},
    )
    work = asyncio.create_task(service.jobs.run())
    while "capabilities" not in (await service.diagnostics.readiness())["model:rank"]:
        assert not work.done()
        await asyncio.sleep(0.01)
    work.cancel()
    await asyncio.wait([work])
    await service.close()
    assert idle == []
