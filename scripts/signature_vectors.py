"""Makes tests/vectors/signatures.json: webhook signatures that the function's own code did not compute.

It does not know the function. Without an option, it computes each signature of the file again with Python alone.

    python3 scripts/signature_vectors.py           # check the file
    python3 scripts/signature_vectors.py --write   # write it again; takes openssl
"""

import argparse
import base64
import hashlib
import hmac
import json
import subprocess
import sys
from pathlib import Path

FILE = Path(__file__).parent.parent / "tests/vectors/signatures.json"
NOW = 1698322022
TOLERANCE = 25 * 24 * 3600
# Purchasely publishes this one (https://docs.purchasely.com/docs/webhook-1, "Security").
SECRET, BODY = "foobar", b'{"a_random_key":"a_random_value_ad"}'
PUBLISHED = "f3c2a452e9ea72f41107321aeaf7999f1054148866a710c9b23f9f501785e2a4"


def by_openssl(secret: str, message: bytes, algorithm: str = "sha256") -> str:
    """openssl takes no empty key."""
    command = ["openssl", "dgst", f"-{algorithm}", "-mac", "HMAC", "-macopt", f"hexkey:{secret.encode().hex()}", "-r"]
    output = subprocess.run(command, input=message, capture_output=True, check=True).stdout
    return output.split()[0].decode()


def by_python(secret: str, message: bytes, algorithm: str = "sha256") -> str:
    return hmac.new(secret.encode(), message, algorithm).hexdigest()


MAKERS = {"openssl dgst": by_openssl, "Python hmac": by_python}


def genuine() -> list[tuple]:
    """Name, secret, time and body of signatures that are made as documented, and the result for each."""
    ts, json_body = str(NOW), b'{"event_name":"ACTIVATE"}'
    secret = "".join(chr(33 + 7 * n % 94) for n in range(200))
    return [
        ("Purchasely's example", SECRET, ts, BODY, "valid"),
        ("an empty body", SECRET, ts, b"", "valid"),
        ("a body that is not UTF-8", SECRET, ts, bytes(range(256)), "valid"),
        ("a body that starts with a digit", SECRET, ts, b"2" + BODY, "valid"),
        ("a body with line breaks", SECRET, ts, b'{\r\n  "event_name": "ACTIVATE"\n}\n', "valid"),
        ("a body beyond ASCII", SECRET, ts, '{"plan":"año €"}'.encode(), "valid"),
        ("a long body", SECRET, ts, b'{"plan":"' + b"x" * 1500 + b'"}', "valid"),
        ("a secret of one character", "k", ts, json_body, "valid"),
        ("a secret as long as a block of SHA-256", secret[:64], ts, json_body, "valid"),
        ("a secret one longer than a block", secret[:65], ts, json_body, "valid"),
        ("a secret of 200 characters", secret, ts, json_body, "valid"),
        ("a time with zeros in front", SECRET, "00" + ts, json_body, "malformed"),
        ("signed as long ago as tolerated", SECRET, str(NOW - TOLERANCE), json_body, "valid"),
        ("signed a second too long ago", SECRET, str(NOW - TOLERANCE - 1), json_body, "too_old"),
        ("signed as far ahead as tolerated", SECRET, str(NOW + TOLERANCE), json_body, "valid"),
        ("signed a second too far ahead", SECRET, str(NOW + TOLERANCE + 1), json_body, "too_old"),
        ("a time in milliseconds", SECRET, ts + "000", json_body, "malformed"),
        ("a digit moved from the time to the body", SECRET, ts[:-1], ts[-1:].encode() + BODY, "malformed"),
        ("a digit moved from the body to the time", SECRET, ts + "2", BODY, "malformed"),
        ("a time with a sign", SECRET, "+" + ts, json_body, "malformed"),
        ("a time with decimals", SECRET, ts + ".5", json_body, "malformed"),
        ("a time that no integer holds", SECRET, "9" * 23, json_body, "malformed"),
        ("no time", SECRET, "", json_body, "malformed"),
    ]


