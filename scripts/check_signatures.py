"""Computes each signature of tests/vectors/signatures.json, and the verdict on it, again with Python alone.

It does not know the function, which a Rust test compares with the same file. The file has Purchasely's own example
(https://docs.purchasely.com/docs/webhook-1, "Security"), and what openssl and Python made. To add a signature:

    printf %s "$TIMESTAMP$BODY" | openssl dgst -sha256 -hmac "$SECRET"
    python3 scripts/check_signatures.py
"""

import base64
import hmac
import json
import re
import sys
from pathlib import Path

FILE = Path(__file__).parent.parent / "tests/vectors/signatures.json"


def verdict(vector: dict, now: int, tolerance: int) -> str:
    time, signature = vector["timestamp"], vector["signature"].lower()
    if not re.fullmatch("[0-9]{10}", time) or not re.fullmatch("[0-9a-f]{64}", signature):
        return "malformed"
    if signature != hmac.new(vector["secret"].encode(), time.encode() + base64.b64decode(vector["body"]), "sha256").hexdigest():
        return "wrong"
    return "too_old" if abs(int(time) - now) > tolerance else "valid"


def main() -> None:
    document = json.loads(FILE.read_text())
    for vector in document["vectors"]:
        expected = verdict(vector, document["now"], document["tolerance_seconds"])
        if vector["result"] != expected:
            sys.exit(f"{FILE.name}: {vector['name']}: the file says {vector['result']}, Python says {expected}")
    print(f"signatures: {len(document['vectors'])} vectors, each as Python computes it")


if __name__ == "__main__":
    main()
