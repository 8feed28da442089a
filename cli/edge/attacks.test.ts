// What a lying, broken or hostile provider can do to a fetcher: nothing. Each attack is refused, counted and explained, and the
// last good policy stays. Real HTTP servers, real folders, real signatures; only the clock is the test's.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { base64 } from "../../shared/contract/bytes.ts";
import { heldState } from "../../shared/edge/held-state.ts";
import { refusalAdvice, refusalWords, type RefusalCode } from "../../shared/edge/refusal.ts";
import { lifeMs } from "../../shared/edge/tuf.ts";
import {
  bombOf,
  edgeWorld,
  policyPath,
  startProvider,
  tenant,
  type EdgeWorld,
  type Fault,
  type TestProvider,
} from "../../test/support/edge-world.ts";
import { newSigner } from "../../test/support/publisher.ts";
import { endlessBundle, endlessTimestamp, tufAttacks } from "../../test/support/tuf-attacks.ts";
import { testFetcher, type TestFetcher, type TestFetcherOptions } from "../../test/support/edge-fetcher.ts";
import { testFolder } from "../testing/host.ts";
import { clearQuarantine } from "./held-folder.ts";

interface Scene {
  readonly world: EdgeWorld;
  readonly a: TestProvider;
  readonly b: TestProvider;
  readonly it: TestFetcher;
  readonly folder: string;
  /** The bytes that were good before the attack. */
  readonly good: Uint8Array;
  /** Moves the fetcher's clock. */
  later(ms: number): void;
}

/** One policy, active from both providers; what follows is the attack. */
async function scene(options: Partial<TestFetcherOptions> = {}): Promise<Scene> {
  const begin = Date.now();
  let offset = 0;
  const world = await edgeWorld({ now: begin });
  const { bundle } = await world.publish();
  const a = await startProvider("a", world.copy());
  const b = await startProvider("b", world.copy());
  const folder = testFolder();
  const it = await testFetcher(world, [a, b], { folder, clock: () => Date.now() + offset, ...options });
  const first = await it.verdict();
  if (first.verdict !== "activated") throw new Error(JSON.stringify(first));
  a.asked.length = 0;
  b.asked.length = 0;
  return { world, a, b, it, folder, good: bundle, later: (ms) => void (offset += ms) };
}

const isBundle = (key: string): boolean => key.startsWith("policies/");

/** What became of an attack, in the four things that are promised. */
async function outcomeOf({ it, good }: Pick<Scene, "it" | "good">) {
  const verdict = await it.verdict();
  const why = verdict.verdict === "refused" ? verdict.refusal : null;
  const words = why === null ? "" : refusalWords(why);
  return {
    verdict: verdict.verdict,
    code: why?.code ?? null,
    isExplained: why !== null && words.startsWith(why.detail) && words.endsWith(refusalAdvice[why.code]),
    isCounted: why !== null && (it.counters.read().refused[why.code] ?? 0) > 0,
    isLastGoodServed: Buffer.from((await it.served()) ?? []).equals(good),
  };
}

const refusedAs = (code: RefusalCode) => ({
  verdict: "refused",
  code,
  isExplained: true,
  isCounted: true,
  isLastGoodServed: true,
});

/** Something new is published, and both providers do the same with it. */
async function attackBoth(at: Scene, fault: Fault): Promise<void> {
  await at.world.publish({ allowed: "mallory" });
  for (const provider of [at.a, at.b]) {
    provider.objects = at.world.copy();
    provider.fault = fault;
  }
}

test.each(tufAttacks)("nothing is activated of $title", async ({ ours, stage }) => {
  const at = await scene();
  const { bundle: good } = await at.world.publish({ allowed: "bob" });
  for (const provider of [at.a, at.b]) provider.objects = at.world.copy();
  expect(await at.it.verdict()).toMatchObject({ verdict: "activated", active: { revision: 2 } });
  const staged = await stage(at.world);
  for (const provider of [at.a, at.b]) Object.assign(provider, { fault: null, ...staged });
  const behind = { verdict: "behind", code: null, isExplained: false, isCounted: false, isLastGoodServed: true };
  expect(await outcomeOf({ ...at, good })).toEqual(ours === null ? behind : refusedAs(ours));
});

