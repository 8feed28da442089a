// The bound on how long the signer is waited for.

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { timestampOf } from "../../../shared/edge/tuf.ts";
import { tufSignerInTime, tufSignerMsMax } from "./tuf-signer.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("a signer that never answers is waited for so long, and no longer", async () => {
  const signer = tufSignerInTime({ tufKeys: () => new Promise(() => {}), signTuf: () => new Promise(() => {}) });
  const signed = await timestampOf(1, { version: 1, text: "{}" }, Date.now());
  for (const call of [() => signer.tufKeys("t"), () => signer.signTuf("t", signed)]) {
    let told = "";
    const done = call().catch((error: unknown) => (told = String(error)));
    await vi.advanceTimersByTimeAsync(tufSignerMsMax - 1);
    expect(told).toBe("");
    await vi.advanceTimersByTimeAsync(1);
    await done;
    expect(told).toContain(`the signer did not answer within ${tufSignerMsMax} ms`);
  }
});

test("what it answers, and what it throws, come through", async () => {
  const signed = await timestampOf(1, { version: 1, text: "{}" }, Date.now());
  const signer = tufSignerInTime({
    tufKeys: () => Promise.reject(new RangeError("away")),
    signTuf: (tenantId) => Promise.resolve({ ok: false, reason: tenantId }),
  });
  await expect(signer.tufKeys("t")).rejects.toThrow("away");
  expect(await signer.signTuf("t", signed)).toEqual({ ok: false, reason: "t" });
});
