// The next tar of a policy by its delta: the one that is held, what a provider serves as its delta, and the tar's signed digest.
// Called by edge-fetcher.ts, which fetches the whole bundle wherever this does not end well.

import { sha256Hex, type Bytes } from "../contract/bytes.ts";
import type { ArchiveTools } from "../signing/package-archive.ts";
import { deltaTarBytesMax, type NamedDelta } from "./delta.ts";
import type { EdgeCounters } from "./edge-counters.ts";
import { heldSha256, type ActivePolicy, type FailedDelta } from "./held-state.ts";
import { patchTar, tarInside, type DeltaTools } from "./patch-tar.ts";
import type { Refusal } from "./refusal.ts";
import type { Objection, Routed } from "./route-object.ts";
import type { PolicyTarget } from "./tuf.ts";

/** The delta that `target` names for who holds `before`, unless it has failed here; null: there is none to ask for. */
export function deltaFor(
  before: ActivePolicy | null,
  { custom }: PolicyTarget,
  failed: readonly FailedDelta[],
): NamedDelta | null {
  if (before === null || custom.tar_length > deltaTarBytesMax) return null;
  const named = custom.deltas?.find(({ from }) => from === before.tar_sha256);
  if (named === undefined) return null;
  const hasFailed = failed.some(({ to, sha256 }) => to === custom.tar_sha256 && sha256 === named.sha256);
  return hasFailed ? null : named;
}

export interface DeltaParts {
  readonly tools: ArchiveTools & DeltaTools;
  readonly counters: EdgeCounters;
  /** The bundle's bytes that are held under that digest; null where they are lost. */
  readonly held: (sha256: string) => Promise<Bytes | null>;
  /** The delta, of its named digest and length, from whichever provider has it first. */
  readonly fetch: (delta: NamedDelta) => Promise<Routed>;
  /** Of what was said against providers that came with no bytes: what tells most. */
  readonly worst: (objections: readonly Objection[]) => Refusal;
}

export type ByDelta =
  | {
      readonly state: "made";
      /** A tar.gz that was packed here, and its digest. */
      readonly bytes: Bytes;
      readonly sha256: string;
      readonly from: string;
      readonly objections: readonly Objection[];
    }
  /** What is held is not whole: no delta was asked for. */
  | { readonly state: "no_base" }
  | { readonly state: "failed"; readonly refusal: Refusal; readonly objections: readonly Objection[] };

/** Throws for a defect alone. Nothing is kept: that is for whoever called. */
export async function fetchByDelta(
  { tools, counters, held, fetch, worst }: DeltaParts,
  before: ActivePolicy,
  delta: NamedDelta,
  { custom }: PolicyTarget,
): Promise<ByDelta> {
  const bundle = await held(heldSha256(before));
  const base = bundle === null ? null : await tarInside(bundle, deltaTarBytesMax, tools);
  if (base === null || !base.ok || base.sha256 !== delta.from) return { state: "no_base" };
  const routed = await fetch(delta);
  const { objections } = routed;
  if (!routed.ok) return { state: "failed", refusal: worst(objections), objections };
  counters.add("delta_bytes", routed.bytes.length);
  const patched = await patchTar(base.bytes, routed.bytes, custom, tools);
  if (!patched.ok) return { state: "failed", refusal: patched.refusal, objections };
  const bytes = await tools.gzip(patched.tar);
  return { state: "made", bytes, sha256: await sha256Hex(bytes), from: routed.from, objections };
}