describe("bytes", () => {
  test("a flipped byte is counted as a mismatch of each provider that served it", async () => {
    const at = await scene();
    const { stage } = tufAttacks.find(({ title }) => title === "a bundle of which one byte was flipped")!;
    const staged = await stage(at.world);
    for (const provider of [at.a, at.b]) Object.assign(provider, staged);
    expect(await outcomeOf(at)).toEqual(refusedAs("wrong_digest"));
    expect(at.it.counters.read().mismatches).toBe(2);
  });

  test("a bundle that breaks off is refused, and is no mismatch: it is asked for again", async () => {
    const at = await scene();
    const cut: Fault = (key, response) => {
      if (!isBundle(key)) return false;
      const bytes = at.world.objects.get(key)!;
      response.writeHead(200, { "content-type": "application/gzip", "content-length": bytes.length });
      response.write(bytes.subarray(0, bytes.length - 7), () => response.destroy());
      return true;
    };
    await attackBoth(at, cut);
    expect(await outcomeOf(at)).toEqual(refusedAs("truncated"));
    expect(at.it.fetcher.state.quarantine).toEqual([]);
    at.a.fault = null;
    at.b.fault = null;
    expect(await at.it.verdict()).toMatchObject({ verdict: "activated" });
  });

  test("endless data is cut at the bound, as body and as metadata", async () => {
    const at = await scene();
    let sent = 0;
    await attackBoth(
      at,
      endlessBundle((bytes) => void (sent += bytes)),
    );
    expect(await outcomeOf(at)).toEqual(refusedAs("too_large"));
    const timestamps = endlessTimestamp((bytes) => void (sent += bytes));
    at.a.fault = timestamps;
    at.b.fault = timestamps;
    expect(await outcomeOf(at)).toEqual(refusedAs("too_large"));
    expect(sent).toBeLessThan(32 * 1024 * 1024);
  });

  test("a gzip bomb is stopped at the bytes that were signed for, and never fetched again", async () => {
    const at = await scene();
    const bomb = bombOf(16 * 1024 * 1024);
    await at.world.publish({
      bundle: bomb,
      signed: { tar_bytes: 10_240 },
      target: (target) => ({ ...target, custom: { ...target.custom, tar_length: 10_240 } }),
    });
    at.a.objects = at.world.copy();
    at.b.objects = at.world.copy();
    expect(await outcomeOf(at)).toEqual(refusedAs("gzip_bomb"));
    const before = at.a.count("policies/") + at.b.count("policies/");
    // On a slow machine a second provider is asked as well.
    expect(before).toBeGreaterThan(0);
    expect(await outcomeOf(at)).toEqual(refusedAs("quarantined"));
    expect(at.a.count("policies/") + at.b.count("policies/")).toBe(before);
    expect(await clearQuarantine(at.folder)).toBe(1);
    const again = await testFetcher(at.world, [at.a, at.b], { folder: at.folder });
    expect(await outcomeOf({ ...at, it: again })).toEqual(refusedAs("gzip_bomb"));
    expect(at.a.count("policies/") + at.b.count("policies/")).toBeGreaterThan(before);
    await at.world.publish({ allowed: "bob" });
    at.a.objects = at.world.copy();
    expect(await again.verdict()).toMatchObject({ verdict: "activated", active: { revision: 3 } });
    expect(again.fetcher.state.quarantine).toEqual([]);
  });

  test("signed bytes that are no bundle, or unpack to another tar, are refused", async () => {
    const at = await scene();
    await at.world.publish({ bundle: new Uint8Array(900).fill(7) });
    at.a.objects = at.world.copy();
    expect(await outcomeOf(at)).toEqual(refusedAs("broken_archive"));
    await at.world.publish({
      allowed: "bob",
      signed: { tar_sha256: "d".repeat(64) },
      target: (target) => ({ ...target, custom: { ...target.custom, tar_sha256: "d".repeat(64) } }),
    });
    at.a.objects = at.world.copy();
    expect(await outcomeOf(at)).toEqual(refusedAs("wrong_tar_digest"));
  });
});

