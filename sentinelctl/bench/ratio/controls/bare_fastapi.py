"""A bare FastAPI handler that checks the signature, parses the body, and stores nothing."""

import hashlib
import hmac
import json
import os

from fastapi import FastAPI, Request, Response

app = FastAPI()
secret = os.environ["SENTINEL_WEBHOOK_SECRET"].encode()


@app.post("/webhook")
async def webhook(request: Request) -> Response:
    body = await request.body()
    expected = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(request.headers.get("x-hub-signature-256", ""), expected):
        return Response(status_code=401)
    json.loads(body)
    return Response(status_code=202)
