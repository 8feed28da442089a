// `maestro edge fetch|serve|status|clear`: the policies of a tenant on this machine, from whichever CDN provider has them.

import { InvalidArgumentError, type Command } from "commander";
import { isTenantSlug } from "../../shared/edge/serving-path.ts";
import { group, leaf, type Act } from "../command.ts";
import { isLoopback } from "../http.ts";
import { fetchOnce } from "./edge-fetch.ts";
import { fleetCommands } from "./edge-fleet.ts";
import { serve } from "./edge-serve.ts";
import { clear, status } from "./edge-status.ts";

export function edgeCommands(program: Command, act: Act): void {
  const edge = group(program, "edge", "policies on this machine, from several CDN providers that nobody has to trust");
  const fetching = (command: Command): Command =>
    held(command)
      .requiredOption("--root <file>", "the tenant's root of trust that you have checked, like 1.root.json")
      .requiredOption("--publisher <spki...>", "a publisher key that is believed: SPKI in base64")
      .option("--providers <file>", "which CDN providers there are", "policy/edge.multicdn.json")
      .option("--key-file <file>", "the fetcher's key; MAESTRO_FETCHER_KEY where it is not given")
      .option(
        "--svid <dir>",
        "in place of a key: the folder with the fetcher's SVIDs, renewed beneath it (MAESTRO_SVID)",
      );
  const trust = "--tenant acme --root 1.root.json --publisher MFkwEwYHKoZIzj0CAQY...";

  fetching(
    leaf(edge, "fetch", {
      summary: "fetch once: verify, activate, and print what is active now and where it came from",
      more:
        "Exit code 0: what is active is what the publisher wants, or newer than what the providers have. 7: something was\n" +
        "refused; what was active stays so. 6: no provider was reached.",
      examples: [
        `maestro edge fetch gateway ${trust}`,
        `maestro edge fetch gateway billing/canary ${trust} --key-file fetcher.key --json`,
        `maestro edge fetch gateway ${trust} --svid /run/spiffe`,
      ],
    }).argument("<policies...>", "NAME, or NAME/CHANNEL"),
  ).action(act(fetchOnce));
  fetching(
    leaf(edge, "serve", {
      summary: "keep fetching, and serve OPA's bundle API on this machine",
      more:
        "OPA asks http://127.0.0.1:8383/bundles/NAME/CHANNEL. It is served from the last good bundle until the metadata that\n" +
        "named it expires; from then on the answer is 503, with the reason. /healthz says how policies and identity stand: 503 where\n" +
        "one is not served or no SVID holds. Runs until Ctrl-C. What is held is reported each ten\n" +
        "seconds, for `maestro edge fleet`; where nobody takes reports, fetching goes on. The flag edge_multicdn is believed from\n" +
        "--api alone: a CDN provider could make it up.",
      examples: [`maestro edge serve gateway ${trust}`, `maestro edge serve gateway ${trust} --listen 127.0.0.1:9000`],
    }).argument("<policies...>", "NAME, or NAME/CHANNEL"),
  )
    .option("--listen <address:port>", "where on this machine; port 0 for any free one", listenArgument, {
      address: "127.0.0.1",
      port: 8383,
    })
    .option("--api <url>", "the API's own address, to report to; else reports go by any provider's name")
    .option("--no-report", "tell the fleet's board nothing")
    .action(act(serve));
  fleetCommands(edge, act);
  held(
    leaf(edge, "status", {
      summary: "what is held: how old, from which provider, until when; what failed; counters",
      examples: ["maestro edge status --tenant acme", "maestro edge status --tenant acme --json"],
    }),
  ).action(act(status));
  held(
    leaf(edge, "clear", {
      summary:
        "forget which bundles and deltas failed, so that they are fetched once more; no `maestro edge serve` may run",
      examples: ["maestro edge clear --tenant acme"],
    }),
  ).action(act(clear));
}

const held = (command: Command): Command =>
  command
    .requiredOption("--tenant <slug>", "whose policies", tenantArgument)
    .option("--state <dir>", "where they are held; a folder of its own under the XDG state folder, where not given");

function tenantArgument(text: string): string {
  if (!isTenantSlug(text)) throw new InvalidArgumentError("A tenant's slug is lower-case letters, digits and dashes.");
  return text;
}

function listenArgument(text: string): { readonly address: string; readonly port: number } {
  const match = /^(\[[0-9a-f:.]+\]|[^:[\]]+):(\d{1,5})$/i.exec(text);
  const [, host = "", port = ""] = match ?? [];
  if (!isLoopback(host) || Number(port) > 65_535)
    throw new InvalidArgumentError("It is this machine alone: 127.0.0.1:PORT, localhost:PORT or [::1]:PORT.");
  return { address: host.replaceAll(/[[\]]/g, ""), port: Number(port) };
}
