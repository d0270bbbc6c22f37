# One image per service: docker build --build-arg SERVICE=gateway .   (make images builds all five)
# SERVICE names a folder of services/, or `dev` for all of them with the model: what compose.yaml runs first.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG SERVICE
# Packages to leave out, separated by spaces: "numpy onnxruntime" of an inference-worker without models of its own.
ARG WITHOUT=""
WORKDIR /src
COPY requirements.lock pyproject.toml ./
RUN sed -n '/^uv==/,/^[a-z].*==/p' requirements.lock | sed '$d' > uv.lock \
    && pip install --quiet --root-user-action ignore --no-cache-dir --no-deps --require-hashes -r uv.lock
COPY libs libs
COPY proto proto
COPY services services
COPY dev dev
# What the service needs, in the versions and with the hashes of the one lock; then the service itself, from wheels that
# uv builds without a download.
RUN set -eu; members=services/$SERVICE; [ "$SERVICE" != dev ] || members="dev $(echo services/*)"; \
    uv pip compile --quiet --no-header --no-annotate -c requirements.lock $(printf '%s/pyproject.toml ' $members) -o wanted; \
    for name in $WITHOUT; do grep -q "^$name==" wanted || { echo "$name is not needed anyway"; exit 1; }; sed -i "/^$name==/d" wanted; done; \
    awk 'NR == FNR {wanted[$1] = 1; next} /^[a-z0-9]/ {keep = ($1 in wanted)} keep' wanted requirements.lock > subset.lock; \
    uv venv --quiet /app; \
    uv pip install --quiet --no-cache --python /app/bin/python --no-deps --require-hashes -r subset.lock; \
    for member in libs/* proto $members; do UV_OFFLINE=1 uv build --quiet --no-cache --wheel --out-dir wheels "$member"; done; \
    uv pip install --quiet --no-cache --python /app/bin/python --no-deps --offline wheels/*.whl
# What a service never loads goes; `dev` also converts models. The root of the running container cannot be written, so the
# byte code is made here; its source never changes there, so it is not compared.
COPY scripts/slim_image.py ./
RUN cd /app/lib/python3*/site-packages && { [ "$SERVICE" = dev ] || python /src/slim_image.py .; } \
    && { /app/bin/python -m compileall -q -j 0 -x litellm/proxy --invalidation-mode unchecked-hash . > /src/compile.log || \
         { cat /src/compile.log; ! grep -qE '/(argosy|chassis|rpc|values)/' /src/compile.log; }; } \
    && { [ "$SERVICE" = dev ] || /app/bin/python -c "import $(echo "$SERVICE" | tr - _).main"; }

FROM ${PYTHON_IMAGE}
ARG SERVICE
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG PYTHON_IMAGE
LABEL org.opencontainers.image.title="argosy-${SERVICE}" \
      org.opencontainers.image.description="The ${SERVICE} of Argosy, an AI backend." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
COPY --from=build /app /app
COPY --from=build /src/proto/topics /app/topics
COPY LICENSE NOTICE /app/
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin argosy \
    && mkdir /data && chown argosy /data \
    && echo "exec /app/bin/python -m $(echo "$SERVICE" | tr - _) \"\$@\"" > /app/run
USER 10001:10001
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MALLOC_ARENA_MAX=2 ORT_DISABLE_TELEMETRY=1
# A shell only to read the name of the package: `exec` gives its place, and SIGTERM, to the service.
ENTRYPOINT ["sh", "/app/run"]
