// MC-AUD-1912: the quick link, from a finished run to a pack that verifies offline, over HTTP.

import { createHash } from "node:crypto";
import { beforeAll, expect, test } from "vitest";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import type { PublishedKeys } from "../../shared/contract/http-audit.ts";
import { verifyPack } from "../../shared/disclosure/verify.ts";
import { contractOf, type Contract } from "../support/openapi.ts";
import { installPackage, jsonCall } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
const name = "disclosure/probe";
const hash = (bytes: Uint8Array) => new Uint8Array(createHash("sha256").update(bytes).digest());
let api: Contract;
let tenant: SeededTenant;
let keys: PublishedKeys;

beforeAll(async () => {
  api = await contractOf(stack.apiUrl);
  tenant = await stack.seedTenant("disclosure");
  await installPackage(api, tenant, name);
  keys = (await api.fetch("/api/audit/keys")).json;
});

async function finishedRun(): Promise<string> {
  const { id } = (await api.fetch("/api/executions", jsonCall(tenant.keys.operator, "POST", { package: name }))).json;
  await api.fetch(
    `/api/executions/${id}/finish`,
    jsonCall(tenant.keys.operator, "POST", { outcome: "succeeded", exit_code: 0 }),
  );
  return id as string;
}

async function linkOf(id: string) {
  const ask = () => api.fetch(`/api/executions/${id}/disclosure:link`, jsonCall(tenant.keys.auditor, "GET"));
  let answer = await ask();
  await expect
    .poll(
      async () => {
        if (answer.status === 202 && answer.headers.get("retry-after") === "1") answer = await ask();
        return answer.status;
      },
      { timeout: 20_000 },
    )
    .toBe(200);
  return answer.json as { url: string; sha256: string; bytes: number };
}

const pathOf = ({ url }: { url: string }): string => url.slice(stack.apiUrl.length);

test("a finished run's link gives a pack that verifies offline, the same one each time", async () => {
  const id = await finishedRun();
  const link = await linkOf(id);
  const pack = await api.fetch(pathOf(link));
  expect([pack.status, pack.bytes.length]).toEqual([200, link.bytes]);
  expect(createHash("sha256").update(pack.bytes).digest("hex")).toBe(link.sha256);
  expect(await verifyPack(pack.bytes, keys, hash)).toMatchObject({
    ok: true,
    facts: { tenant_id: tenant.tenant_id, execution_id: id, outcome: "succeeded" },
  });
  expect((await linkOf(id)).sha256).toBe(link.sha256);
});

test("a pack does not verify by keys that the verifier does not trust, nor with any byte of a file changed", async () => {
  const { bytes } = await api.fetch(pathOf(await linkOf(await finishedRun())));
  expect(await verifyPack(bytes, { ...keys, keys: [] }, hash)).toMatchObject({ ok: false, file: "index.json" });
  expect(await verifyPack(bytes, { ...keys, origin_prefix: "elsewhere/log" }, hash)).toMatchObject({ ok: false });
  for (const needle of ['"mc.execution.finished"', "c2sp.org/tlog-proof", "How to check it", "dsseEnvelope"]) {
    const at = Buffer.from(bytes).indexOf(needle);
    expect(at, needle).toBeGreaterThan(0);
    const forged = bytes.slice();
    forged[at + 2] = forged[at + 2]! ^ 1;
    expect((await verifyPack(forged, keys, hash)).ok, needle).toBe(false);
  }
  expect(await verifyPack(bytes.slice(0, -30), keys, hash)).toMatchObject({ ok: false });
  expect(await verifyPack(new Uint8Array(100), keys, hash)).toMatchObject({ ok: false });
});

test("a download resumes by Range, and a range beyond the end says how long the pack is", async () => {
  const link = await linkOf(await finishedRun());
  const whole = (await api.fetch(pathOf(link))).bytes;
  const rest = await api.fetch(pathOf(link), { headers: { range: "bytes=100-" } });
  expect([rest.status, rest.headers.get("content-range")]).toEqual([
    206,
    `bytes 100-${whole.length - 1}/${whole.length}`,
  ]);
  expect(rest.bytes).toEqual(whole.slice(100));
  const middle = await api.fetch(pathOf(link), { headers: { range: "bytes=10-19" } });
  expect(middle.bytes).toEqual(whole.slice(10, 20));
  const beyond = await fetch(link.url, { headers: { range: `bytes=${whole.length}-` } });
  expect([beyond.status, beyond.headers.get("content-range")]).toEqual([416, `bytes */${whole.length}`]);
});

test("an altered link, and one that was never made, are refused alike", async () => {
  const path = pathOf(await linkOf(await finishedRun()));
  const [head, payload, signature] = path.split(".");
  const flipped = signature!.startsWith("A") ? `B${signature!.slice(1)}` : `A${signature!.slice(1)}`;
  for (const forged of [`${head}.${payload}.${flipped}`, `${head}.${payload}.`, "/api/disclosures/not-a-token"]) {
    const answer = await api.fetch(forged);
    expect([answer.status, answer.json.code]).toEqual([403, "link_invalid"]);
  }
});

test("HEAD tells a pack's size and digest, with no body, whatever Range it names; of a link that is not ours nothing", async () => {
  const link = await linkOf(await finishedRun());
  const head = await fetch(link.url, { method: "HEAD", headers: { range: "bytes=0-0" } });
  expect([head.status, head.headers.get("content-length"), head.headers.get("etag")]).toEqual([
    200,
    String(link.bytes),
    `"${link.sha256}"`,
  ]);
  expect((await head.arrayBuffer()).byteLength).toBe(0);
  expect((await fetch(`${link.url}x`, { method: "HEAD" })).status).toBe(403);
});

test("a download is in the log once, with what resumes it, what repeats it, and who only asks", async () => {
  const id = await finishedRun();
  const link = await linkOf(id);
  const path = pathOf(link);
  await fetch(link.url, { method: "HEAD" });
  await api.fetch(path);
  await api.fetch(path, { headers: { range: "bytes=5-" } });
  await Promise.all(Array.from({ length: 20 }, () => api.fetch(path, { headers: { range: "bytes=0-0" } })));
  await fetch(link.url, { method: "HEAD" });
  const asked = () =>
    api.fetch(
      "/api/pql",
      jsonCall(tenant.keys.auditor, "POST", {
        query: `FIND events WHERE execution_id = "${id}" TOP 20 BY type SINCE 1h`,
      }),
    );
  await expect
    .poll(
      async () =>
        (await asked()).json.groups.filter(({ name: type }: { name: string }) => type.startsWith("mc.disclosure")),
      { timeout: 20_000 },
    )
    .toEqual([
      { name: "mc.disclosure.downloaded", total: 1 },
      { name: "mc.disclosure.linked", total: 1 },
    ]);
});
