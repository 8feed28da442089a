// What the drill of rotating keys leaves: the timeline, each request in a line, the log's checkpoints, and a page for people. Pure
// but for gzip; called by key-rotation.ts.

import { gzipSync } from "node:zlib";
import type { DrillResult, Goal } from "./drill.ts";
import type { KeyMeasured } from "./key-figures.ts";

export interface Step {
  readonly at: number;
  readonly identity: "signer" | "fetchers";
  /** From 1. */
  readonly rotation: number;
  readonly step: string;
}

export interface LogVerified {
  readonly at: number;
  /** As the API serves it. */
  readonly checkpoint: string;
  /** What `maestro audit verify --json` says. */
  readonly verdict: unknown;
}

/** `what,place or nothing,authority or nothing,ms from the start,ms that it took,status or ok or why not`, in the order of the starts. */
export function requestLines({ began, work, presented }: KeyMeasured): Uint8Array {
  const quoted = (text: string): string => `"${text.replaceAll('"', '""').replaceAll(/\s+/g, " ")}"`;
  const lines = [
    ...work.map(({ kind, started, ended, fault }) => ({
      started,
      rest: [kind, "", "", started - began, ended - started, fault === null ? "ok" : quoted(fault)],
    })),
    ...presented.map(({ place, generation, started, ended, status, reused }) => ({
      started,
      rest: [reused ? "open" : "new", place, generation, started - began, ended - started, status],
    })),
  ].toSorted((left, right) => left.started - right.started);
  const head = "what,place,authority,started_ms,took_ms,answer";
  return gzipSync(`${head}\n${lines.map(({ rest }) => rest.join(",")).join("\n")}\n`, { level: 9 });
}

export function timelineText({ began, revocations }: KeyMeasured, steps: readonly Step[]): string {
  const ms = (at: number): number => at - began;
  const document = {
    began_at: new Date(began).toISOString(),
    steps: steps.map(({ at, ...step }) => ({ ms: ms(at), ...step })),
    revocations: revocations.map(({ generation, sent, api_returned, edges_returned }) => ({
      authority: generation,
      sent_ms: ms(sent),
      api_returned_ms: ms(api_returned),
      edges_returned_ms: ms(edges_returned),
    })),
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

export const checkpointsText = (before: LogVerified, after: LogVerified): string =>
  `${JSON.stringify({ before: dated(before), after: dated(after) }, null, 2)}\n`;

const dated = ({ at, ...verified }: LogVerified) => ({ at: new Date(at).toISOString(), ...verified });

const words: Readonly<Record<Goal["is"], string>> = { at_most: "≤", under: "<", over: ">" };

export function keyReport(result: DrillResult): string {
  const { machine, settings } = result;
  const goals = result.goals.map(
    ({ figure, is, limit, measured, met }) =>
      `| \`${figure}\` | ${measured} | ${words[is]} ${limit} | ${met ? "met" : "NOT met"} |`,
  );
  const more = ["rotation_p95_s", "rotation_median_s", "offered_per_s", "reached_per_s", "requests", "load_s"].map(
    (figure) => `| \`${figure}\` | ${String(result[figure])} | | |`,
  );
  const figures = Object.entries(result.parts).flatMap(([part, members]) =>
    Object.entries(members).map(([figure, value]) => `| ${part} | \`${figure}\` | ${value} |`),
  );
  return `# Key rotation drill (MC-ZTE-1942)

Run ${result.started_at} by \`npm run drill -- key-rotation --evidence\`: ${String(machine["cores"])} cores of ${String(machine["processor"])}, workerd
${String(machine["workerd"])}, on which the whole product, both providers' edges and the load ran together. ADR-1239 has the method.

The marketplace's signing key and the fetchers' authority rotated ${String(settings["rotations"])} times each, side by side, under ${String(settings["offered_per_s"])} requests/s.${settings["variant"] === "full" ? "" : "\n**This is a short one, for whoever works on the drill: these are not its figures.**"}

| figure | measured | goal | |
|---|---|---|---|
${[...goals, ...more].join("\n")}

## Everything that was measured
| part | figure | value |
|---|---|---|
${figures.join("\n")}

## The record
- \`timeline.json\`: each step of each rotation, and when each revocation was sent and had returned, at the API and at the edges.
- \`requests.csv.gz\`: each thing that the load did, and each SVID that was presented by intent (\`open\`: over a connection that was open before).
- \`checkpoints.json\`: the head of the tenant's log before and after, each with what \`maestro audit verify\` said.
- \`key-rotation.json\`: the figures. The other three were put into the audit log's bucket as well.
${result.faults.length === 0 ? "" : `\n## What should not have been\n${result.faults.map((fault) => `- ${fault}`).join("\n")}\n`}`;
}
