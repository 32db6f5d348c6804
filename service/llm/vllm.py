"""A vLLM server by its OpenAI-compatible URL, with what only vLLM has: grammars, log-probabilities
of tokens by id and of a prompt."""

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

from service.errors import InvalidOutput, ModelIncapable
from service.llm import About, Likelihoods, OutgoingAsked, OutgoingCall
from service.llm.openai import Compatible, schema_body

REMEMBERED = 65_536
"""How many texts' tokens are kept."""


class VLLM(Compatible):
    """A model of a vLLM server."""

    def __init__(self, alias: str, *, model: str, base_url: str, **options: Any) -> None:
        super().__init__(alias, model=model, base_url=base_url, **options)
        self._tokens: dict[str, list[int]] = {}

    async def about(self) -> About:
        """By `/models` and vLLM's own `/version`, which stands beside /v1."""
        about = await super().about()
        identity = dict(about.identity)
        with suppress(ModelIncapable, InvalidOutput):
            answer = await self._get(str(self._client.base_url.copy_with(path="/version")))
            identity["version"] = str(answer["version"])
        return About(identity, about.context)

    def _body(self, call: OutgoingCall) -> dict[str, Any]:
        body = schema_body(call)
        if call.grammar:
            body["structured_outputs"] = {"grammar": call.grammar}
        if call.tokens:
            body |= {
                "logprobs": True,
                "logprob_token_ids": list(call.tokens),
                "return_tokens_as_token_ids": True,
            }
        return body

    def _logs(self, choice: Any, tokens: Sequence[int]) -> tuple[float, ...]:
        """Returns the log-probabilities of `tokens`. Raises `ModelIncapable` if the server left any
        out: a guess in its place would go unnoticed."""
        if choice.logprobs is None or not choice.logprobs.content:
            return ()
        listed = {entry.token: entry.logprob for entry in choice.logprobs.content[0].top_logprobs}
        logs = tuple(listed.get(f"token_id:{token}", -math.inf) for token in tokens)
        if not all(map(math.isfinite, logs)):
            raise ModelIncapable(
                f"{sum(map(math.isfinite, logs))} of {len(tokens)} log-probabilities came"
            )
        return logs

    async def token(self, word: str) -> int:
        tokens = await self._tokenized(word)
        if len(tokens) != 1:
            raise ModelIncapable(f"{word!r} is {len(tokens)} tokens")
        return tokens[0]

    async def loglikelihoods(
        self, asked: Sequence[OutgoingAsked], *, apart: bool = False
    ) -> Likelihoods:
        """By `prompt_logprobs`. For every text the server reads the context again, whatever its
        prefix cache holds."""
        contexts = [
            [token for piece in question.context for token in await self._tokenized(piece)]
            for question in asked
        ]
        texts = [await self._tokenized(question.text) for question in asked]
        if not all(contexts) or not all(texts):
            raise InvalidOutput("a context or text without tokens can't be scored")
        with self._translated():
            completion = await self._client.completions.create(
                model=self._model,
                prompt=[context + text for context, text in zip(contexts, texts, strict=True)],
                max_tokens=1,
                temperature=0,
                extra_body={"prompt_logprobs": 0},
            )
            # one entry for each token of the prompt, by prompt
            logs = {
                choice.index: cast(Any, choice).prompt_logprobs for choice in completion.choices
            }
            values: list[float] = []
            for n, (context, text) in enumerate(zip(contexts, texts, strict=True)):
                places = enumerate(text, len(context))
                values.append(
                    sum(float(logs[n][place][str(token)]["logprob"]) for place, token in places)
                )
        return Likelihoods(values, self._usage(completion.usage))

    async def _tokenized(self, text: str) -> list[int]:
        """A text's token ids, by vLLM's own `/tokenize`, which stands beside /v1."""
        if text not in self._tokens:
            if len(self._tokens) >= REMEMBERED:
                self._tokens.clear()
            with self._translated():
                url = self._client.base_url.copy_with(path="/tokenize")
                body = {"model": self._model, "prompt": text, "add_special_tokens": False}
                answer = await self._client.post(str(url), body=body, cast_to=dict[str, Any])
                self._tokens[text] = [int(token) for token in answer["tokens"]]
        return self._tokens[text]
