"""A FastAPI handler that checks the signature, parses the body, and waits in it for one produce to Kafka."""

import hashlib
import hmac
import json
import os

from fastapi import FastAPI, Request, Response
from kafka import KafkaProducer

app = FastAPI()
secret = os.environ["SENTINEL_WEBHOOK_SECRET"].encode()
topic = os.environ["TOPIC"]
producer = KafkaProducer(bootstrap_servers=os.environ["BOOTSTRAP"], acks="all")


@app.post("/webhook")
async def webhook(request: Request) -> Response:
    body = await request.body()
    expected = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(request.headers.get("x-hub-signature-256", ""), expected):
        return Response(status_code=401)
    json.loads(body)
    producer.send(topic, body).get(timeout=10)
    return Response(status_code=202)
