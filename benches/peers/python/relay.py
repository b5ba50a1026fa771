"""A relay with AWS's Powertools: verify the signature, claim the event, upload its profile and event, answer."""

import base64
import hashlib
import hmac
import json
import os
import time

import urllib3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities import parameters
from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)

ACCOUNT_ID = os.environ["CLEVERTAP_ACCOUNT_ID"]
UPLOAD_URL = os.environ["CLEVERTAP_API_URL"] + "/1/upload"
WITH_ACCESS = ("AUTO_RENEWING", "AUTO_RENEWING_CANCELED", "AUTO_RENEWING_CANCELLED", "IN_GRACE_PERIOD")
PROFILE = (
    "subscription_status plan product store store_country offer_type is_family_shared"
    " original_purchased_at effective_next_renewal_at"
).split()

logger = Logger(service="relay")
metrics = Metrics(namespace="Relay", service="relay")
table = DynamoDBPersistenceLayer(table_name=os.environ["DEDUPLICATION_TABLE"], key_attr="event_id")
config = IdempotencyConfig(event_key_jmespath="event_id", raise_on_no_idempotency_key=True, expires_after_seconds=2592000)
http = urllib3.PoolManager(ca_certs=os.environ.get("AWS_CA_BUNDLE"), timeout=6.5, retries=False)


@metrics.log_metrics
def handler(request, context):
    config.register_lambda_context(context)
    try:
        secret = parameters.get_secret(os.environ["SECRET_ID"], transform="json", max_age=300)
        raw = base64.b64decode(request["body"]) if request["isBase64Encoded"] else request["body"].encode()
        if not is_signed(request["headers"], raw, secret["purchasely_shared_secret"]):
            return answer(401, "unauthorized")
        event = json.loads(raw)
        outcome = relay(event=event, passcode=secret["clevertap_passcode"])
        metrics.add_metadata("event_id", event["event_id"])
        metrics.add_metadata("event_name", event["event_name"])
        metrics.add_metadata("outcome", outcome)
        metrics.add_metric("Relayed", MetricUnit.Count, 1)
        return answer(200, outcome)
    except Exception:
        logger.exception("the event was not relayed")
        metrics.add_metric("Failed", MetricUnit.Count, 1)
        return answer(503, "unavailable")


def is_signed(headers, raw, shared_secret):
    signed = headers.get("x-purchasely-timestamp", "").encode() + raw
    expected = hmac.new(shared_secret.encode(), signed, hashlib.sha256).hexdigest()
    return hmac.compare_digest(headers.get("x-purchasely-request-signature", "").encode(), expected.encode())


@idempotent_function(data_keyword_argument="event", persistence_store=table, config=config)
def relay(event, passcode):
    """Runs once for each event_id."""
    started_at = time.monotonic()
    headers = {
        "X-CleverTap-Account-Id": ACCOUNT_ID,
        "X-CleverTap-Passcode": passcode,
        "Content-Type": "application/json; charset=utf-8",
    }
    response = http.request("POST", UPLOAD_URL, body=json.dumps({"d": to_records(event)}).encode(), headers=headers)
    metrics.add_metric("UploadLatency", MetricUnit.Milliseconds, (time.monotonic() - started_at) * 1000)
    status = json.loads(response.data).get("status")
    if response.status != 200 or status != "success":
        raise RuntimeError(f"CleverTap answered {response.status} {status}")
    return "relayed"


def to_records(event):
    """The profile and the event: flat fields under their own names, times as CleverTap dates."""
    properties = {}
    for field, value in event.items():
        if field.endswith("_ms"):
            properties[field[:-3]] = f"$D_{value // 1000}"
        elif f"{field}_ms" not in event and isinstance(value, (str, int, float)):
            properties[field] = value
    profile = {name: properties[name] for name in PROFILE if name in properties}
    has_access = event.get("subscription_status") in WITH_ACCESS
    profile["has_active_subscription"] = has_access
    if "plan" in event:
        profile["active_plans"] = {"$add" if has_access else "$remove": [event["plan"]]}
    record = {"identity": event["user_id"], "ts": event["event_created_at_ms"] // 1000}
    return [
        record | {"type": "profile", "profileData": profile},
        record | {"type": "event", "evtName": event["event_name"], "evtData": properties},
    ]


def answer(status, word):
    return {
        "statusCode": status,
        "headers": {"content-type": "application/json"},
        "body": json.dumps({"status": word}),
    }
