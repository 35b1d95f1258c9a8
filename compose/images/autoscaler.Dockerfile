# The autoscaler alone. It is given the engine's socket, so nothing that reads what strangers send is in here.
ARG BASE
FROM ${BASE} AS build
COPY requirements.txt /build/
RUN python3 -m venv /build/pip && python3 -m venv --without-pip /opt/sentinel \
 && /build/pip/bin/pip --python /opt/sentinel/bin/python install --quiet --no-cache-dir --only-binary :all: \
    --requirement /build/requirements.txt
COPY app /opt/app
ENV PYTHONPATH=/opt/app
RUN /opt/sentinel/bin/python -m compileall -q /opt/app \
 && /opt/sentinel/bin/python -c "import services.autoscaler.__main__, services.autoscaler.containers, docker, services.stream.kafka"

FROM ${BASE}
COPY --from=build /opt/sentinel /opt/sentinel
COPY --from=build /opt/app /opt/app
COPY probe.py /opt/probe.py
ENV PATH=/opt/sentinel/bin:$PATH PYTHONPATH=/opt/app PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 10001:10001
CMD ["python", "-P", "-m", "services.autoscaler"]
