"""The local engine, for people without one: weights fetched and converted, a vLLM started and
watched."""
