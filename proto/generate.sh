#!/bin/sh
# Regenerates the committed Python code from the .proto files; `make check` fails when it differs.
set -eu
cd "$(dirname "$0")"
"${PYTHON:-python}" -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. sentinel/v1/inference.proto sentinel/v1/events.proto
rm -f sentinel/v1/events_pb2_grpc.py
