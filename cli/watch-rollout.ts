// A rollout watched until it ends: one line on a terminal, elsewhere a line for each change, both on stderr. Called by
// `maestro market upgrade --watch`.

import type { Rollout } from "../shared/contract/http-installs.ts";
import type { Api } from "./api.ts";
import { interruptedFailure } from "./http.ts";
import { printable } from "./output.ts";
import { gateText } from "./package-status.ts";
import type { Session } from "./session.ts";

const everyMs = 2_000;

/** The rollout as it ended. Throws Failure `interrupted` on Ctrl-C: the rollout goes on by itself. */
export async function watchRollout(session: Session, api: Api, started: Rollout): Promise<Rollout> {
  const line = liveLine(session);
  try {
    for (let rollout = started; ; rollout = await rolloutNow(api, started)) {
      line.show(rolloutText(rollout));
      if (rollout.state !== "running") return rollout;
      await session.host.sleep(everyMs, session.host.interrupted);
    }
  } catch (error) {
    if (!session.host.interrupted.aborted) throw error;
    line.end();
    session.out.note(`note: the rollout goes on; see it with: maestro market status ${started.package}`);
    throw interruptedFailure();
  } finally {
    line.end();
  }
}

/** `status` has the running rollout, else the newest: where that is another one, ours has to be asked for. */
async function rolloutNow(api: Api, { id, package: name }: Rollout): Promise<Rollout> {
  const { rollout } = await api.status(name);
  return rollout?.id === id ? rollout : await api.rollout(id);
}

const rolloutText = ({ package: name, version, cohort_percent, state, rule, gate }: Rollout): string =>
  [
    printable(`${name} ${version} to ${cohort_percent}%: ${state}${rule === null ? "" : ` (${rule})`}`),
    gate === null ? "the gate has not been asked yet" : gateText(gate),
  ].join("; ");

function liveLine({ host, out }: Session): { show(text: string): void; end(): void } {
  let shown: string | null = null;
  let open = false;
  return {
    show(text) {
      if (text === shown) return;
      shown = text;
      if (!host.stderrIsTerminal) return out.note(text);
      host.stderr.write(`\r\u001B[K${text}`);
      open = true;
    },
    end() {
      if (open) host.stderr.write("\n");
      open = false;
    },
  };
}
