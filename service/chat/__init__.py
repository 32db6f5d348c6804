"""A conversation becomes a request, and a ranking becomes prose.

Turns are read by rules where a rule can tell (a number, a title, "I have seen it", "not that"),
else by likeness to examples; the model only chooses among the catalogue's own values what a wish
may mean. So nothing that anybody writes leads out of the role, and every sentence of an answer is
either one of ours or a checked reason.
"""

from service.chat.answers import answered, described, justified, opening
from service.chat.kinds import EXAMPLES, Kind, kind_of
from service.chat.picks import Named, names, pick, shown_in
from service.chat.reading import Remark, Talk, read
from service.chat.wishes import choice, choosable
from service.chat.words import Words, plain, shown, spoken

__all__ = [
    "EXAMPLES",
    "Kind",
    "Named",
    "Remark",
    "Talk",
    "Words",
    "answered",
    "choice",
    "choosable",
    "described",
    "justified",
    "kind_of",
    "names",
    "opening",
    "pick",
    "plain",
    "read",
    "shown",
    "shown_in",
    "spoken",
]
