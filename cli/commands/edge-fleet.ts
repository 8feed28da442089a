// `maestro edge fleet|forget`: which machines run what is published, as the board of the fleet has it. Part of `maestro edge`.

import { InvalidArgumentError, type Command } from "commander";
import { fetcherId, type EdgeFleet, type FleetInstance, type StateCounts } from "../../shared/contract/http-edge.ts";
import { integerFrom, leaf, notePage, paged, type Act } from "../command.ts";
import type { Page } from "../api/client.ts";
import type { ExitName } from "../exit-codes.ts";
import { interruptedFailure } from "../http.ts";
import type { Session } from "../session.ts";

/** With --wait the board is asked so often. */
const askEveryMs = 1_000;
const waitSecondsMax = 3_600;

export function fleetCommands(edge: Command, act: Act): void {
  paged(
    leaf(edge, "fleet", {
      summary: "is every instance current: which machines run what is published, and which do not",
      more:
        "Exit code 0 where every policy of every instance is the published revision, else 8, also where there is no instance.\n" +
        "--wait asks until it is so, or for so many seconds: for the end of a publish.",
      examples: ["maestro edge fleet", "maestro edge fleet --wait 30", "maestro edge fleet --json"],
    }).option("--wait <seconds>", `until all are current, 1 to ${waitSecondsMax}`, integerFrom(1, waitSecondsMax)),
  ).action(act(fleet));
  leaf(edge, "forget", {
    summary: "take an instance that is gone off the board of the fleet",
    examples: ["maestro edge forget fet_01k9x6f6c8a0b1c2d3e4f5g6h7"],
  })
    .argument("<instance>", "as `maestro edge fleet` lists it", instanceArgument)
    .action(act(forget));
}

function instanceArgument(text: string): string {
  if (!fetcherId.safeParse(text).success) throw new InvalidArgumentError("An instance is fet_ and 26 characters.");
  return text;
}

async function fleet(session: Session, options: Page & { readonly wait?: number }): Promise<ExitName> {
  const { host, out } = session;
  const api = await session.api();
  const page = { limit: options.limit, cursor: options.cursor };
  const until = host.now() + (options.wait ?? 0) * 1_000;
  let found = await api.fleet(page);
  while (!found.summary.all_current && host.now() < until) {
    try {
      await host.sleep(Math.min(askEveryMs, Math.max(1, until - host.now())), host.interrupted);
    } catch (error) {
      if (host.interrupted.aborted) throw interruptedFailure();
      throw error;
    }
    found = await api.fleet(page);
  }
  out.result(found, () => textOf(session, found));
  notePage(session, ["edge", "fleet"], page, found.next_cursor);
  return found.summary.all_current ? "ok" : "not_current";
}

const stateWords = ({ total, ...states }: StateCounts): string =>
  `${total}: ${
    Object.entries(states)
      .filter(([, count]) => count > 0)
      .map(([state, count]) => `${count} ${state}`)
      .join(", ") || "none"
  }`;

function textOf({ out }: Session, { summary, instances }: EdgeFleet): string {
  return [
    out.record([
      ["all current", summary.all_current ? "yes" : "no"],
      ["instances", stateWords(summary.instances)],
      ["policies at instances", stateWords(summary.policies)],
      ["stale rate", summary.stale_rate],
      ...summary.heads.map(
        ({ policy, channel, revision }) => [`${policy}/${channel}`, `revision ${revision} is published`] as const,
      ),
    ]),
    out.table(
      [
        "instance",
        "policy",
        "channel",
        "state",
        "revision",
        "published",
        "behind_s",
        "from",
        "timestamp",
        "verified_s",
        "refused",
      ],
      instances.flatMap((instance) => instance.policies.map((policy) => rowOf(instance, policy))),
    ),
    ...(instances.some(({ svid }) => svid !== null)
      ? [out.table(["instance", "SPIFFE ID", "authority", "rotated", "ends"], instances.map(identityRow))]
      : []),
    out.table(
      ["provider", "instances", "breakers open", "latency_ms", "hit ratio", "mismatches"],
      summary.providers.map((one) => [
        one.name,
        one.instances,
        one.breakers_open,
        one.latency_ms,
        one.hit_ratio === null ? null : one.hit_ratio.toFixed(3),
        one.mismatches,
      ]),
    ),
  ].join("\n");
}

const identityRow = ({ instance, svid }: FleetInstance) => [
  instance,
  svid?.spiffe_id,
  svid?.authority,
  svid?.issued_at,
  svid?.expires_at,
];

const seconds = (ms: number): string => (ms / 1_000).toFixed(1);

const rowOf = ({ instance, metadata }: FleetInstance, one: FleetInstance["policies"][number]) => [
  instance,
  one.policy,
  one.channel,
  one.state,
  one.revision,
  one.head_revision,
  seconds(one.behind_ms),
  one.proof?.provider,
  metadata?.timestamp_version,
  one.proof === null ? null : seconds(one.proof.verified_ms_ago),
  one.refusal === null
    ? null
    : `${one.refusal.code}${one.refusal.provider === null ? "" : ` (${one.refusal.provider})`}`,
];

async function forget(session: Session, instance: string): Promise<void> {
  await (await session.api()).forgetFetcher(instance);
  session.out.result({ forgotten: instance }, () => `forgotten\t${instance}`);
}
