"""Checks the golden uploads against their webhooks, and the signatures of tests/vectors: rules of both vendors, written
here again in another language.

It does not map a webhook and knows nothing of the function: docs/mapping.md states what it checks. The signatures are
Purchasely's own example (https://docs.purchasely.com/docs/webhook-1, "Security"), and what openssl and Python made. A
Rust test compares the function with the same file. To add one:

    printf %s "$TIMESTAMP$BODY" | openssl dgst -sha256 -hmac "$SECRET"
    python3 scripts/check_vectors.py
"""

import base64
import hmac
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
# The fields and settings in which each further upload differs from its sample and from REVENUE_EVENT=Charged.
VARIANTS = {
    "TRIAL_STARTED.anonymous-android": {"user_id": None, "store": "GOOGLE_PLAY_STORE"},
    "TRIAL_STARTED.anonymous-ios": {"user_id": None, "store": "APPLE_APP_STORE"},
    "SUBSCRIPTION_TRANSFERRED.anonymous": {"user_id": None, "store": "APPLE_APP_STORE"},
    "TRANSACTION_PROCESSED.refund": {"amount_in_usd": -10.84, "amount_in_customer_currency": -9.99},
    "TRANSACTION_PROCESSED.two-currencies": {"amount_in_eur": 9.98, "cumulated_revenues_in_eur": 19.96},
    "TRANSACTION_PROCESSED.customer-in-eur": {},
}
REFUND_EVENT = {"TRANSACTION_PROCESSED.refund": "Refunded"}
REVENUE_CURRENCY = {"TRANSACTION_PROCESSED.customer-in-eur": "EUR"}

FORBIDDEN = set("%><!|&.:;$'\"\\")
MONEY = re.compile(r"(amount_in|plan_price_in|cumulated_revenues_in)_([a-z]{3}|customer_currency)")
ACTIVE = {"AUTO_RENEWING", "AUTO_RENEWING_CANCELED", "AUTO_RENEWING_CANCELLED", "IN_GRACE_PERIOD"}
INACTIVE = {"ON_HOLD", "PAUSED", "UNPAID", "REVOKED", "DEACTIVATED", "CANCELED"}
COPIED = ("subscription_status", "plan", "product", "store", "store_country", "offer_type", "is_family_shared")
# The rows of the profile table that are found by the event's name; the first match wins.
ROWS = {
    3: r"ACTIVATE",
    4: r"SUBSCRIPTION_TRANSFERRED",
    5: r"DEACTIVATE",
    7: r"SUBSCRIPTION_(TERMINATED|EXPIRED|REFUNDED_REVOKED|PAUSED|CANCELLED_DURING_(GRACE_PERIOD|PAUSE))"
    r"|FAMILY_SHARED_REVOKED|GRACE_PERIOD_TERMINATED|ENTERED_BILLING_RETRY",
    10: r"RENEWAL_\w+|SUBSCRIPTION_WILL_(NOT_)?PAUSE|\w+_NOT_CONVERTED|INSTALLMENT_PAID",
    8: r"SUBSCRIPTION_(STARTED|RENEWED|REACTIVATED|RECEIVED|RECOVERED_\w+|UNPAUSED|DEFERRED)|GRACE_PERIOD_STARTED"
    r"|(TRIAL|INTRO_OFFER|PROMO_CODE|PROMOTIONAL_OFFER)_(STARTED|CONVERTED)",
    9: r"SUBSCRIPTION_(UPGRADED|DOWNGRADED|CROSSGRADED)",
}


def date(payload: dict, field: str) -> str | None:
    return f"$D_{payload[field + '_ms'] // 1000}" if field + "_ms" in payload else None


def total(payload: dict, prefix: str) -> tuple[float, str] | None:
    """The amount in the integration currency: with two, the one that is not USD."""
    codes = sorted((key[len(prefix) :] for key in payload if re.fullmatch(prefix + "[a-z]{3}", key)), key="usd".__eq__)
    return (float(payload[prefix + codes[0]]), codes[0].upper()) if codes else None


