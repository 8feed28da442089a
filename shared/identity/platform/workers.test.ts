// The platform's workers between each other, on a clock of the test's own: caller, door and authority in one process.

import { beforeAll, describe, expect, test } from "vitest";
import { base64 } from "../../contract/bytes.ts";
import { importSigner, type Signer } from "../../signing/keys.ts";
import { svidClaims } from "../issue/issue-svid.ts";
import { compactJws } from "../issue/jws.ts";
import { checkAttestation, rawSignature, readWorkerKeys, writeAttestation, type WorkerKeys } from "./attestation.ts";
import { bundleOfKeys, issueToWorker, svidLifeMs, type AuthorityKey } from "./authority.ts";
import { bundleLeaseMs, HeldBundle } from "./held-bundle.ts";
import { platformId, platformWorkers, type PlatformWorker } from "./names.ts";
import type { GuardedService, WorkerAnswer } from "./service.ts";
import { askAuthority, WorkerCaller, WorkerCallRefused } from "./worker-caller.ts";
import { WorkerDoor } from "./worker-door.ts";

const trustDomain = "platform.mc.test";
const start = Date.UTC(2026, 10, 26);

async function newSigner(): Promise<Signer> {
  const pair = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
  return await importSigner(JSON.stringify(await crypto.subtle.exportKey("jwk", pair.privateKey)), "P-256");
}

let own: Record<"api" | "audit", Signer>;
let first: Signer;
let second: Signer;
let workerKeys: WorkerKeys;
beforeAll(async () => {
  own = { api: await newSigner(), audit: await newSigner() };
  [first, second] = [await newSigner(), await newSigner()];
  workerKeys = await readWorkerKeys(JSON.stringify({ api: [base64(own.api.spki)], audit: [base64(own.audit.spki)] }));
});

class Target {
  readonly calls: unknown[][] = [];

  async countersign(...given: unknown[]): Promise<unknown> {
    this.calls.push(given);
    if (given[0] === "throw") throw new Error("the method failed");
    return given;
  }
}

class World {
  now = start;
  keys: (AuthorityKey & { readonly signer: Signer })[] = [
    {
      kid: first.kid,
      spki: base64(first.spki),
      active: true,
      since: "2026-01-01T00:00:00.000Z",
      revoked: false,
      signer: first,
    },
  ];
  isDown = false;
  /** It gives its bundle, and no SVID. */
  issueIsDown = false;
  issued = 0;
  bundles = 0;
  readonly work: Promise<unknown>[] = [];
  readonly target = new Target();
  /** The methods that the signer's door let through to its class, and `introduce`. */
  readonly seen: string[] = [];

  clock = (): number => this.now;
  later = (work: Promise<unknown>): void => void this.work.push(work);

