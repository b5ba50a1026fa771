// A plain relay: verify the signature, map the fields to one CleverTap event, upload it, answer.
// It has no profiles, revenue, limits, claims, queues, retries or deadline.

import { createHmac, timingSafeEqual } from "node:crypto";
import { GetSecretValueCommand, SecretsManagerClient } from "@aws-sdk/client-secrets-manager";

const { CLEVERTAP_ACCOUNT_ID, CLEVERTAP_API_URL, SECRET_ID } = process.env;
const secret = await readSecret();

export async function handler(request) {
  try {
    const raw = request.isBase64Encoded ? Buffer.from(request.body, "base64") : Buffer.from(request.body);
    if (!isSigned(request.headers, raw)) {
      return answer(401, "unauthorized");
    }
    const event = JSON.parse(raw);
    await upload(map(event));
    console.log(JSON.stringify({ level: "INFO", event_id: event.event_id, outcome: "relayed" }));
    return answer(200, "relayed");
  } catch (error) {
    console.error(JSON.stringify({ level: "ERROR", message: `the event was not relayed: ${error.message}` }));
    return answer(503, "unavailable");
  }
}

async function readSecret() {
  const secretsManager = new SecretsManagerClient({});
  const { SecretString } = await secretsManager.send(new GetSecretValueCommand({ SecretId: SECRET_ID }));
  return JSON.parse(SecretString);
}

function isSigned(headers, raw) {
  const mac = createHmac("sha256", secret.purchasely_shared_secret);
  const expected = mac.update(headers["x-purchasely-timestamp"] ?? "").update(raw).digest();
  const received = Buffer.from(headers["x-purchasely-request-signature"] ?? "", "hex");
  return received.length === expected.length && timingSafeEqual(received, expected);
}

/** One event record: flat fields unchanged, times as CleverTap dates. */
function map(event) {
  const properties = {};
  for (const [field, value] of Object.entries(event)) {
    if (field.endsWith("_ms")) {
      properties[field.slice(0, -3)] = `$D_${Math.floor(value / 1000)}`;
    } else if (!(`${field}_ms` in event) && value !== null && typeof value !== "object") {
      properties[field] = value;
    }
  }
  const ts = event.event_created_at_ms === undefined ? undefined : Math.floor(event.event_created_at_ms / 1000);
  return { d: [{ identity: event.user_id, type: "event", evtName: event.event_name, ts, evtData: properties }] };
}

async function upload(body) {
  const response = await fetch(`${CLEVERTAP_API_URL}/1/upload`, {
    method: "POST",
    headers: {
      "X-CleverTap-Account-Id": CLEVERTAP_ACCOUNT_ID,
      "X-CleverTap-Passcode": secret.clevertap_passcode,
      "Content-Type": "application/json; charset=utf-8",
    },
    body: JSON.stringify(body),
  });
  const { status } = await response.json();
  if (!response.ok || status !== "success") {
    throw new Error(`CleverTap answered ${response.status} ${status}`);
  }
}

function answer(statusCode, word) {
  return { statusCode, headers: { "content-type": "application/json" }, body: JSON.stringify({ status: word }) };
}
