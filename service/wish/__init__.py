"""Reads wishes: what somebody asks for in words, in any of seven languages, as conditions on a
catalogue.

Rules read what has a name: values of the catalogue and what they are called in each language,
numbers, titles, and what of that is refused. A model is asked what the other words mean.
"""

from service.wish.asking import ANSWERS, answered, choosable, doubt, question, refutes
from service.wish.joining import corrected, joined, turned
from service.wish.rules import read
from service.wish.titles import known, possible
from service.wish.vocabulary import Vocabulary

__all__ = [
    "ANSWERS",
    "Vocabulary",
    "answered",
    "choosable",
    "corrected",
    "doubt",
    "joined",
    "known",
    "possible",
    "question",
    "read",
    "refutes",
    "turned",
]