def row_of(payload: dict) -> int:
    name, kind = payload["event_name"], payload.get("purchase_type")
    is_subscription = "purchasely_subscription_id" in payload or "subscription_status" in payload
    if "purchasely_one_time_purchase_id" in payload or name.startswith("ONE_TIME_PURCHASE_"):
        return 1
    if kind in ("CONSUMABLE", "NON_CONSUMABLE") or (kind == "NON_RENEWING_SUBSCRIPTION" and not is_subscription):
        return 1
    row = next((row for row, names in ROWS.items() if re.fullmatch(names, name)), 2)
    ends = ("ON_HOLD", "PAUSED", "UNPAID", "REVOKED")
    return 6 if row == 5 and payload.get("subscription_status") not in ends else row


def profile_of(payload: dict) -> dict:
    """The properties that the profile table writes."""
    row, name, status = row_of(payload), payload["event_name"], payload.get("subscription_status")
    access = True if status in ACTIVE else False if status in INACTIVE else None
    if row in (1, 2) or (row == 9 and not access):
        return {}
    if payload["user_id"] is None and name in ("SUBSCRIPTION_TRANSFERRED", "DEACTIVATE"):
        return {}
    has = {3: True, 4: False, 5: False, 6: None, 7: False, 8: access is not False, 9: True, 10: access}[row]
    plans = {3: "$add", 8: "$add" if has else "$remove", 9: "$add", 10: None}.get(row, "$remove")
    written = {"has_active_subscription": has}
    if plans and "plan" in payload:
        written["active_plans"] = {plans: [payload["plan"]]}
    if row == 4:
        written["subscription_status"] = status
    elif row != 6:
        written |= {field: payload.get(field) for field in COPIED}
        written |= {field: date(payload, field) for field in ("original_purchased_at", "effective_next_renewal_at")}
        written["lifetime_revenue"] = (total(payload, "cumulated_revenues_in_") or [None])[0]
        if payload.get("offer_type") == "PROMOTIONAL_OFFER":
            written["promotional_offer_id"] = payload.get("promotional_offer_id")
        first = ("SUBSCRIPTION_RECEIVED", "PROMO_CODE_STARTED", "PROMOTIONAL_OFFER_STARTED")
        starts = ("SUBSCRIPTION_STARTED", "SUBSCRIPTION_REACTIVATED", "TRIAL_STARTED", "INTRO_OFFER_STARTED")
        times = payload.get("purchased_at_ms"), payload.get("original_purchased_at_ms")
        is_first = None not in times and abs(times[0] - times[1]) <= 60_000
        if row == 8 and has and (name in starts or (name in first and is_first)):
            written["subscription_started_at"] = date(payload, "purchased_at")
    return {field: value for field, value in written.items() if value is not None}


def money_of(payload: dict, upload: str) -> tuple[str, dict] | None:
    """The name and properties of the event about money: only a transaction raises one."""
    if payload["event_name"] != "TRANSACTION_PROCESSED":
        return None
    customer = (float(payload["amount_in_customer_currency"]), payload["customer_currency"])
    wanted = REVENUE_CURRENCY.get(upload)
    amount, currency = customer if wanted == customer[1] else total(payload, "amount_in_")
    about = {"Amount": abs(amount), "Currency": currency, "Charged ID": payload["store_transaction_id"]}
    if amount < 0:
        return (REFUND_EVENT[upload], about) if upload in REFUND_EVENT else None
    if not wanted:
        about |= {"Customer Amount": customer[0], "Customer Currency": customer[1]}
    item = {field: payload[field] for field in ("plan", "product", "store_product_id")}
    return "Charged", about | {"source": "purchasely", "Items": [item]}


def properties_of(payload: dict) -> dict:
    """The properties that trace to a field of the payload: all fields but credentials and the twins of times."""
    flat = {f"attribution_{key}": value for key, value in payload.get("attribution", {}).items()}
    flat |= {key: value for key, value in payload.items() if key not in ("attribution", "purchase_token")}
    traced = {key: value for key, value in flat.items() if value is not None and not key.endswith("_at_ms")}
    for key in traced:
        traced[key] = date(payload, key) if key.endswith("_at") else float(traced[key]) if MONEY.fullmatch(key) else traced[key]
    return traced