def forged() -> list[tuple]:
    """Name, who made it, signature and result of signatures that are not made as documented; of the example."""
    ts = str(NOW).encode()
    right = by_python(SECRET, ts + BODY)
    return [
        ("in upper case", "Python hmac", right.upper(), "valid"),
        ("another secret", "openssl dgst", by_openssl("foobaz", ts + BODY), "wrong"),
        ("another body", "openssl dgst", by_openssl(SECRET, ts + BODY + b"\n"), "wrong"),
        ("the body alone", "openssl dgst", by_openssl(SECRET, BODY), "wrong"),
        ("the time after the body", "openssl dgst", by_openssl(SECRET, BODY + ts), "wrong"),
        ("a dot between time and body", "openssl dgst", by_openssl(SECRET, ts + b"." + BODY), "wrong"),
        ("the deprecated signature", "openssl dgst", by_openssl(SECRET, SECRET.encode() + ts), "wrong"),
        ("an empty secret", "Python hmac", by_python("", ts + BODY), "wrong"),
        ("a hash without HMAC", "Python hashlib", hashlib.sha256(SECRET.encode() + ts + BODY).hexdigest(), "wrong"),
        ("the first half of SHA-512", "Python hmac", by_python(SECRET, ts + BODY, "sha512")[:64], "wrong"),
        ("with SHA-1", "Python hmac", by_python(SECRET, ts + BODY, "sha1"), "malformed"),
        ("in base64", "Python hmac", base64.b64encode(bytes.fromhex(right)).decode(), "malformed"),
        ("with a prefix", "Python hmac", "sha256=" + right, "malformed"),
        ("one digit short", "Python hmac", right[1:], "malformed"),
        ("no signature", "Python hmac", "", "malformed"),
    ]


def write() -> None:
    makers = list(MAKERS)
    vectors = []

    def add(name: str, by: str, secret: str, timestamp: str, body: bytes, signature: str, result: str) -> None:
        row = {"name": name, "made_by": by, "secret": secret, "timestamp": timestamp}
        vectors.append(row | {"body": base64.b64encode(body).decode(), "signature": signature, "result": result})

    for number, (name, secret, timestamp, body, result) in enumerate(genuine()):
        by = makers[number % 2]
        add(name, by, secret, timestamp, body, MAKERS[by](secret, timestamp.encode() + body), result)
    vectors[0] |= {"made_by": "Purchasely", "signature": PUBLISHED}
    for name, by, signature, result in forged():
        add(name, by, SECRET, str(NOW), BODY, signature, result)
    document = {"now": NOW, "tolerance_seconds": TOLERANCE, "vectors": vectors}
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def mistakes(document: dict) -> list[str]:
    found = []
    for row in document["vectors"]:
        message = row["timestamp"].encode() + base64.b64decode(row["body"])
        is_right = row["signature"].lower() == by_python(row["secret"], message)
        time = row["timestamp"]
        is_time = time.isascii() and time.isdigit() and len(time) == 10
        far = is_time and abs(int(time) - document["now"]) > document["tolerance_seconds"]
        is_hex = len(row["signature"]) == 64 and set(row["signature"].lower()) <= set("0123456789abcdef")
        expected = "malformed" if not (is_time and is_hex) else "wrong" if not is_right else "too_old" if far else "valid"
        if row["result"] != expected:
            found.append(f"{row['name']} ({row['made_by']}): the file says {row['result']}, Python says {expected}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the file again, with openssl and Python")
    if parser.parse_args().write:
        write()
    document = json.loads(FILE.read_text())
    found = mistakes(document)
    for mistake in found:
        print(mistake, file=sys.stderr)
    if not found:
        print(f"signatures: {len(document['vectors'])} vectors, each as Python computes it")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
