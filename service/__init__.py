"""whyrank: candidates retrieved, ranked by a language model, and justified."""

import os

__version__ = "0.1.0"

os.environ.setdefault(
    "ORT_DISABLE_TELEMETRY", "1"
)  # before onnxruntime, which would tell its maker of this machine
