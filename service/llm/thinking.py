"""Takes a reasoning model's thoughts, `<think>…</think>`, closed or not, out of its answers."""

import re

OPEN = re.compile(r"<think(?:ing)?>")
CLOSE = re.compile(r"</think(?:ing)?>")
TAGS = ("<think>", "<thinking>", "</think>", "</thinking>")


class Thoughts:
    """Removes thoughts from a stream, piece by piece; a tag may be cut anywhere between two pieces.
    White space before the answer is removed too."""

    def __init__(self) -> None:
        self._held = ""
        self._thinking = self._begun = False

    def without(self, piece: str) -> str:
        """Returns what the next piece adds to the answer. The beginning of a tag is held back until
        the tag is whole."""
        text, answer = self._held + piece, ""
        while tag := (CLOSE if self._thinking else OPEN).search(text):
            answer += "" if self._thinking else text[: tag.start()]
            text, self._thinking = text[tag.end() :], not self._thinking
        end = len(text) - _begun_tag(text)
        self._held = text[end:]
        return self._stripped(answer + ("" if self._thinking else text[:end]))

    def rest(self) -> str:
        """Returns, at the end of the stream, what was held back as the beginning of a tag that
        never came; an empty text within an unclosed thought."""
        held, self._held = self._held, ""
        return "" if self._thinking else self._stripped(held)

    def _stripped(self, answer: str) -> str:
        """Returns a part of the answer, without the white space at the answer's beginning."""
        answer = answer if self._begun else answer.lstrip()
        self._begun = self._begun or bool(answer)
        return answer


def _begun_tag(text: str) -> int:
    """How many of the last characters may be the beginning of a tag."""
    start = text.rfind("<")
    begun = start >= 0 and any(tag.startswith(text[start:]) for tag in TAGS)
    return len(text) - start if begun else 0


def answer_of(text: str) -> str:
    """Returns a whole answer without its thoughts, for a model whose prompt opens the thoughts: it
    writes only their closing tag."""
    return CLOSE.split(text)[-1]
