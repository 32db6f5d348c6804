"""`python -m service.cli` is `whyrank`."""

from service.cli import app

app()
