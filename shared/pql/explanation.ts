// How a question would be answered and what it would cost, in figures and in sentences. Pure; called by ask.ts for
// `"explain": true`.

import type { PqlExplanation } from "../contract/http-pql.ts";
import { isoTime } from "../contract/iso-time.ts";
import { limits } from "./limits.ts";
import type { Admission } from "./meter.ts";
import { bucketCount, type Plan } from "./plan.ts";
import type { Change } from "./price.ts";
import { scanParts, type ScanPart } from "./scan-parts.ts";

export function explanationOf(plan: Plan, admission: Admission): PqlExplanation {
  const { price, head } = admission;
  const { totals, series } = scanParts(plan, head.sealed_to);
  const timed = ({ level, from, to }: ScanPart) => ({ level, from: isoTime(from), to: isoTime(to) });
  const groups = "top" in plan ? plan.top : 0;
  const cells =
    plan.template === "rows"
      ? null
      : (groups + 1) * ("bucket_ms" in plan ? bucketCount(plan.from, plan.to, plan.bucket_ms) : 1);
  const changes = admission.state === "too_expensive" ? admission.changes : [];
  const retryAfterMs = admission.state === "rate_limited" ? admission.retry_after_ms : null;
  // Of buckets alone there are no groups whose totals would be read first.
  const reads = { totals: plan.template === "buckets" ? [] : totals.map(timed), series: series.map(timed) };
  return {
    kind: "explain",
    covers: { from: isoTime(plan.from), to: isoTime(plan.to) },
    complete_to: head.indexed_to === null ? null : isoTime(head.indexed_to),
    template: plan.template,
    words: [
      wanted(plan, cells),
      ...(reads.totals.length === 0 ? [] : [`${nameOf[plan.template]} read from ${levelsOf(totals)}.`]),
      ...(series.length === 0 ? [] : [`Counts by bucket are read from ${levelsOf(series)}.`]),
      `It reads at most ${price.rows} rows; one question may read ${price.limit}.`,
      ...(admission.state === "too_expensive" ? [`It would be refused. ${advice(changes)}`] : []),
      ...(retryAfterMs === null ? [] : [`Asked now it would have to wait ${retryAfterMs} ms.`]),
    ],
    reads,
    cells,
    price,
    verdict: admission.state,
    retry_after_ms: retryAfterMs,
    changes: [...changes],
  };
}

const nameOf = { rows: "Rows are", buckets: "Counts are", top: "Groups are", top_buckets: "Groups are" } as const;

function wanted(plan: Plan, cells: number | null): string {
  if (plan.template === "rows") return `Rows, newest first, ${limits.pageRows} a page.`;
  const buckets = "bucket_ms" in plan ? ` in buckets of ${plan.bucket_ms / 1_000} s` : "";
  if (plan.template === "buckets") return `Counts${buckets}: ${cells} cells.`;
  return `The ${plan.top} largest groups by ${plan.field.name}, and the others in one${buckets}: ${cells} cells.`;
}

function levelsOf(parts: readonly ScanPart[]): string {
  const names = { raw: "the events", hour: "rows of counts of hours", day: "rows of counts of days" } as const;
  return [...new Set(parts.map(({ level }) => names[level]))].join(", ");
}

const advice = (changes: readonly Change[]): string =>
  changes.length === 0
    ? "No single change makes it fit."
    : `It would fit with ${changes.map(({ text, rows }) => `${text} (${rows} rows)`).join(", or ")}.`;
