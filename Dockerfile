# The worker. Without the embedded parts on purpose: a forgotten LEAD_ROUTER_KAFKA_URL or LEAD_ROUTER_REDIS_URL must
# fail, not route leads into a broker that lives in memory.
FROM python:3.11-slim AS wheels
WORKDIR /build
COPY requirements.lock .
# Installed first, so that what has no wheel is built with the locked setuptools.
RUN pip install --no-cache-dir --require-hashes --requirement requirements.lock
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --require-hashes --requirement requirements.lock --wheel-dir /wheels
COPY pyproject.toml README.md LICENSE ./
COPY topics topics
COPY scoring scoring
COPY router router
COPY bench bench
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .

FROM python:3.11-slim
# Only what lead-router itself needs is taken from the wheels, which were checked against the lock.
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels lead-router \
    && useradd --create-home --uid 10001 lead-router
USER lead-router
WORKDIR /home/lead-router
ENTRYPOINT ["lead-router"]
CMD ["worker"]
