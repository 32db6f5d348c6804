"""A conversation becomes a request, and a ranking becomes prose.

Turns are read by rules where a rule can tell (a number, a title, "I have seen it", "not that"),
else by likeness to examples; the model only chooses among the catalogue's own values what a wish
may mean. So nothing that anybody writes leads out of the role, and every sentence of an answer is
either one of ours or a checked reason.
"""
