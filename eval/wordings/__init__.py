"""Wordings of wishes in seven languages, from which `eval.wishes` makes cases: those that the rules
were written with, and in `heldout/` those that they were not."""
