"""whyrank: candidates retrieved, ranked by a language model, and justified."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before onnxruntime, which would tell its maker of this machine
