// MC-AUD-1911: from a run to signed Parquet in the bucket, on the real stack.

import { beforeAll, expect, test } from "vitest";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { parseRange } from "../../shared/audit/layout.ts";
import { readManifest } from "../../shared/audit/manifest.ts";
import { readSegment } from "../../shared/audit/segment.ts";
import { sha256Hex, utf8Text } from "../../shared/contract/bytes.ts";
import type { LoggedEvent } from "../../shared/contract/events.ts";
import type { PublishedKeys } from "../../shared/contract/http-audit.ts";
import { verifyBundle } from "../../shared/signing/bundle.ts";
import { keyFor } from "../../shared/signing/published.ts";
import { gzip } from "../../workers/audit/hashing.ts";
import { contractOf, type Contract } from "../support/openapi.ts";
import { installPackage, jsonCall, must } from "../support/publisher.ts";
import { finishedRun } from "../support/runs.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
const lagMsMax = 60_000;
const name = "audit-export/probe";
let api: Contract;
let tenant: SeededTenant;
let keys: PublishedKeys;

beforeAll(async () => {
  api = await contractOf(stack.apiUrl);
  tenant = await stack.seedTenant("audit-export");
  await installPackage(api, tenant, name);
  keys = (await api.fetch("/api/audit/keys")).json;
});

interface Exported {
  readonly event: LoggedEvent;
  readonly sealedAt: string;
}

/** The tenant's log as the bucket has it: each row with the time that the signed manifest of its segment states. */
async function exported(): Promise<Exported[]> {
  const read = async (path: string) => must(200, await api.fetch(path, jsonCall(tenant.keys.auditor, "GET")));
  const rows: Exported[] = [];
  for (const rangeText of (await read("/api/audit/manifests")).json.ranges as string[]) {
    const range = parseRange(rangeText)!;
    const { bytes } = await read(`/api/audit/manifests/${rangeText}`);
    const verified = await verifyBundle(JSON.parse(utf8Text(bytes)), keyFor(keys, "manifest"));
    if (!verified.ok) throw new Error(verified.reason);
    const manifest = readManifest(verified.statement, tenant.tenant_id, range);
    if (!manifest.ok) throw new Error(manifest.reason);
    const segment = (await read(`/api/audit/segments/${rangeText}`)).bytes;
    if ((await sha256Hex(segment)) !== manifest.segmentSha256) throw new Error("not the segment that was signed");
    const of = { tenantId: tenant.tenant_id, range, version: manifest.predicate.schema_version };
    const parquet = await readSegment(of, segment, gzip);
    if (!parquet.ok) throw new Error(parquet.reason);
    const sealedAt = manifest.predicate.sealed_at;
    rows.push(...parquet.rows.map(({ body }) => ({ event: JSON.parse(body) as LoggedEvent, sealedAt })));
  }
  return rows;
}

test("MC-AUD-1911: mc.execution.started, mc.receipt.signed and mc.policy.decision are in signed Parquet within 60 s", async () => {
  const id = await finishedRun(api, tenant, name);
  const denied = await api.fetch(
    "/api/executions",
    jsonCall(tenant.keys.operator, "POST", { package: "audit-export/no" }),
  );
  expect(denied.status).toBe(403);
  const endedAt = Date.now();
  let rows: Exported[] = [];
  const told = () =>
    rows.filter(({ event }) => {
      const { execution_id, outcome } = event.attributes as { execution_id?: string; outcome?: string };
      return execution_id === id || outcome === "deny";
    });
  await expect
    .poll(
      async () => {
        rows = await exported();
        return told()
          .map(({ event }) => event.type)
          .toSorted();
      },
      { timeout: lagMsMax, interval: 200 },
    )
    .toEqual([
      "mc.execution.finished",
      "mc.execution.started",
      // The one that let it start, and the other package's deny.
      "mc.policy.decision",
      "mc.policy.decision",
      "mc.receipt.signed",
    ]);
  expect(Date.now() - endedAt).toBeLessThan(lagMsMax);
  for (const { event, sealedAt } of told()) {
    expect(Date.parse(sealedAt) - Date.parse(event.occurred_at), event.type).toBeLessThan(lagMsMax);
  }
}, 90_000);