describe("HTTP", () => {
  test("a slow-loris, in its head and in its body, is given up in bounded time", async () => {
    const at = await scene();
    const silent: Fault = (key) => isBundle(key);
    await attackBoth(at, silent);
    expect(await outcomeOf(at)).toEqual(refusedAs("late"));
    const drip: Fault = (key, response) => {
      if (!isBundle(key)) return false;
      response.writeHead(200, { "content-type": "application/gzip" });
      const timer = setInterval(() => response.write("x"), 50);
      response.on("close", () => clearInterval(timer));
      return true;
    };
    at.a.fault = drip;
    at.b.fault = drip;
    const startedAt = Date.now();
    expect(await outcomeOf(at)).toEqual(refusedAs("late"));
    expect(Date.now() - startedAt).toBeLessThan(4_000);
  });

  test("a redirect is not followed, to wherever it leads", async () => {
    const at = await scene();
    const elsewhere = await startProvider("elsewhere", at.world.objects);
    await attackBoth(at, (key, response) => {
      response.writeHead(302, { location: `${elsewhere.baseUrl}/${key}` }).end();
      return true;
    });
    expect(await outcomeOf(at)).toEqual(refusedAs("redirected"));
    expect(elsewhere.asked).toEqual([]);
  });

  test("the right bytes as another content type are refused", async () => {
    const at = await scene();
    await attackBoth(at, (key, response) => {
      if (!isBundle(key)) return false;
      response.writeHead(200, { "content-type": "text/html" }).end(at.world.objects.get(key));
      return true;
    });
    expect(await outcomeOf(at)).toEqual(refusedAs("wrong_content_type"));
  });

  test("a coding that nobody asked for is not undone", async () => {
    const at = await scene();
    await attackBoth(at, (key, response) => {
      if (!isBundle(key)) return false;
      response.writeHead(200, { "content-type": "application/gzip", "content-encoding": "gzip" });
      response.end(gzipSync(at.world.objects.get(key)!));
      return true;
    });
    expect(await outcomeOf(at)).toEqual(refusedAs("encoded"));
  });

  test("a key that is not taken is told apart from an outage", async () => {
    const at = await scene();
    await attackBoth(at, (_key, response) => {
      response.writeHead(401).end();
      return true;
    });
    expect(await outcomeOf(at)).toEqual(refusedAs("denied"));
  });
});

