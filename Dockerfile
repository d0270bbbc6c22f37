# One image per member: docker build --build-arg SERVICE=gateway .
# SERVICE names a folder of services/, or `dev` for all of them with the model: what compose.yaml runs first.
FROM python:3.11-slim-bookworm AS build
ARG SERVICE
WORKDIR /src
COPY requirements.lock pyproject.toml ./
RUN sed -n '/^uv==/,/^[a-z].*==/p' requirements.lock | sed '$d' > uv.lock \
    && pip install --no-cache-dir --no-deps --require-hashes -r uv.lock
COPY libs libs
COPY proto proto
COPY services services
COPY dev dev
# What the member needs, in the versions and with the hashes of the one lock; then the member itself.
RUN set -eu; members=services/$SERVICE; [ "$SERVICE" != dev ] || members="dev $(echo services/*)"; \
    uv pip compile --quiet --no-header --no-annotate -c requirements.lock $(printf '%s/pyproject.toml ' $members) -o wanted; \
    awk 'NR == FNR {wanted[$1] = 1; next} /^[a-z0-9]/ {keep = ($1 in wanted)} keep' wanted requirements.lock > subset.lock; \
    uv venv --quiet /app; \
    uv pip install --quiet --python /app/bin/python --no-deps --require-hashes -r subset.lock; \
    uv pip install --quiet --python /app/bin/python --no-deps ./libs/* ./proto $(printf './%s ' $members)

FROM python:3.11-slim-bookworm
ARG SERVICE
COPY --from=build /app /app
COPY --from=build /src/proto/topics /app/topics
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin argosy \
    && mkdir /data && chown argosy /data \
    && echo "exec /app/bin/python -m $(echo "$SERVICE" | tr - _) \"\$@\"" > /app/run
USER 10001
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1 MALLOC_ARENA_MAX=2 ORT_DISABLE_TELEMETRY=1
# A shell only to read the name of the package: `exec` gives its place, and SIGTERM, to the service.
ENTRYPOINT ["sh", "/app/run"]
