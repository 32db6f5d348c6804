"""whyrank: candidates retrieved, ranked by a language model, and justified."""

import os

__version__ = "0.1.0"

# before onnxruntime, which would tell its maker of this machine
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# before numpy: matrices of a request are so small that a second core only waits for the first
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
