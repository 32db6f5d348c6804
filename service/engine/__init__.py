"""The local engine, a vLLM of our own: starts and watches it, fetches and converts its weights, and
fetches public data sets."""
