# The Python roles: webhook, extractor and publisher, one image, each started by its own command.
ARG BASE
FROM ${BASE} AS build
COPY requirements.txt /build/
RUN python3 -m venv /build/pip && python3 -m venv --without-pip /opt/sentinel \
 && /build/pip/bin/pip --python /opt/sentinel/bin/python install --quiet --no-cache-dir --only-binary :all: \
    --requirement /build/requirements.txt
COPY app /opt/app
ENV PYTHONPATH=/opt/app
RUN /opt/sentinel/bin/python -m compileall -q /opt/app \
 && /opt/sentinel/bin/python -c "import services.webhook.__main__, services.extractor.__main__, services.publisher.__main__" \
 && /opt/sentinel/bin/python -c "import services.stream.kafka, services.claims.redis"

FROM ${BASE}
COPY --from=build /opt/sentinel /opt/sentinel
COPY --from=build /opt/app /opt/app
COPY probe.py /opt/probe.py
ENV PATH=/opt/sentinel/bin:$PATH PYTHONPATH=/opt/app PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 10001:10001
CMD ["python", "-P", "-m", "services.webhook"]
