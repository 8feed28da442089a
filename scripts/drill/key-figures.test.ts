import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { judge, keyFigures, type KeyMeasured, type PresentedRecord, type WorkRecord } from "./key-figures.ts";
import { loadKinds, dueBetween, nextMove, type AuthorityFacts, type AuthorityMove } from "./key-plan.ts";
import { requestLines, timelineText } from "./key-report.ts";
import { keyRotation, shortSetting } from "./key-rotation.ts";

const began = 1_000_000;
const revocation = {
  generation: 0,
  sent: began + 1_000,
  api_returned: began + 1_100,
  edges_returned: began + 6_500,
};
const presented = (at: number, given: Partial<PresentedRecord> = {}): PresentedRecord => ({
  place: "a",
  generation: 0,
  started: began + at,
  ended: began + at + 5,
  status: 200,
  reused: true,
  ...given,
});
const work = (at: number, given: Partial<WorkRecord> = {}): WorkRecord => ({
  kind: "fetch_a",
  due: began + at,
  started: began + at + 1,
  ended: began + at + 6,
  fault: null,
  ...given,
});
const rotated = (identity: "signer" | "fetchers", seconds: number) => ({
  identity,
  started: began,
  revoked: began + seconds * 1_000,
});
const measured = (given: Partial<KeyMeasured> = {}): KeyMeasured => ({
  began,
  stopped: began + 10_000,
  work: [work(100)],
  presented: [],
  revocations: [revocation],
  rotations: [rotated("signer", 3), rotated("fetchers", 12)],
  troubles: [],
  ...given,
});
const headlineOf = (given: Partial<KeyMeasured>) => keyFigures(shortSetting, measured(given)).headline;

test("MC-ZTE-1942: a request that began after the revocation had returned is never to be accepted, at the API at once, at the edges after their lease", () => {
  const ended = (at: number) => ({ started: began + at, ended: began + at + 5 });
  expect(judge({ place: "api_token", ...ended(1_101) }, revocation)).toBe("revoked");
  expect(judge({ place: "api_certificate", ...ended(1_100) }, revocation)).toBe("between");
  expect(judge({ place: "b", ...ended(1_101) }, revocation)).toBe("between");
  expect(judge({ place: "b", ...ended(6_501) }, revocation)).toBe("revoked");
  expect(headlineOf({ presented: [presented(6_501), presented(6_501, { status: 401 })] })).toMatchObject({
    failed: 0,
    accepted_after_revocation: 1,
    presented_after_revocation: 2,
  });
});

test("a request is judged by when it began: one that was under way may end either way", () => {
  expect(judge({ place: "a", started: began + 990, ended: began + 9_000 }, revocation)).toBe("between");
  const either = [presented(990, { ended: began + 1_050 }), presented(2_000, { status: 401 })];
  expect(headlineOf({ presented: either })).toMatchObject({ failed: 0, accepted_after_revocation: 0 });
});

test("an SVID that is refused before its authority is revoked, or whose authority never is, has failed", () => {
  const refused = { status: 401 };
  const before = [presented(500, refused), presented(9_000, { ...refused, generation: 1 }), presented(500)];
  expect(headlineOf({ presented: before })).toMatchObject({ failed: 2, accepted_after_revocation: 0 });
});

test("work that did not get what it should has failed, and the first faults are told with their time", () => {
  const { headline, complaints, parts } = keyFigures(
    shortSetting,
    measured({ work: [work(100), work(200, { kind: "install", fault: "it was answered 503" })] }),
  );
  expect(headline).toMatchObject({ requests: 2, failed: 1, reached_per_s: 0.1 });
  expect(complaints).toEqual(["0.20 s: install failed: it was answered 503"]);
  expect(parts["install"]).toMatchObject({ requests: 1, failed: 1 });
});

test("a call of a rotation that broke has failed though it was sent again; one that was put off has not", () => {
  const trouble = (status: number) => ({ at: began, status, words: `it was answered ${status}` });
  const { headline, parts } = keyFigures(shortSetting, measured({ troubles: [trouble(500), trouble(503)] }));
  expect([headline["failed"], parts["rotating"]]).toEqual([1, { sent_again: 2 }]);
});

