// mc_spiffe_rotations_total in Prometheus' text format: counted by the objects that rotate, in the transaction of what they count. Read
// by GET /api/metrics.

import type { RotatedKind } from "../contract/http-rotations.ts";

const rotationOutcomes = ["started", "completed", "emergency", "cancelled"] as const;

export interface RotationCounts {
  readonly kind: RotatedKind;
  readonly counts: Readonly<Record<(typeof rotationOutcomes)[number], number>>;
}

const name = "mc_spiffe_rotations_total";

/** Nothing but the heading of kinds that were never rotated. */
export const rotationMetricsText = (kinds: readonly RotationCounts[]): string =>
  [
    `# HELP ${name} Rotations of keys that this tenant started: and how many ended, as planned, as an emergency, or cancelled.\n`,
    `# TYPE ${name} counter\n`,
    ...kinds
      .filter(({ counts }) => counts.started > 0)
      .flatMap(({ kind, counts }) =>
        rotationOutcomes.map((outcome) => `${name}{kind="${kind}",outcome="${outcome}"} ${counts[outcome]}\n`),
      ),
  ].join("");
