"""Converts a conversation into a request for recommendations, and a ranking into prose.

Turns are read by rules where a rule can tell (a number, a title, "I have seen it", "not that"),
else by their likeness to examples; a model only chooses which of the catalogue's own values a wish
may mean. So no text of a user leads the service out of its role, and answers consist of fixed
phrases, text of the catalogue and checked reasons.
"""
