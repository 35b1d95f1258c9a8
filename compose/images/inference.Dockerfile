# The inference server and its weights. No torch: the ONNX engine serves.
ARG BASE
FROM ${BASE} AS build
COPY requirements.txt /build/
RUN python3 -m venv /build/pip && python3 -m venv --without-pip /opt/sentinel \
 && /build/pip/bin/pip --python /opt/sentinel/bin/python install --quiet --no-cache-dir --only-binary :all: \
    --requirement /build/requirements.txt \
 && find /opt/sentinel -type d -name tests -prune -exec rm -rf {} + \
 && cd /opt/sentinel/lib/python3*/site-packages/onnxruntime \
 && rm -rf backend datasets quantization tools transformers capi/libonnxruntime.so.*  # the binding holds that library itself
COPY app /opt/app
ENV PYTHONPATH=/opt/app
RUN /opt/sentinel/bin/python -m compileall -q /opt/app \
 && /opt/sentinel/bin/python -c "import services.inference.__main__, services.stream.kafka; from model.engine import load_engine; load_engine('onnx')"

FROM ${BASE}
COPY --from=build /opt/sentinel /opt/sentinel
COPY --from=build /opt/app /opt/app
COPY probe.py /opt/probe.py
ENV PATH=/opt/sentinel/bin:$PATH PYTHONPATH=/opt/app PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 10001:10001
CMD ["python", "-P", "-m", "services.inference"]
