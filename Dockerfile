# The service in a container. GPU by default; for a machine without one:
#   docker build --build-arg DEVICE=cpu -t cai .
# Run it with a volume for what it writes and one for your constitutions:
#   docker run --restart unless-stopped -p 8000:8000 -v cai-home:/data -v ./constitutions:/constitutions \
#     -v ./keys.yaml:/keys.yaml:ro cai serve --host 0.0.0.0 --api-key-file /keys.yaml
ARG DEVICE=gpu

FROM nvidia/cuda:13.0.2-runtime-ubuntu24.04 AS base-gpu
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-dev python3-venv gcc g++ \
    && rm -rf /var/lib/apt/lists/*

FROM python:3.11-slim-bookworm AS base-cpu
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc g++ libgomp1 libnuma1 \
    && rm -rf /var/lib/apt/lists/*

FROM base-${DEVICE} AS service
ARG DEVICE
ENV PYTHONUNBUFFERED=1 \
    PATH=/opt/cai/.venv/bin:$PATH \
    CAI_HOME=/data \
    CAI_CONSTITUTIONS=/constitutions \
    HF_HOME=/data/huggingface
WORKDIR /opt/cai
# The locked packages first: they change less often than the code.
COPY requirements/ requirements/
RUN python3 -m venv .venv \
    && .venv/bin/pip install --no-cache-dir --no-deps -r requirements/${DEVICE}.txt
COPY pyproject.toml README.md LICENSE ./
COPY cai/ cai/
COPY server/ server/
RUN .venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation .
COPY constitutions/ /constitutions/
RUN useradd --system --create-home --uid 10001 cai \
    && mkdir -p /data && chown -R cai:cai /data /constitutions
USER cai
VOLUME ["/data", "/constitutions"]
EXPOSE 8000
# A model takes a while to load; /healthz answers as soon as the process listens.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["cai"]
CMD ["serve", "--host", "127.0.0.1"]
