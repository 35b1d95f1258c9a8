#!/bin/sh
# Regenerates the committed Python code from the .proto files. With --check, changes nothing and fails when it differs.
set -eu
cd "$(dirname "$0")"
out=.
if [ "${1:-}" = --check ]; then
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
fi
"${PYTHON:-python}" -m grpc_tools.protoc -I. --python_out="$out" --pyi_out="$out" sentinel/v1/inference.proto sentinel/v1/events.proto
"${PYTHON:-python}" -m grpc_tools.protoc -I. --grpc_python_out="$out" sentinel/v1/inference.proto
if [ "$out" != . ]; then
  for file in "$out"/sentinel/v1/*; do
    diff -u "sentinel/v1/$(basename "$file")" "$file" || { echo "generated code is stale: run 'make proto' and commit"; exit 1; }
  done
fi
