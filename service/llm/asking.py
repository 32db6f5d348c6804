"""Asks a model for a whole answer."""

from contextlib import aclosing

from service.errors import InvalidOutput
from service.llm import LLM, Call, Piece
from service.llm.thinking import answer_of

LONGEST = 64_000
"""Longest answer that is accepted, in characters; a server that no grammar binds may send any
number."""


async def ask(llm: LLM, call: Call) -> Piece:
    """Returns the model's whole answer; cancelling the caller stops the model. Raises
    `InvalidOutput` if the answer is longer than `LONGEST` or lacks the log-probabilities asked
    for."""
    text, logs = "", tuple[float, ...]()
    async with aclosing(llm.stream(call)) as pieces:
        async for piece in pieces:
            text += piece.text
            if len(text) > LONGEST:
                raise InvalidOutput("an answer without an end")
            logs = piece.logs or logs
    if call.tokens and not logs:
        raise InvalidOutput("no log-probabilities")
    return Piece(answer_of(text), logs=logs)