  #up(): void {
    if (this.isDown) throw new Error("the authority is down");
  }

  readonly authority = {
    issue: async (attestation: string) => {
      this.#up();
      if (this.issueIsDown) throw new Error("the authority issues nothing");
      this.issued += 1;
      return await issueToWorker(
        {
          clock: this.clock,
          trustDomain,
          workerKeys: async () => workerKeys,
          signed: (_, work) => work(this.keys.find(({ active }) => active)!.signer),
        },
        attestation,
      );
    },
    bundle: async () => {
      this.#up();
      this.bundles += 1;
      return bundleOfKeys(this.keys);
    },
  };

  held(): HeldBundle {
    return new HeldBundle({ trustDomain, clock: this.clock, ask: this.authority.bundle, later: this.later });
  }

  caller(self: "api" | "audit", by: Signer = own[self], held = this.held()): WorkerCaller {
    const shared = { self, trustDomain, clock: this.clock };
    return new WorkerCaller({
      ...shared,
      held,
      later: this.later,
      askForSvid: askAuthority(shared, async () => by, this.authority),
    });
  }

  door(self: PlatformWorker = "signer", held = this.held()): GuardedService {
    const door = new WorkerDoor({
      self,
      trustDomain,
      clock: this.clock,
      held,
      decide: ({ method, spiffe_id }) =>
        spiffe_id === platformId(trustDomain, "api").uri && ["introduce", "countersign", "toString"].includes(method)
          ? { allow: true }
          : { allow: false, reason: `${spiffe_id} may not call ${method}` },
      ownSvid: async (audience) => await this.mint({ self, audience }),
    });
    return {
      call: async (svid, method, given): Promise<WorkerAnswer> => {
        const answer = await door.call(svid, method, given, this.target);
        if (answer.ok) this.seen.push(method);
        return answer;
      },
    };
  }

  mint(
    { self, audience }: { self: string; audience: string },
    by: Signer = this.keys.find(({ active }) => active)!.signer,
    lifeMs: number = svidLifeMs,
  ): Promise<string> {
    const id = (name: string): string => (name.includes(":") ? name : `spiffe://${trustDomain}/platform/${name}`);
    const claims = svidClaims(
      { spiffeId: id(self), audience: id(audience) },
      { fromMs: this.now, untilMs: this.now + lifeMs },
    );
    return compactJws(by.kid, claims, async (bytes) => rawSignature(await by.sign(bytes)));
  }

  async settle(): Promise<void> {
    await Promise.all(this.work.splice(0));
  }

  /** What a rotation does to the keys, step by step. */
  publish(): void {
    this.keys.push({
      kid: second.kid,
      spki: base64(second.spki),
      active: false,
      since: null,
      revoked: false,
      signer: second,
    });
  }
  activate(): void {
    const since = new Date(this.now).toISOString();
    this.keys = this.keys.map((key) =>
      key.signer === second ? { ...key, active: true, since } : { ...key, active: false },
    );
  }
  revoke(): void {
    this.keys = this.keys.map((key) => (key.signer === first ? { ...key, revoked: true } : key));
  }
}

interface SignerCalls {
  countersign(...given: unknown[]): Promise<unknown>;
}
const asked = (world: World, caller = world.caller("api"), door = world.door()) =>
  caller.service("signer", door, (error) => error) as SignerCalls;

