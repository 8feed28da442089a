// All that a tenant has of one package, as `maestro` shows it. Used by the commands that read or change it.

import type { GateReport, PackageStatus, Rollout } from "../shared/contract/http-installs.ts";
import { printable } from "./output.ts";
import type { Session } from "./session.ts";

export function statusText({ out }: Session, status: PackageStatus): string {
  const { rollout } = status;
  const section = (title: string, text: string, there: boolean): string[] =>
    there ? ["", out.paint.bold(title), text] : [];
  return [
    out.record([
      ["package", status.package],
      ["frozen", status.frozen ? `yes: ${status.frozen_reason ?? ""}`.trimEnd() : "no"],
      ...status.channels.map((pointer): [string, string] => [
        `${pointer.channel} points to`,
        `${pointer.version} since ${pointer.moved_at}`,
      ]),
      ...status.good.map((good): [string, string] => [`last good on ${good.channel}`, good.version]),
    ]),
    ...section(
      "installs",
      out.table(
        ["install", "version", "channel", "pinned", "bucket", "changed"],
        status.installs.map((one) => [one.name, one.version, one.channel, one.pinned, one.bucket, one.changed_at]),
      ),
      status.installs.length > 0,
    ),
    ...(rollout === null ? [] : section("rollout", out.record(rolloutFields(rollout)), true)),
    ...section(
      "barred",
      out.table(
        ["version", "by", "since", "reason"],
        status.bars.map((bar) => [bar.version, bar.rule, bar.barred_at, bar.reason]),
      ),
      status.bars.length > 0,
    ),
  ].join("\n");
}

export const rolloutFields = (rollout: Rollout): [string, string | null][] => [
  ["rollout", rollout.id],
  ["state", rollout.rule === null ? rollout.state : `${rollout.state} (${rollout.rule})`],
  ["to", `${rollout.version} on ${rollout.channel}`],
  ["cohort", `${rollout.cohort_percent}%`],
  ["started", rollout.started_at],
  ["ended", rollout.ended_at],
  ["reason", rollout.reason === "" ? null : rollout.reason],
  ["gate", rollout.gate === null ? "not asked yet" : gateText(rollout.gate)],
];

/** `continue: … (new 12 runs, 0 failed; old 40 runs, 1 failed; evidence 10^0.31)`. */
export const gateText = (gate: GateReport): string =>
  printable(
    `${gate.state}: ${gate.words} (new ${gate.new_runs} runs, ${gate.new_failures} failed; ` +
      `old ${gate.old_runs} runs, ${gate.old_failures} failed; evidence 10^${(gate.log10_e_milli / 1000).toFixed(2)} of 10^2)`,
  );
