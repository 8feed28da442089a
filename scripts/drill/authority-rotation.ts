// Rotates the fetchers' authority once, from `prepare` to the end of its revocation at the API and at both edges. What it sees decides
// what it does (key-plan.ts), so that whoever is killed in it may begin again. Called by key-rotation.ts.

import { setTimeout as sleep } from "node:timers/promises";
import { readAuthority, rotateAuthority } from "../../cli/svid/authority-folder.ts";
import { sha256Hex, utf8 } from "../../shared/contract/bytes.ts";
import type { TrustDomainView } from "../../shared/contract/http-identity.ts";
import {
  activeKey,
  bundleOfState,
  moveAuthority,
  type AuthorityState,
  type KeyKind,
} from "../../shared/identity/issue/authority-state.ts";
import type { Place, Revocation } from "./key-figures.ts";
import type { Credentials } from "./key-load.ts";
import { nextMove, type AuthorityFacts, type AuthorityMove, type KeySetting } from "./key-plan.ts";
import type { KeyWorld } from "./key-world.ts";

const kinds: readonly KeyKind[] = ["x509", "jwt"];
const lookEveryMs = 50;
/** One step that takes longer has failed. */
const stepMsMax = 60_000;

export interface AuthorityHands {
  readonly world: KeyWorld;
  readonly setting: KeySetting;
  /** Which authority is replaced: 0 is the first. */
  readonly generation: number;
  readonly signal: AbortSignal;
  /** Which places take this SVID now. */
  accepts(credentials: Credentials): Promise<readonly Place[]>;
  /** Gives clients SVIDs; `replaced` tells of the generation that all of them present. */
  reissue(credentials: Credentials): void;
  replaced(): number;
  revoking(generation: number): void;
  step(move: AuthorityMove): void;
}

const placeCount = 4;

export async function rotateFetchers(hands: AuthorityHands): Promise<Revocation> {
  const { world, setting, generation, signal } = hands;
  const { x509 } = await readAuthority(world.authorityFolder);
  const from = (x509.find(({ state }) => state === "old" || state === "tainted") ?? activeKey(x509)).id;
  const path = `/api/identity/trust-domains/${world.trustDomain}`;
  let reissued = false;
  let handedIn = { sent: 0, answered: 0 };
  let candidate: Credentials | null = null;

  async function look(): Promise<{ facts: AuthorityFacts; state: AuthorityState }> {
    const state = await readAuthority(world.authorityFolder);
    const document = bundleOfState(state);
    const held = (await world.admin("GET", path)) as TrustDomainView;
    const beside = state.x509.find((key) => key.state !== "active")?.state ?? "none";
    const active = activeKey(state.x509).id;
    const inForce = held.bundle?.sha256 === (await sha256Hex(utf8(document)));
    let acknowledged = false;
    if (beside === "prepared" && inForce) {
      candidate ??= await world.mint(await activated(state), generation + 1);
      acknowledged = (await hands.accepts(candidate)).length === placeCount;
    }
    const isOver = beside === "none" && active !== from && inForce;
    const stores = isOver ? await world.storedBundles() : [];
    const inStores = isOver && stores.every((text) => text === document);
    const facts: AuthorityFacts = {
      from,
      active,
      beside: beside === "active" ? "none" : beside,
      in_force: inForce,
      acknowledged,
      reissued,
      replaced: hands.replaced() === generation + 1,
      in_stores: inStores,
    };
    return { facts, state };
  }

  let last: AuthorityMove | null = null;
  let until = Date.now() + stepMsMax;
  for (;;) {
    signal.throwIfAborted();
    const { facts, state } = await look();
    const move = nextMove(facts);
    if (move !== last) {
      hands.step(move);
      until = Date.now() + stepMsMax;
    } else if (Date.now() > until) throw new Error(`the fetchers' authority is at ${move} for ${stepMsMax} ms`);
    last = move;
    switch (move) {
      case "prepare":
      case "activate":
      case "taint":
        await rotateAuthority(world.authorityFolder, move, kinds, Date.now());
        break;
      case "revoke":
        hands.revoking(generation);
        await rotateAuthority(world.authorityFolder, move, kinds, Date.now());
        break;
      case "hand_in": {
        const sent = Date.now();
        await world.admin("PUT", `${path}/bundle`, { document: bundleOfState(state) });
        handedIn = { sent, answered: Date.now() };
        break;
      }
      case "reissue":
        hands.reissue(await world.mint(state, generation + 1));
        reissued = true;
        break;
      case "await_acknowledgement":
      case "await_replacement":
      case "await_stores":
        await sleep(lookEveryMs, undefined, { signal });
        break;
      case "done": {
        const readBack = Date.now();
        const edges_returned = readBack + setting.lease_ms;
        // The edges' own promise, and not a guess at how long something takes: docs/edge/SERVING.md.
        await sleep(setting.lease_ms, undefined, { signal });
        return { generation, sent: handedIn.sent, api_returned: handedIn.answered, edges_returned };
      }
    }
  }
}

/** As it will be once what is prepared signs: to try it before. */
async function activated(state: AuthorityState): Promise<AuthorityState> {
  const moved = await moveAuthority(state, "activate", kinds, Date.now(), () =>
    Promise.reject(new Error("an activation makes no key")),
  );
  if (!moved.ok) throw new Error(moved.reason);
  return moved.state;
}