describe("metadata", () => {
  test("freeze: signed metadata past its expiry is refused, and then nothing is served any more", async () => {
    const at = await scene();
    at.later(lifeMs.timestamp - 60_000);
    expect(await at.it.verdict()).toMatchObject({ verdict: "current" });
    at.later(120_000);
    expect(await at.it.served()).toBeNull();
    const verdict = await at.it.verdict();
    expect(verdict).toMatchObject({ verdict: "expired", refusal: { code: "metadata_expired" } });
    expect(at.it.counters.read().refused["metadata_expired"]).toBe(2);
    await at.world.sign(Date.now() + lifeMs.timestamp);
    at.b.objects = at.world.copy();
    expect(await at.it.verdict()).toMatchObject({ verdict: "current" });
    expect(await at.it.served()).toEqual(new Uint8Array(at.good));
  });

  test("older but unexpired metadata is behind: counted, never activated, and no breaker is touched", async () => {
    const at = await scene();
    const old = at.world.copy();
    const next = await at.world.publish({ allowed: "bob" });
    at.a.objects = at.world.copy();
    expect(await at.it.verdict()).toMatchObject({ verdict: "activated", active: { revision: 2 } });
    await at.a.stop();
    at.b.objects = old;
    for (let count = 0; count < 5; count += 1)
      expect(await at.it.verdict()).toMatchObject({ verdict: "behind", active: { revision: 2 } });
    // Once while it was behind provider a, and each time since.
    expect(at.it.counters.read().behind).toBe(6);
    expect(at.it.fetcher.standings().find(({ name }) => name === "b")?.breaker).toBe("closed");
    expect(await at.it.served()).toEqual(new Uint8Array(next.bundle));
  });

  test("rollback: newer metadata that names an older revision is never activated", async () => {
    const at = await scene();
    await at.world.publish({ allowed: "bob" });
    at.a.objects = at.world.copy();
    expect(await at.it.verdict()).toMatchObject({ verdict: "activated", active: { revision: 2 } });
    await at.world.publish({
      allowed: "alice",
      target: (target) => ({ ...target, custom: { ...target.custom, revision: 1 } }),
    });
    at.a.objects = at.world.copy();
    expect(await at.it.verdict()).toMatchObject({
      verdict: "refused",
      refusal: { code: "rollback" },
      active: { revision: 2 },
    });
    expect(at.it.counters.read().refused["rollback"]).toBe(1);
  });

  test("what is no metadata at all is refused", async () => {
    const at = await scene();
    for (const provider of [at.a, at.b])
      provider.objects.set(`tuf/${tenant}/timestamp.json`, new Uint8Array(Buffer.from("<html>")));
    expect(await outcomeOf(at)).toEqual(refusedAs("malformed"));
  });

  test("an expired root is refused, and nothing is trusted under it", async () => {
    const at = await scene();
    at.later(lifeMs.root + 60_000);
    await at.world.sign(Date.now() + lifeMs.root);
    for (const provider of [at.a, at.b]) provider.objects = at.world.copy();
    expect(await at.it.verdict()).toMatchObject({ verdict: "expired", refusal: { code: "root_expired" } });
    expect(await at.it.served()).toBeNull();
    await at.world.rotateRoot({ names: ["three"], now: Date.now() + lifeMs.root });
    at.a.objects = at.world.copy();
    expect(await at.it.verdict()).toMatchObject({ verdict: "current" });
  });

  test("a root that enough have signed is followed, over several versions, and with new online keys", async () => {
    const at = await scene();
    await at.world.rotateRoot({ names: ["two", "three"] });
    await at.world.rotateRoot({ names: ["three"], online: "new secret" });
    await at.world.publish({ allowed: "bob" });
    at.b.objects = at.world.copy();
    at.a.objects = at.world.copy();
    expect(await at.it.verdict()).toMatchObject({ verdict: "activated", active: { revision: 2 } });
    expect(at.it.fetcher.state.trusted.root).toContain('"version":3');
  });

  test("a clock that has fallen behind is told, and takes nothing", async () => {
    const at = await scene();
    at.later(-3_600_000);
    expect(await outcomeOf(at)).toEqual(refusedAs("clock_behind"));
  });

  test("a clock that is ahead serves nothing, and says what may be wrong", async () => {
    const at = await scene();
    at.later(40 * 24 * 3_600_000);
    const verdict = await at.it.verdict();
    expect(verdict).toMatchObject({ verdict: "expired", refusal: { code: "metadata_expired" } });
    expect(refusalAdvice.metadata_expired).toContain("clock");
  });
});

describe("the publisher's own signature", () => {
  test("metadata alone does not do: a statement of another key is refused", async () => {
    const at = await scene();
    await at.world.publish({ allowed: "mallory", by: await newSigner() });
    for (const provider of [at.a, at.b]) provider.objects = at.world.copy();
    expect(await outcomeOf(at)).toEqual(refusedAs("bad_statement"));
    expect(await outcomeOf(at)).toEqual(refusedAs("quarantined"));
  });

  test("a statement over other digests, or of another policy, is refused", async () => {
    for (const signed of [{ bundle_sha256: "e".repeat(64) }, { policy: "other" }, { version: "r9" }]) {
      const at = await scene();
      await at.world.publish({ allowed: "mallory", signed });
      for (const provider of [at.a, at.b]) provider.objects = at.world.copy();
      expect(await outcomeOf(at)).toEqual(refusedAs("statement_disagrees"));
    }
  });
});