test("the 95th percentile of the rotations is the nearest rank over both identities' together", () => {
  const ten = [1, 2, 3, 4, 5].flatMap((seconds) => [rotated("signer", seconds), rotated("fetchers", seconds + 10)]);
  expect(headlineOf({ rotations: ten })).toMatchObject({ rotations: 10, rotation_p95_s: 15, rotation_median_s: 8 });
  expect(keyFigures(shortSetting, measured({ rotations: ten })).parts["signer"]).toMatchObject({
    median_s: 3,
    slowest_s: 5,
  });
});

test("the plan has each kind at its own rate, and nothing twice or never, however it is cut", () => {
  const whole = dueBetween(shortSetting.per_s, 0, 10_000);
  for (const kind of loadKinds)
    expect([kind, whole.filter((one) => one.kind === kind).length]).toEqual([kind, shortSetting.per_s[kind] * 10]);
  const cuts = [0, 3, 250, 251, 4_000, 4_000, 10_000];
  const pieces = cuts.slice(1).flatMap((to, at) => dueBetween(shortSetting.per_s, cuts[at]!, to));
  expect(pieces).toEqual(whole);
});

test("both settings say the rate that their kinds have together", () => {
  for (const setting of [shortSetting, keyRotation.settings as unknown as typeof shortSetting])
    expect(Object.values(setting.per_s).reduce((sum, rate) => sum + rate, 0)).toBe(setting.offered_per_s);
});

const steady: AuthorityFacts = { state: "prepare", beside: "none", in_force: true, reissued: false, replaced: false };

test.each<[AuthorityMove, AuthorityFacts]>([
  ["prepare", steady],
  ["hand_in", { ...steady, beside: "prepared", in_force: false }],
  ["await_rotation", { ...steady, beside: "prepared" }],
  ["taint", { ...steady, beside: "old" }],
  ["revoke", { ...steady, beside: "tainted" }],
  ["hand_in", { ...steady, in_force: false }],
  ["await_rotation", { ...steady, state: "published", beside: "prepared" }],
  ["activate", { ...steady, state: "acknowledged", beside: "prepared" }],
  ["reissue", { ...steady, state: "acknowledged", beside: "old" }],
  ["await_rotation", { ...steady, state: "acknowledged", beside: "old", reissued: true }],
  ["taint", { ...steady, state: "active", beside: "old", reissued: true }],
  ["reissue", { ...steady, state: "tainted", beside: "tainted" }],
  ["await_rotation", { ...steady, state: "tainted", beside: "tainted", reissued: true }],
  ["taint", { ...steady, state: "verified", beside: "old", reissued: true, replaced: true }],
  ["reissue", { ...steady, state: "verified", beside: "tainted" }],
  ["await_replacement", { ...steady, state: "verified", beside: "tainted", reissued: true }],
  ["revoke", { ...steady, state: "verified", beside: "tainted", reissued: true, replaced: true }],
  ["hand_in", { ...steady, state: "verified", in_force: false, replaced: true }],
  ["await_rotation", { ...steady, state: "verified" }],
  ["done", { ...steady, state: "revoked" }],
])("what is seen of an authority's rotation says %s, whoever looks and whatever they did before", (move, facts) => {
  expect(nextMove(facts)).toBe(move);
});

test("the record has each request in a line, and the steps by their time from the start", () => {
  const facts = measured({ work: [work(100, { fault: 'it said "no"' })], presented: [presented(50)] });
  expect(gunzipSync(requestLines(facts)).toString().split("\n")).toEqual([
    "what,place,authority,started_ms,took_ms,answer",
    "open,a,0,50,5,200",
    'fetch_a,,,101,5,"it said ""no"""',
    "",
  ]);
  const steps = [{ at: began + 7, identity: "signer", rotation: 1, step: "prepare" }] as const;
  expect(JSON.parse(timelineText(facts, steps))).toMatchObject({
    steps: [{ ms: 7, identity: "signer", rotation: 1, step: "prepare" }],
    revocations: [{ authority: 0, sent_ms: 1_000, api_returned_ms: 1_100, edges_returned_ms: 6_500 }],
  });
});

test("the method has every figure with a goal, and how rotations are counted", () => {
  const text = readFileSync(new URL("../../docs/adr/ADR-1239-key-rotation-drill.md", import.meta.url), "utf8");
  for (const figure of [...keyRotation.goals.map((goal) => goal.figure), "rotation_p95_s"])
    expect(text).toContain(figure);
});
