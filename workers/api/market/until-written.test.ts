import { expect, test } from "vitest";
import { Problem } from "../../../shared/contract/problems.ts";
import { untilWritten } from "./until-written.ts";

/** What one call comes to: `bytes` are what chance gives, each time. */
async function outcome(lost: number, bytes: readonly number[]) {
  const paused: number[] = [];
  let attempts = 0;
  const parts = {
    random: () => Uint8Array.from(bytes),
    pause: (ms: number) => Promise.resolve(void paused.push(ms)),
  };
  const attempt = () => Promise.resolve((attempts += 1) <= lost ? null : { attempts });
  const written = await untilWritten(parts, attempt, () => new Problem("package_busy", "Busy.")).catch(
    (error: unknown) => error,
  );
  return { written, paused, attempts };
}
const most = [255, 255, 255, 255];

test("who wins at once waits for nothing", async () => {
  expect(await outcome(0, most)).toEqual({ written: { attempts: 1 }, paused: [], attempts: 1 });
});

test("who loses waits twice as long at most each time, up to a bound, and ten seconds in all", async () => {
  const { written, paused, attempts } = await outcome(Number.POSITIVE_INFINITY, most);
  expect(written).toMatchObject({ code: "package_busy" });
  expect(attempts).toBe(paused.length + 1);
  expect(paused.slice(0, 6)).toEqual([19, 39, 79, 159, 319, 639]);
  expect(Math.max(...paused)).toBe(1_199);
  expect(paused.reduce((sum, ms) => sum + ms, 0)).toBeLessThanOrEqual(10_000);
});

test("how long is left to chance, from nothing on", async () => {
  expect((await outcome(3, [0, 0, 0, 0])).paused).toEqual([0, 0, 0]);
  expect((await outcome(3, [128, 0, 0, 0])).paused).toEqual([10, 20, 40]);
});

test("what fails is not tried again", async () => {
  let attempts = 0;
  const parts = { random: () => new Uint8Array(4), pause: () => Promise.resolve() };
  const fails = () => {
    attempts += 1;
    return Promise.reject(new Error("down"));
  };
  await expect(untilWritten(parts, fails, () => new Problem("package_busy", "Busy."))).rejects.toThrow("down");
  expect(attempts).toBe(1);
});
