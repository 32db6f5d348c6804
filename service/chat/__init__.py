"""A conversation becomes a request, and a ranking becomes prose.

Turns are read by rules where a rule can tell (a number, a title, "I have seen it", "not that"),
else by likeness to examples; the model only chooses among the catalogue's own values what a wish
may mean. So nothing that anybody writes leads out of the role, and every sentence of an answer is
either one of ours or a checked reason.
"""

from service.chat.answers import Words, answered, described, justified, opening, spoken
from service.chat.picks import names, pick, shown_in
from service.chat.reading import Kind, Talk, read

__all__ = [
    "Kind",
    "Talk",
    "Words",
    "answered",
    "described",
    "justified",
    "names",
    "opening",
    "pick",
    "read",
    "shown_in",
    "spoken",
]
