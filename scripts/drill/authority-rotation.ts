// Rotates the fetchers' authority once, through `POST /api/rotations`: the product says how far it is, and this does what is the tenant's own
// part (the authority's keys, the bundle, the SVIDs), by what it sees (key-plan.ts), so that whoever is killed in it may begin again. Called by
// key-rotation.ts.

import { setTimeout as sleep } from "node:timers/promises";
import { readAuthority, rotateAuthority } from "../../cli/svid/authority-folder.ts";
import { sha256Hex, utf8 } from "../../shared/contract/bytes.ts";
import type { TrustDomainView } from "../../shared/contract/http-identity.ts";
import { endStates, type Rotation } from "../../shared/contract/http-rotations.ts";
import { bundleOfState, type KeyKind } from "../../shared/identity/issue/authority-state.ts";
import type { Revocation } from "./key-figures.ts";
import type { Credentials } from "./key-load.ts";
import { nextMove, type AuthorityMove } from "./key-plan.ts";
import type { KeyWorld } from "./key-world.ts";

const kinds: readonly KeyKind[] = ["x509", "jwt"];
const lookEveryMs = 250;
/** One step that takes longer has failed. */
const stepMsMax = 60_000;

export interface AuthorityHands {
  readonly world: KeyWorld;
  /** Which authority is replaced: 0 is the first. */
  readonly generation: number;
  readonly signal: AbortSignal;
  /** Gives clients SVIDs; `replaced` tells of the generation that all of them present. */
  reissue(credentials: Credentials): void;
  replaced(): number;
  revoking(generation: number): void;
  /** Told of each move, and of each state of the rotation. */
  step(name: string): void;
}

export async function rotateFetchers(hands: AuthorityHands): Promise<Revocation> {
  const { world, generation, signal } = hands;
  const path = `/api/identity/trust-domains/${world.trustDomain}`;
  const { id } = await startedOrRunning(world);
  let reissued = false;
  let handedIn = { sent: 0, answered: 0 };
  let seen = 0;
  let last: AuthorityMove | null = null;
  let until = Date.now() + stepMsMax;
  for (;;) {
    signal.throwIfAborted();
    // Looks at once: what the last move did is to be seen.
    const rotation = (await world.admin("POST", `/api/rotations/${id}/resume`)) as Rotation;
    for (const transition of rotation.transitions.slice(seen)) {
      hands.step(`state ${transition.state}`);
      until = Date.now() + stepMsMax;
    }
    seen = rotation.transitions.length;
    const state = await readAuthority(world.authorityFolder);
    const document = bundleOfState(state);
    const held = (await world.admin("GET", path)) as TrustDomainView;
    const move = nextMove({
      state: rotation.state,
      beside: state.x509.find((key) => key.state !== "active")?.state ?? "none",
      in_force: held.bundle?.sha256 === (await sha256Hex(utf8(document))),
      reissued,
      replaced: hands.replaced() === generation + 1,
    });
    if (move !== last) {
      hands.step(move);
      until = Date.now() + stepMsMax;
    } else if (Date.now() > until) {
      const why = rotation.obstacle ?? rotation.waiting_for.join(", ");
      throw new Error(
        `the fetchers' authority is at ${move} for ${stepMsMax} ms, its rotation ${rotation.state}: ${why}`,
      );
    }
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
        await world.admin("PUT", `${path}/bundle`, { document });
        handedIn = { sent, answered: Date.now() };
        break;
      }
      case "reissue":
        hands.reissue(await world.mint(state, generation + 1));
        reissued = true;
        break;
      case "await_rotation":
      case "await_replacement":
        await sleep(lookEveryMs, undefined, { signal });
        break;
      case "done":
        return { generation, sent: handedIn.sent, api_returned: handedIn.answered, edges_returned: Date.now() };
    }
  }
}

/** Where one runs already, somebody was killed in it. */
async function startedOrRunning(world: KeyWorld): Promise<Rotation> {
  const { trustDomain } = world;
  const { rotations } = (await world.admin("GET", "/api/rotations")) as { readonly rotations: readonly Rotation[] };
  const running = rotations.find((one) => one.trust_domain === trustDomain && !endStates.includes(one.state));
  return (
    running ??
    ((await world.admin("POST", "/api/rotations", { kind: "fetcher", trust_domain: trustDomain })) as Rotation)
  );
}
