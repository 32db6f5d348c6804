"""The local engine for machines without one: fetches and converts weights and data sets, starts and
watches a vLLM."""