describe("the bundle that is held, named anew,", () => {
  test("under a statement of another key is refused: who vouches is looked at again", async () => {
    const at = await scene();
    await at.world.publish({ bundle: new Uint8Array(at.good), signed: { version: "r2" }, by: await newSigner() });
    for (const provider of [at.a, at.b]) provider.objects = at.world.copy();
    expect(await outcomeOf(at)).toEqual(refusedAs("bad_statement"));
  });

  test("with the digest of another tar is refused, also where its publisher says so", async () => {
    const at = await scene();
    const tar_sha256 = "e".repeat(64);
    await at.world.publish({
      bundle: new Uint8Array(at.good),
      signed: { tar_sha256, version: "r2" },
      target: (target) => ({ ...target, custom: { ...target.custom, tar_sha256 } }),
    });
    for (const provider of [at.a, at.b]) provider.objects = at.world.copy();
    expect(await outcomeOf(at)).toEqual(refusedAs("wrong_tar_digest"));
  });
});

test("the last good one is served until the moment that its metadata ends", async () => {
  const { it } = await scene();
  const end = Date.parse(it.fetcher.state.active[policyPath]!.expires_at);
  expect(it.fetcher.serving(policyPath, end - 1)).toMatchObject({ state: "ready" });
  expect(it.fetcher.serving(policyPath, end)).toMatchObject({ state: "expired" });
});

describe("a list of publishers that changes", () => {
  const other = async (): Promise<string> => base64((await newSigner()).spki);
  const reopened = async (at: Scene, publishers: readonly string[]): Promise<TestFetcher> =>
    await testFetcher(at.world, [at.a, at.b], { folder: at.folder, publishers });

  test("takes what its publisher vouched for out of service at once, and brings it back with the key", async () => {
    const at = await scene();
    const without = await reopened(at, [await other()]);
    expect(without.fetcher.serving(policyPath, Date.now())).toEqual({ state: "unbelieved" });
    expect(await without.verdict()).toMatchObject({
      verdict: "refused",
      refusal: { code: "bad_statement" },
      active: null,
    });
    expect(await without.served()).toBeNull();
    const again = await reopened(at, [await other(), at.world.publisherKey]);
    expect(await again.served()).toEqual(new Uint8Array(at.good));
    expect(await again.verdict()).toMatchObject({ verdict: "current" });
  });

  test("judges a statement anew that was refused under another list, without `maestro edge clear`", async () => {
    const at = await scene();
    const mallory = await newSigner();
    const next = await at.world.publish({ allowed: "bob", by: mallory });
    for (const provider of [at.a, at.b]) provider.objects = at.world.copy();
    expect(await outcomeOf(at)).toEqual(refusedAs("bad_statement"));
    const same = await reopened(at, [at.world.publisherKey]);
    expect(await same.verdict()).toMatchObject({ refusal: { code: "quarantined" } });
    const both = await reopened(at, [at.world.publisherKey, base64(mallory.spki)]);
    expect(await both.verdict()).toMatchObject({ verdict: "activated", active: { revision: 2 } });
    expect(await both.served()).toEqual(new Uint8Array(next.bundle));
    expect(both.fetcher.state.quarantine).toEqual([]);
  });

  test("fetches no bundle again whose new statement is by another publisher: who vouches is all that has changed", async () => {
    const at = await scene();
    const heir = await newSigner();
    await at.world.publish({ bundle: new Uint8Array(at.good), signed: { version: "r2" }, by: heir });
    for (const provider of [at.a, at.b]) provider.objects = at.world.copy();
    const it = await reopened(at, [base64(heir.spki)]);
    expect(await it.verdict()).toMatchObject({ verdict: "activated", active: { revision: 2 } });
    expect(await it.served()).toEqual(new Uint8Array(at.good));
    expect(at.a.count("policies/") + at.b.count("policies/")).toBe(0);
  });
});

