"""A plain relay: verify the signature, map the fields to one CleverTap event, upload it, answer.

It has no profiles, revenue, limits, claims, queues, retries or deadline.
"""

import base64
import hashlib
import hmac
import json
import os

import boto3
import urllib3

ACCOUNT_ID = os.environ["CLEVERTAP_ACCOUNT_ID"]
UPLOAD_URL = os.environ["CLEVERTAP_API_URL"] + "/1/upload"

response = boto3.client("secretsmanager").get_secret_value(SecretId=os.environ["SECRET_ID"])
secret = json.loads(response["SecretString"])
http = urllib3.PoolManager(ca_certs=os.environ.get("AWS_CA_BUNDLE"))


def handler(request):
    try:
        raw = base64.b64decode(request["body"]) if request["isBase64Encoded"] else request["body"].encode()
        if not is_signed(request["headers"], raw):
            return answer(401, "unauthorized")
        event = json.loads(raw)
        upload(to_records(event))
        print(json.dumps({"level": "INFO", "event_id": event.get("event_id"), "outcome": "relayed"}), flush=True)
        return answer(200, "relayed")
    except Exception as error:
        print(json.dumps({"level": "ERROR", "message": f"the event was not relayed: {error}"}), flush=True)
        return answer(503, "unavailable")


def is_signed(headers, raw):
    signed = headers.get("x-purchasely-timestamp", "").encode() + raw
    expected = hmac.new(secret["purchasely_shared_secret"].encode(), signed, hashlib.sha256).hexdigest()
    return hmac.compare_digest(headers.get("x-purchasely-request-signature", "").encode(), expected.encode())


def to_records(event):
    """One event record: flat fields unchanged, times as CleverTap dates."""
    properties = {}
    for field, value in event.items():
        if field.endswith("_ms"):
            properties[field[:-3]] = f"$D_{value // 1000}"
        elif f"{field}_ms" not in event and isinstance(value, (str, int, float)):
            properties[field] = value
    record = {"identity": event["user_id"], "type": "event", "evtName": event["event_name"], "evtData": properties}
    if "event_created_at_ms" in event:
        record["ts"] = event["event_created_at_ms"] // 1000
    return {"d": [record]}


def upload(body):
    response = http.request(
        "POST",
        UPLOAD_URL,
        body=json.dumps(body).encode(),
        headers={
            "X-CleverTap-Account-Id": ACCOUNT_ID,
            "X-CleverTap-Passcode": secret["clevertap_passcode"],
            "Content-Type": "application/json; charset=utf-8",
        },
    )
    status = json.loads(response.data).get("status")
    if response.status != 200 or status != "success":
        raise RuntimeError(f"CleverTap answered {response.status} {status}")


def answer(status, word):
    return {
        "statusCode": status,
        "headers": {"content-type": "application/json"},
        "body": json.dumps({"status": word}),
    }
