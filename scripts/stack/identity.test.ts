// The stack's own authority over time, with a clock of its own: keys that grow old, the API's SVID, a bundle that must reach Postgres.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { authorityLifeMs, readAuthority, rotateAuthority } from "../../cli/svid/authority-folder.ts";
import { readCertificate } from "../../cli/svid/svid-folder.ts";
import { activeKey } from "../../shared/identity/issue/authority-state.ts";
import { startIdentity, type IdentityOptions, type StackIdentity } from "./identity.ts";

const withinMs = 10_000;
let folder: string;
let now: number;
let running: StackIdentity | null;
const faults: unknown[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "maestro-identity-"));
  now = Date.now();
  running = null;
  faults.length = 0;
});
afterEach(async () => {
  await running?.stop();
  rmSync(folder, { recursive: true });
});

async function start(more: Partial<IdentityOptions> = {}): Promise<StackIdentity> {
  await running?.stop();
  running = await startIdentity({
    folder,
    clock: () => now,
    onRenewed: () => {},
    onBundle: () => Promise.resolve(),
    onFault: (error) => faults.push(error),
    ...more,
  });
  return running;
}

test("a second start has the same authority, and another SVID of the API's", async () => {
  const first = await start();
  const authority = await readAuthority(first.authorityFolder);
  const svid = first.svid();
  const second = await start();
  expect(await readAuthority(second.authorityFolder)).toEqual(authority);
  expect(second.svid().chainPem).not.toBe(svid.chainPem);
  expect((await readCertificate(second.apiFolder)).id.uri).toBe("spiffe://mc.local/platform/api");
});

test("keys of which a third is left are replaced at a start, one kind or both, in whatever state a rotation was left", async () => {
  const first = await start();
  const before = await readAuthority(first.authorityFolder);
  await rotateAuthority(first.authorityFolder, "prepare", ["x509"], now);
  await rotateAuthority(first.authorityFolder, "activate", ["x509"], now);
  now += Math.round(authorityLifeMs * 0.7);
  const second = await start();
  const after = await readAuthority(second.authorityFolder);
  for (const kind of ["x509", "jwt"] as const) {
    expect(activeKey(after[kind]).id).not.toBe(activeKey(before[kind]).id);
    expect(activeKey(after[kind]).expires_at).toBe(now + authorityLifeMs);
  }
  expect(after.sequence).toBeGreaterThan(before.sequence);
});

test("the API's SVID is minted again when two thirds of its life are gone", async () => {
  const renewed = vi.fn();
  const { svid } = await start({ onRenewed: renewed });
  const before = svid();
  now += 2_390_000;
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect(renewed).not.toHaveBeenCalled();
  now += 20_000;
  await vi.waitFor(() => expect(renewed).toHaveBeenCalledOnce(), withinMs);
  expect(svid().chainPem).not.toBe(before.chainPem);
});

test("a bundle that could not be told is told again until it is", async () => {
  const told: unknown[] = [];
  const { authorityFolder, sequence } = await start({
    onBundle: (document) => {
      told.push((JSON.parse(document) as { spiffe_sequence: unknown }).spiffe_sequence);
      return told.length < 2 ? Promise.reject(new Error("no database")) : Promise.resolve();
    },
  });
  await rotateAuthority(authorityFolder, "prepare", ["x509", "jwt"], now);
  await vi.waitFor(() => expect(sequence()).toBe(2), withinMs);
  expect([told, faults.length]).toEqual([[2, 2], 1]);
});