describe("a call", () => {
  test("is made with an SVID, after the callee has shown one of its own, and comes back with what the method gave", async () => {
    const world = new World();
    expect(await asked(world).countersign({ a: 1 }, "b")).toEqual([{ a: 1 }, "b"]);
    expect(world.seen).toEqual(["introduce", "countersign"]);
    expect(world.target.calls).toEqual([[{ a: 1 }, "b"]]);
  });

  test("of a method that throws is not repeated: the error goes to the caller as it is", async () => {
    const world = new World();
    await expect(asked(world).countersign("throw")).rejects.toThrow("the method failed");
    expect(world.target.calls).toHaveLength(1);
  });

  test("without an SVID that holds is refused, and nothing is done: none, forged, foreign, expired, of another audience, domain or ID", async () => {
    const world = new World();
    const good = { self: "api", audience: "signer" };
    const expired = await world.mint(good, first, 1_000);
    world.now += 62_000;
    const forged = `${(await world.mint(good)).slice(0, -8)}AAAAAAAA`;
    const attestation = await writeAttestation(own.api, trustDomain, { self: "api", audience: "signer" }, world.now);
    const refused: [unknown, WorkerAnswer extends never ? never : string, RegExp][] = [
      [undefined, "svid_refused", /no SVID/],
      ["", "svid_refused", /no SVID/],
      ["a.b.c", "svid_refused", /./],
      [forged, "svid_refused", /signature does not hold/],
      [await world.mint(good, second), "svid_refused", /no key of the token's kid/],
      [expired, "svid_refused", /has expired/],
      [await world.mint({ self: "api", audience: "audit" }), "svid_refused", /another audience/],
      [await world.mint({ self: "api", audience: "maestro-api" }), "svid_refused", /another audience/],
      [
        await world.mint({ self: "spiffe://mc.local/platform/api", audience: "signer" }),
        "svid_refused",
        /is of mc.local/,
      ],
      [attestation, "svid_refused", /./],
      [await world.mint({ self: "audit", audience: "signer" }), "denied", /may not call/],
      [await world.mint({ self: "edge", audience: "signer" }), "denied", /may not call/],
    ];
    const door = world.door();
    for (const [svid, code, reason] of refused) {
      const answer = await door.call(svid as string, "countersign", []);
      expect(answer).toMatchObject({ ok: false, refusal: { code, reason: expect.stringMatching(reason) as string } });
    }
    expect(world.target.calls).toEqual([]);
  });

  test("of what is no method of the callee's class is refused, whatever the policy says", async () => {
    const world = new World();
    const svid = await world.mint({ self: "api", audience: "signer" });
    for (const [method, given] of [
      ["toString", []],
      ["constructor", []],
      ["calls", []],
      [1, []],
      ["countersign", "x"],
    ])
      expect(await world.door().call(svid, method as string, given as [])).toMatchObject({
        ok: false,
        refusal: { code: "denied" },
      });
  });
});

describe("a callee that does not prove itself", () => {
  test("is sent no argument", async () => {
    const world = new World();
    const shown = async (svid: unknown): Promise<GuardedService & { sent: string[] }> => {
      const sent: string[] = [];
      return {
        sent,
        call: async (_, method) => {
          sent.push(method);
          return { ok: true, value: { svid, holds: [] } };
        },
      };
    };
    for (const svid of [
      undefined,
      "x",
      await world.mint({ self: "audit", audience: "api" }),
      await world.mint({ self: "signer", audience: "audit" }),
      await world.mint({ self: "signer", audience: "api" }, second),
    ]) {
      const rogue = await shown(svid);
      await expect(asked(world, world.caller("api"), rogue).countersign("secret")).rejects.toThrow(
        "signer does not prove who it is",
      );
      expect(rogue.sent).toEqual(["introduce"]);
    }
  });
});

describe("a callee that is replaced", () => {
  test("is sent no argument from the caller's next SVID on, though the one before it had proven itself", async () => {
    const world = new World();
    const good = world.door();
    const sent: string[] = [];
    let isReplaced = false;
    const binding: GuardedService = {
      call: async (svid, method, given) => {
        if (!isReplaced) return await good.call(svid, method, given);
        sent.push(method);
        return { ok: true, value: { svid: await world.mint({ self: "audit", audience: "api" }), holds: [] } };
      },
    };
    const calls = asked(world, world.caller("api"), binding);
    await calls.countersign(1);
    isReplaced = true;
    world.now += (svidLifeMs * 2) / 3;
    await expect(calls.countersign("secret")).rejects.toThrow("signer does not prove who it is");
    expect(sent).toEqual(["introduce"]);
  });
});

describe("attestations", () => {
  const ask = { self: "api", audience: "signer" } as const;

  test("tell whose key signed, for a minute, and nothing without a worker's key", async () => {
    const token = await writeAttestation(own.api, trustDomain, ask, start);
    const check = (given: unknown, now = start) => checkAttestation(workerKeys, trustDomain, given, now);
    expect(await check(token)).toEqual({ ok: true, ...ask });
    expect(await check(token, start + 110_000)).toEqual({ ok: true, ...ask });
    const reasons: [unknown, number, RegExp][] = [
      [token, start + 121_000, /stale/],
      [token, start - 61_000, /does not hold/],
      [await writeAttestation(await newSigner(), trustDomain, ask, start), start, /no worker is known/],
      [await writeAttestation(own.audit, trustDomain, ask, start), start, /another worker's than its sub/],
      [await writeAttestation(own.api, "platform.other.test", ask, start), start, /does not hold/],
      [`${token.slice(0, -8)}AAAAAAAA`, start, /does not hold/],
      [await new World().mint({ self: "api", audience: "authority" }, own.api), start, /does not hold/],
      [undefined, start, /no short text/],
      ["x".repeat(3_000), start, /no short text/],
    ];
    for (const [given, now, reason] of reasons)
      expect(await check(given, now)).toEqual({ ok: false, reason: expect.stringMatching(reason) as string });
  });

  test("of keys that stand twice, or are none, are not read", async () => {
    const key = base64(own.api.spki);
    for (const keys of [{ api: [key], audit: [key] }, { api: ["AAAA"] }, { edge: [key] }, []])
      await expect(readWorkerKeys(JSON.stringify(keys))).rejects.toThrow(/./);
  });
});

describe("an SVID of one's own", () => {
  test("is renewed by one request when half of its life is left, while the others go on with it", async () => {
    const world = new World();
    const calls = asked(world);
    await calls.countersign(1);
    expect(world.issued).toBe(1);
    world.now += svidLifeMs / 2 - 1;
    await calls.countersign(2);
    await world.settle();
    expect(world.issued).toBe(1);
    world.now += 1;
    await Promise.all(Array.from({ length: 50 }, (_, at) => calls.countersign(at)));
    await world.settle();
    expect(world.issued).toBe(2);
    expect(world.target.calls).toHaveLength(52);
  });

  test("of which a third is left after a pause is renewed before the request goes on that finds it so, and holds while it cannot be", async () => {
    const world = new World();
    const caller = world.caller("api");
    const calls = asked(world, caller);
    await calls.countersign(1);
    world.now += (svidLifeMs * 2) / 3;
    await calls.countersign(2);
    expect([world.issued, caller.shown("signer")]).toMatchObject([2, { issued_at_ms: world.now }]);
    const begun = world.now;
    world.now += (svidLifeMs * 2) / 3;
    world.issueIsDown = true;
    await calls.countersign(3);
    expect(caller.shown("signer")).toMatchObject({ issued_at_ms: begun });
    expect(world.target.calls.flat()).toEqual([1, 2, 3]);
  });

  test("that ended while the authority was down is the end of calls, and they go on when it is back; one that holds is not noticed", async () => {
    const world = new World();
    const calls = asked(world);
    await calls.countersign(1);
    world.isDown = true;
    world.now += bundleLeaseMs - 1;
    await calls.countersign(2);
    world.now += 2;
    await expect(calls.countersign(3)).rejects.toMatchObject({ name: "WorkerCallRefused", code: "unavailable" });
    await world.settle();
    world.isDown = false;
    await calls.countersign(4);
    world.isDown = true;
    world.now += svidLifeMs;
    await expect(calls.countersign(5)).rejects.toMatchObject({ code: "unavailable", message: /the authority/ });
    await world.settle();
    world.isDown = false;
    await calls.countersign(6);
    expect(world.target.calls.flat()).toEqual([1, 2, 4, 6]);
  });

  test("is not presented in its last five seconds, also where no other is to be had", async () => {
    const world = new World();
    const caller = world.caller("api");
    const token = await caller.svid("signer");
    world.issueIsDown = true;
    world.now += svidLifeMs - 5_000;
    expect(await caller.svid("signer")).toBe(token);
    world.now += 1;
    await expect(caller.svid("signer")).rejects.toMatchObject({ name: "WorkerCallRefused", code: "unavailable" });
  });

  test("is not given to a caller with a foreign key: the reason is told, and nothing is called", async () => {
    const world = new World();
    const stranger = world.caller("api", await newSigner());
    await expect(asked(world, stranger).countersign(1)).rejects.toThrow(/gives no SVID: no worker is known/);
    expect(world.seen).toEqual([]);
  });
});

describe("a rotation of the authority", () => {
  test("loses no call, has every caller renew, and after its revocation and the lease nothing of the old key is believed", async () => {
    const world = new World();
    const callers = Array.from({ length: 3 }, () => ({ calls: asked(world), isolate: 0 }));
    const door = world.door();
    const olds = await world.mint({ self: "api", audience: "signer" });
    let made = 0;
    const traffic = async (): Promise<void> => {
      for (const { calls } of callers) await calls.countersign((made += 1));
      await world.settle();
      world.now += 500;
    };
    for (const step of [() => {}, () => world.publish(), () => world.activate()]) {
      step();
      for (let at = 0; at < 16; at += 1) await traffic();
    }
    expect(await door.call(olds, "countersign", ["old"])).toMatchObject({ ok: true });
    made += 1;
    world.revoke();
    const revokedAt = world.now;
    world.now = revokedAt + bundleLeaseMs;
    expect(await door.call(olds, "countersign", ["old"])).toMatchObject({ refusal: { code: "svid_refused" } });
    for (let at = 0; at < 16; at += 1) await traffic();
    expect(world.target.calls).toHaveLength(made);
    expect(world.issued).toBe(6);
  });

  test("a callee that has not heard of the new key asks before it refuses; a flood of unknown keys has it ask ten times a second at most", async () => {
    const world = new World();
    const door = world.door();
    const good = { self: "api", audience: "signer" };
    expect(await door.call(await world.mint(good), "countersign", [])).toMatchObject({ ok: true });
    world.publish();
    world.activate();
    world.now += 200;
    expect(await door.call(await world.mint(good), "countersign", [])).toMatchObject({ ok: true });
    const before = world.bundles;
    const foreign = await world.mint(good, await newSigner());
    for (let at = 0; at < 100; at += 1) {
      world.now += 10;
      expect(await door.call(foreign, "countersign", [])).toMatchObject({ ok: false });
    }
    expect(world.bundles - before).toBeLessThanOrEqual(11);
  });

  test("a caller whose SVID was revoked under it takes another one and repeats, once, and what it asked for is done once", async () => {
    const world = new World();
    const [caller, held] = [world.caller("api"), world.held()];
    const calls = asked(world, caller, world.door("signer", held));
    await calls.countersign(1);
    world.publish();
    world.activate();
    world.revoke();
    world.now += 100;
    // The callee has the new bundle, the caller has noticed nothing.
    await held.newest();
    await calls.countersign(2);
    expect(world.target.calls).toEqual([[1], [2]]);
    expect(world.issued).toBe(2);
  });

  test("an older bundle that comes late does not take the newer one's place", async () => {
    const world = new World();
    const answers: ((value: ReturnType<typeof bundleOfKeys>) => void)[] = [];
    const held = new HeldBundle({
      trustDomain,
      clock: world.clock,
      later: world.later,
      ask: () => new Promise((resolve) => void answers.push(resolve)),
    });
    const [one, two] = [held.get(), held.get()];
    const old = bundleOfKeys(world.keys);
    world.publish();
    answers[1]!(bundleOfKeys(world.keys));
    await two;
    answers[0]!(old);
    expect([(await one).bundle.jwtKeys.size, held.known?.bundle.jwtKeys.size]).toEqual([2, 2]);
  });

  test("of two answers the one that was asked for last says which key signs, whichever comes last", async () => {
    const world = new World();
    world.publish();
    const answers: ((value: ReturnType<typeof bundleOfKeys>) => void)[] = [];
    const held = new HeldBundle({
      trustDomain,
      clock: world.clock,
      later: world.later,
      ask: () => new Promise((resolve) => void answers.push(resolve)),
    });
    const one = held.get();
    const before = bundleOfKeys(world.keys);
    world.now += 1;
    const two = held.get();
    world.activate();
    answers[1]!(bundleOfKeys(world.keys));
    await two;
    answers[0]!(before);
    await one;
    expect(held.known?.active).toBe(second.kid);
  });

  test("each change of the bundle raises its sequence, and a switch of the key that signs changes no byte of it", () => {
    const world = new World();
    const documents = [() => {}, () => world.publish(), () => world.activate(), () => world.revoke()].map((step) => {
      step();
      return bundleOfKeys(world.keys).document;
    });
    const sequences = documents.map((text) => (JSON.parse(text) as { spiffe_sequence: number }).spiffe_sequence);
    expect(sequences).toEqual([1, 2, 2, 3]);
    expect(documents[2]).toBe(documents[1]);
    expect(platformWorkers.map((name) => platformId(trustDomain, name).path)).toContain("/platform/signer");
    expect(() => platformId("", "api")).toThrow("PLATFORM_TRUST_DOMAIN is no trust domain");
    expect(new WorkerCallRefused("denied", "no")).toMatchObject({ name: "WorkerCallRefused" });
  });
});