def differences(what: str, expected: dict, found: dict) -> Iterator[str]:
    for key in sorted(expected.keys() | found.keys()):
        # As JSON, because 10 and 10.0 are different types in CleverTap, and Python finds them equal.
        right, actual = (json.dumps(side[key], sort_keys=True) if key in side else "nothing" for side in (expected, found))
        if right != actual:
            yield f"{what}: {key} is {actual}, but its webhook says {right}"


def limits(properties: dict, kind: str) -> Iterator[str]:
    """CleverTap's limits on the properties of a record."""
    if len(properties) > 100:
        yield f"{kind}: {len(properties)} properties, but CleverTap takes 100"
    for key, value in properties.items():
        if FORBIDDEN & set(key) or len(key.encode()) > 120 or not key.strip():
            yield f"{kind}: {key!r} is no name for CleverTap"
        if value is None or (isinstance(value, str) and len(value.encode()) > 512):
            yield f"{kind}: {key} has a value that CleverTap does not take"


def mistakes(upload: str, payload: dict, body: dict) -> Iterator[str]:
    records = body["d"]
    prefix = "__h" if payload["store"] == "GOOGLE_PLAY_STORE" else "-h"
    device = {"objectId": prefix + payload["anonymous_user_id"]} if payload["user_id"] is None else None
    user = device or {"identity": payload["user_id"]}
    profile, money, name = profile_of(payload), money_of(payload, upload), payload["event_name"]
    expected = [("profile", None, profile)] if profile else []
    expected += [("event", name, properties_of(payload))]
    expected += [("event", *money)] if money else []
    kinds = [record.get("evtName", record["type"]) for record in records]
    if kinds != [name or kind for kind, name, _ in expected]:
        yield f"records are {kinds}, not {[name or kind for kind, name, _ in expected]}"
        return
    for record, (kind, name, right) in zip(records, expected):
        data = "evtData" if kind == "event" else "profileData"
        frame = user | {"type": kind, "ts": payload["event_created_at_ms"] // 1000} | ({"evtName": name} if name else {})
        yield from differences(f"{name or kind} record", frame, {key: record[key] for key in record if key != data})
        yield from differences(name or kind, right, record[data])
        yield from limits(record[data], name or kind)


def verdict(vector: dict, now: int, tolerance: int) -> str:
    time, signature = vector["timestamp"], vector["signature"].lower()
    if not re.fullmatch("[0-9]{10}", time) or not re.fullmatch("[0-9a-f]{64}", signature):
        return "malformed"
    if signature != hmac.new(vector["secret"].encode(), time.encode() + base64.b64decode(vector["body"]), "sha256").hexdigest():
        return "wrong"
    return "too_old" if abs(int(time) - now) > tolerance else "valid"


def main() -> None:
    golden, webhooks = (
        {path.stem: json.loads(path.read_text()) for path in (ROOT / folder).glob("*.json")} for folder in ("tests/golden", "events")
    )
    webhooks |= {name: webhooks[name.split(".")[0]] | fields for name, fields in VARIANTS.items()}
    found = [f"{name}: there is a webhook or an upload, but not both" for name in sorted(golden.keys() ^ webhooks.keys())]
    for name in sorted(golden.keys() & webhooks.keys()):
        found += [f"{name}: {mistake}" for mistake in mistakes(name, webhooks[name], golden[name])]
    document = json.loads((ROOT / "tests/vectors/signatures.json").read_text())
    for vector in document["vectors"]:
        expected = verdict(vector, document["now"], document["tolerance_seconds"])
        if vector["result"] != expected:
            found.append(f"{vector['name']}: the file says {vector['result']}, Python says {expected}")
    if found:
        sys.exit("\n".join(found))
    print(f"{len(golden)} uploads agree with their webhooks, {len(document['vectors'])} signatures with Python's")


if __name__ == "__main__":
    main()