test("what was held before publishers were kept is not served until its statement was verified, which fetches no bundle again", async () => {
  const at = await scene();
  const path = join(at.folder, "held.json");
  const { active, ...state } = heldState.parse(JSON.parse(readFileSync(path, "utf8")));
  const { publisher_kid: kid, packed_sha256: packed, ...old } = active[policyPath]!;
  expect([kid, packed]).toEqual([expect.any(String), null]);
  writeFileSync(path, JSON.stringify({ ...state, active: { [policyPath]: old } }));
  const it = await testFetcher(at.world, [at.a, at.b], { folder: at.folder });
  expect(await it.served()).toBeNull();
  expect(await it.verdict()).toMatchObject({ verdict: "activated", active: { publisher_kid: kid } });
  expect(await it.served()).toEqual(new Uint8Array(at.good));
  expect(at.a.count("policies/") + at.b.count("policies/")).toBe(0);
});

describe("two providers", () => {
  test("one lies and the other is honest: the honest one's bytes are active, the liar is named, and not asked for them again", async () => {
    const at = await scene();
    const next = await at.world.publish({ allowed: "bob" });
    for (const provider of [at.a, at.b]) provider.objects = at.world.copy();
    const lie: Fault = (key, response) => {
      if (!isBundle(key)) return false;
      response.writeHead(200, { "content-type": "application/gzip" }).end(at.good);
      return true;
    };
    at.a.fault = lie;
    // Whichever is asked first: the other one's turn comes as well.
    await at.b.stop();
    expect(await outcomeOf(at)).toEqual(refusedAs("wrong_digest"));
    const asked = at.a.count("policies/");
    const honest = await startProvider("b", at.world.copy());
    const it = await testFetcher(at.world, [at.a, honest], { folder: at.folder });
    expect(await it.verdict()).toMatchObject({ verdict: "activated", active: { from: "b", revision: 2 } });
    expect(await it.served()).toEqual(new Uint8Array(next.bundle));
    expect(at.a.count("policies/")).toBe(asked);
  });

  test("one provider's forged metadata changes nothing while the other one's is right", async () => {
    const at = await scene();
    const next = await at.world.publish({ allowed: "bob" });
    at.b.objects = at.world.copy();
    at.a.objects.set(`tuf/${tenant}/timestamp.json`, new Uint8Array(Buffer.from("{}")));
    expect(await at.it.verdict()).toMatchObject({ verdict: "activated", active: { from: "b" } });
    expect(at.it.objections).toContain("a malformed");
    expect(await at.it.served()).toEqual(new Uint8Array(next.bundle));
  });

  test("both down: the last good one stays, also over a restart, until its metadata expires", async () => {
    const at = await scene();
    await at.a.stop();
    await at.b.stop();
    expect(await outcomeOf(at)).toEqual(refusedAs("unreachable"));
    const again = await testFetcher(at.world, [at.a, at.b], { folder: at.folder });
    expect(await outcomeOf({ ...at, it: again })).toEqual(refusedAs("unreachable"));
    const late = await testFetcher(at.world, [at.a, at.b], {
      folder: at.folder,
      clock: () => Date.now() + lifeMs.timestamp + 60_000,
    });
    expect(await late.served()).toBeNull();
    expect(await late.verdict()).toMatchObject({ verdict: "expired", refusal: { code: "unreachable" } });
  });

  test("one that hangs holds nobody up for longer than a second", async () => {
    const at = await scene({ bounds: { headMsMax: 20_000, idleMsMax: 20_000, totalMs: 20_000, bytesPerMs: 1_000 } });
    await at.world.publish({ allowed: "bob" });
    at.a.objects = at.world.copy();
    at.b.objects = at.world.copy();
    at.b.fault = () => true;
    const startedAt = Date.now();
    expect(await at.it.verdict()).toMatchObject({ verdict: "activated", active: { from: "a" } });
    expect(Date.now() - startedAt).toBeLessThan(4_000);
    expect(at.it.objections).toContain("b late");
  });
});

test("a policy that the tenant does not publish is told as that", async () => {
  const at = await scene();
  expect(await at.it.verdict("gateway/canary/bundle.tar.gz")).toMatchObject({
    verdict: "refused",
    refusal: { code: "not_a_target" },
    active: null,
  });
  expect(await at.it.verdict(policyPath)).toMatchObject({ verdict: "current" });
});
