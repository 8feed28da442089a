import { beforeAll, expect, test } from "vitest";
import { authorityEntry, bundleDocument, newAuthority } from "../../test/support/svid.ts";
import { emptyBundleState, missBundle, receiveBundle, type BundleState } from "./bundle-state.ts";
import { parseTrustDomain } from "./spiffe-id.ts";

let empty: BundleState;
let first: object;
let second: object;
const start = Date.UTC(2026, 3, 13);
const documentOf = (sequence: number | null, keys: readonly object[], hint?: number): string =>
  bundleDocument(keys, {
    ...(sequence === null ? {} : { spiffe_sequence: sequence }),
    ...(hint === undefined ? {} : { spiffe_refresh_hint: hint }),
  });

beforeAll(async () => {
  const parsed = parseTrustDomain("td.example");
  if (!parsed.ok) throw new Error(parsed.refusal.reason);
  empty = emptyBundleState(parsed.value, start);
  first = authorityEntry(await newAuthority("td.example"));
  second = authorityEntry(await newAuthority("td.example"));
});

test("what holds is kept, and asked for again after the hint, within bounds (4.1.2)", async () => {
  const after = async (hint?: number): Promise<number> =>
    (await receiveBundle(empty, documentOf(1, [first], hint), start)).refreshAtMs - start;
  expect(empty).toMatchObject({ bundle: null, refreshAtMs: start });
  expect(await Promise.all([undefined, 60, 0, 10_000_000].map(after))).toEqual([300_000, 60_000, 10_000, 3_600_000]);
});

test("a distrust counts under the same sequence; what is of before it never follows, whatever sequence it has", async () => {
  const of = (sequence: number | null, distrusts: number, keys: readonly object[]): string =>
    bundleDocument(keys, {
      ...(sequence === null ? {} : { spiffe_sequence: sequence }),
      ...(distrusts === 0 ? {} : { maestro_distrusts: distrusts }),
    });
  const held = await receiveBundle(await receiveBundle(empty, of(5, 0, [first]), start), of(5, 2, []), start);
  expect([held.refused, held.bundle?.authorities]).toEqual([null, []]);
  const sequence = "SPIFFE Trust Domain and Bundle 4.1.1";
  for (const [document, section] of [
    [of(5, 0, [first]), "ADR-1243"],
    [of(6, 1, [first]), "ADR-1243"],
    [of(null, 0, [first]), "ADR-1243"],
    [of(5, 2, [second]), sequence],
    [of(4, 3, []), sequence],
    [of(5, 3, [second]), null],
    [of(6, 2, [second]), null],
    [of(null, 2, [second]), null],
  ] as const) {
    const next = await receiveBundle(held, document, start);
    expect([document, next.refused?.refusal.section ?? null]).toEqual([document, section]);
  }
  const between = await receiveBundle(held, of(null, 3, []), start);
  expect((await receiveBundle(between, of(5, 3, [second]), start)).refused).toBeNull();
});

test("a document that goes back, or changes without its sequence, leaves the last good one and says why (4.1.1)", async () => {
  const held = await receiveBundle(empty, documentOf(5, [first]), start);
  const outcomes: Record<string, unknown> = {};
  for (const [name, document] of Object.entries({
    older: documentOf(4, [second]),
    same: documentOf(5, [first]),
    changed: documentOf(5, [second]),
    withoutSequence: documentOf(null, [second]),
    broken: "{",
    newer: documentOf(6, [second]),
    revoking: documentOf(6, []),
  })) {
    const next = await receiveBundle(held, document, start + 1_000);
    outcomes[name] = [
      next.bundle?.digest === held.bundle?.digest,
      next.refused?.refusal.section ?? null,
      next.failures,
    ];
  }
  const sequence = "SPIFFE Trust Domain and Bundle 4.1.1";
  expect(outcomes).toEqual({
    older: [true, sequence, 1],
    same: [true, null, 0],
    changed: [true, sequence, 1],
    withoutSequence: [false, null, 0],
    broken: [true, "SPIFFE Trust Domain and Bundle 4.1", 1],
    newer: [false, null, 0],
    revoking: [false, null, 0],
  });
});

test("without a sequence the newest document counts (SPIFFE Federation 4.2), and makes no lower one good again", async () => {
  const held = await receiveBundle(empty, documentOf(null, [first]), start);
  const next = await receiveBundle(held, documentOf(null, [second]), start);
  expect(next.bundle?.digest).not.toBe(held.bundle?.digest);
  const numbered = await receiveBundle(next, documentOf(5, [first]), start);
  const without = await receiveBundle(numbered, documentOf(null, [second]), start);
  expect([numbered.bundle?.sequence, without.bundle?.sequence]).toEqual([5, null]);
  expect((await receiveBundle(without, documentOf(4, [first]), start)).failures).toBe(1);
  expect((await receiveBundle(without, documentOf(5, [second]), start)).failures).toBe(1);
  expect((await receiveBundle(without, documentOf(5, [first]), start)).bundle?.sequence).toBe(5);
});

test("after a failure it is asked again at the next interval, not sooner (SPIFFE Federation 6.2); a good one forgets it", async () => {
  const never = missBundle(empty, "the endpoint did not answer", start);
  expect([never.bundle, never.refreshAtMs - start]).toEqual([null, 30_000]);
  let state = await receiveBundle(empty, documentOf(1, [first], 60), start);
  for (const at of [start, start + 1_000]) {
    state = missBundle(state, "the endpoint did not answer", at);
    expect(state.refreshAtMs).toBe(at + 60_000);
  }
  expect(state).toMatchObject({
    failures: 2,
    confirmedAtMs: start,
    refused: { refusal: { reason: "the endpoint did not answer" }, atMs: start + 1_000 },
  });
  state = await receiveBundle(state, documentOf(1, [first], 60), start + 9_000);
  expect(state).toMatchObject({
    failures: 0,
    refused: null,
    confirmedAtMs: start + 9_000,
    refreshAtMs: start + 69_000,
  });
});
