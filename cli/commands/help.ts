// `maestro help TOPIC`: what no single command's --help can say.

import type { Command } from "commander";
import { leaf, type Act } from "../command.ts";
import { configPath } from "../config.ts";
import { exitCodes } from "../exit-codes.ts";
import { Failure } from "../failure.ts";
import { folderOf } from "../folders.ts";
import type { Session } from "../session.ts";

const topics = ["exit-codes", "files", "sandbox"] as const;

export function helpCommands(program: Command, act: Act): void {
  leaf(program, "help [topic]", {
    summary: `show help on a topic: ${topics.join(", ")}`,
    examples: topics.map((topic) => `maestro help ${topic}`),
  }).action(
    act(async (session, topic: string | undefined) => {
      if (topic === undefined)
        return session.out.result({ help: program.helpInformation() }, () => program.helpInformation());
      const wanted = topics.find((name) => name === topic);
      if (wanted === undefined)
        throw new Failure("usage", `There is no help on ${topic}`, { advice: `Topics: ${topics.join(", ")}.` });
      return tell[wanted](session);
    }),
  );
}

const sandbox = `A package runs as a Node process of its own, under Node's permission model:
  files        reads its own folder and a private copy of the input; writes nothing
  processes    no child processes, workers, native add-ons, WASI, inspector or node:sqlite
  environment  none; working folder: the package's own
  time         limits.wall_ms of its signed manifest; then its process group is killed
  output       stdout, up to limits.output_bytes; beyond that it is killed, and the run has failed
  network      none on Linux where users may make namespaces (unshare): then it also sees no Unix sockets, no other
               processes and no files but its own. Elsewhere these are open to it, and the run says so ("network: open");
               --require-isolation refuses to run then. Without isolation run only packages whose publisher you trust:
               what listens on this machine for its user listens to them too.
Not contained: memory outside the JavaScript heap (512 MiB), and exploits of V8 or of the kernel.
Before anything is unpacked: the artifact's digest, the publisher's signature and the marketplace's countersignature,
and the signed manifest against the maestro.json inside. Refused: links, devices, absolute paths, "..", names given
twice or differing only by case, more bytes than declared.`;

const tell: Record<(typeof topics)[number], (session: Session) => void> = {
  "exit-codes": ({ out }) => {
    const rows = Object.entries(exitCodes).map(([name, [code, words]]) => ({ code, name, words }));
    out.result({ exit_codes: rows }, () =>
      out.table(
        ["code", "name", "when"],
        rows.map((row) => [row.code, row.name, row.words]),
      ),
    );
  },
  files: ({ out, host }) => {
    const value = {
      config: configPath(host),
      cache: folderOf(host, "cache"),
      state: folderOf(host, "state"),
      environment: [
        "MAESTRO_API_URL",
        "MAESTRO_API_KEY",
        "MAESTRO_SVID",
        "MAESTRO_FETCHER_KEY",
        "XDG_CONFIG_HOME",
        "XDG_CACHE_HOME",
        "XDG_STATE_HOME",
        "NO_COLOR",
      ],
    };
    out.result(value, () =>
      out.record([
        ["login and publisher key", value.config],
        ["artifacts by digest", value.cache],
        ["trusted keys, remembered checkpoints, edge policies, history of `maestro pql`", value.state],
        ["environment", value.environment.join(", ")],
      ]),
    );
  },
  sandbox: ({ out }) => out.result({ help: sandbox }, () => sandbox),
};
