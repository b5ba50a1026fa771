// A relay with AWS's Powertools: verify the signature, claim the event, upload its profile and event, answer.

import { createHmac, timingSafeEqual } from "node:crypto";
import { IdempotencyConfig, makeIdempotent } from "@aws-lambda-powertools/idempotency";
import { DynamoDBPersistenceLayer } from "@aws-lambda-powertools/idempotency/dynamodb";
import { Logger } from "@aws-lambda-powertools/logger";
import { MetricUnit, Metrics } from "@aws-lambda-powertools/metrics";
import { getSecret } from "@aws-lambda-powertools/parameters/secrets";
import type { APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2, Context } from "aws-lambda";

type Secret = { purchasely_shared_secret: string; clevertap_passcode: string };
type Properties = Record<string, string | number | boolean>;
type PurchaselyEvent = {
  event_id: string;
  event_name: string;
  event_created_at_ms: number;
  user_id: string;
  plan?: string;
  subscription_status?: string;
  [field: string]: unknown;
};

const { CLEVERTAP_ACCOUNT_ID = "", CLEVERTAP_API_URL, DEDUPLICATION_TABLE = "", SECRET_ID = "" } = process.env;
const WITH_ACCESS = ["AUTO_RENEWING", "AUTO_RENEWING_CANCELED", "AUTO_RENEWING_CANCELLED", "IN_GRACE_PERIOD"];
const PROFILE = ["subscription_status", "plan", "product", "store", "store_country", "offer_type", "is_family_shared"].concat(
  ["original_purchased_at", "effective_next_renewal_at"],
);

const logger = new Logger({ serviceName: "relay" });
const metrics = new Metrics({ namespace: "Relay", serviceName: "relay" });
const persistenceStore = new DynamoDBPersistenceLayer({ tableName: DEDUPLICATION_TABLE, keyAttr: "event_id" });
const config = new IdempotencyConfig({
  eventKeyJmesPath: "event_id",
  throwOnNoIdempotencyKey: true,
  expiresAfterSeconds: 2592000,
});
/** Runs once for each `event_id`. */
const relayOnce = makeIdempotent(relay, { persistenceStore, config, dataIndexArgument: 0 });

export async function handler(
  request: APIGatewayProxyEventV2,
  context: Context,
): Promise<APIGatewayProxyStructuredResultV2> {
  config.registerLambdaContext(context);
  try {
    const secret = (await getSecret(SECRET_ID, { transform: "json", maxAge: 300 })) as Secret;
    const raw = Buffer.from(request.body ?? "", request.isBase64Encoded ? "base64" : "utf8");
    if (!isSigned(request.headers, raw, secret.purchasely_shared_secret)) {
      return answer(401, "unauthorized");
    }
    const event: PurchaselyEvent = JSON.parse(raw.toString());
    const outcome = await relayOnce(event, secret.clevertap_passcode);
    metrics.addMetadata("event_id", event.event_id).addMetadata("event_name", event.event_name);
    metrics.addMetadata("outcome", outcome).addMetric("Relayed", MetricUnit.Count, 1);
    return answer(200, outcome);
  } catch (error) {
    logger.error("the event was not relayed", error as Error);
    metrics.addMetric("Failed", MetricUnit.Count, 1);
    return answer(503, "unavailable");
  } finally {
    metrics.publishStoredMetrics();
  }
}

function isSigned(headers: APIGatewayProxyEventV2["headers"], raw: Buffer, sharedSecret: string): boolean {
  const mac = createHmac("sha256", sharedSecret);
  const expected = mac.update(headers["x-purchasely-timestamp"] ?? "").update(raw).digest();
  const received = Buffer.from(headers["x-purchasely-request-signature"] ?? "", "hex");
  return received.length === expected.length && timingSafeEqual(received, expected);
}

async function relay(event: PurchaselyEvent, passcode: string): Promise<string> {
  const startedAt = performance.now();
  const response = await fetch(`${CLEVERTAP_API_URL}/1/upload`, {
    method: "POST",
    headers: {
      "X-CleverTap-Account-Id": CLEVERTAP_ACCOUNT_ID,
      "X-CleverTap-Passcode": passcode,
      "Content-Type": "application/json; charset=utf-8",
    },
    body: JSON.stringify({ d: toRecords(event) }),
    signal: AbortSignal.timeout(6500),
  });
  const { status } = (await response.json()) as { status?: string };
  metrics.addMetric("UploadLatency", MetricUnit.Milliseconds, performance.now() - startedAt);
  if (!response.ok || status !== "success") {
    throw new Error(`CleverTap answered ${response.status} ${status}`);
  }
  return "relayed";
}

/** The profile and the event: flat fields under their own names, times as CleverTap dates. */
function toRecords(event: PurchaselyEvent): object[] {
  const properties: Properties = {};
  for (const [field, value] of Object.entries(event)) {
    if (field.endsWith("_ms") && typeof value === "number") {
      properties[field.slice(0, -3)] = `$D_${Math.floor(value / 1000)}`;
    } else if (!(`${field}_ms` in event) && ["string", "number", "boolean"].includes(typeof value)) {
      properties[field] = value as string | number | boolean;
    }
  }
  const hasAccess = WITH_ACCESS.includes(event.subscription_status ?? "");
  const profile: Record<string, unknown> = { has_active_subscription: hasAccess };
  for (const name of PROFILE.filter((name) => name in properties)) {
    profile[name] = properties[name];
  }
  if (event.plan !== undefined) {
    profile.active_plans = { [hasAccess ? "$add" : "$remove"]: [event.plan] };
  }
  const record = { identity: event.user_id, ts: Math.floor(event.event_created_at_ms / 1000) };
  return [
    { ...record, type: "profile", profileData: profile },
    { ...record, type: "event", evtName: event.event_name, evtData: properties },
  ];
}

function answer(statusCode: number, word: string): APIGatewayProxyStructuredResultV2 {
  return { statusCode, headers: { "content-type": "application/json" }, body: JSON.stringify({ status: word }) };
}
