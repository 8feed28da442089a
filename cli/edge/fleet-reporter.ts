// Reports a fetcher to the fleet's board: each ten seconds, and at once where what it runs or refuses has changed. Used by
// `maestro edge serve`, which never waits for it.

import { edgeReportAnswer, reportEveryMs, type EdgeReport } from "../../shared/contract/http-edge.ts";
import { errorCode } from "../failure.ts";
import type { Host } from "../host.ts";
import { readBounded, whyUnreachable } from "../http.ts";
import type { InstanceIdentity } from "./instance-file.ts";
import type { ReportBook, Seen } from "./report.ts";

/** Changes that come quicker are reported together. */
const gapMs = 1_000;
const answerMsMax = 3_000;
const answerBytesMax = 16 * 1_024;

export interface Addressee {
  /** Origin, and a path where it has one, without a slash at the end. */
  readonly baseUrl: string;
  /** It is the API itself, and no CDN provider in between: what it says of flags is believed. */
  readonly isApi: boolean;
}

export interface ReporterParts {
  readonly identity: InstanceIdentity;
  readonly book: ReportBook;
  /** What a report comes with, a fetcher's key or its JWT-SVID for the API; null: there is none now. */
  readonly bearer: () => string | null;
  /** That the fetcher holds; null where it comes with a key. */
  readonly svid: () => EdgeReport["svid"];
  readonly host: Pick<Host, "now" | "interrupted">;
  /** As they are at the moment. */
  readonly addressees: () => readonly Addressee[];
  /** A line for the person; once for each change. */
  readonly note: (line: string) => void;
}

export class FleetReporter {
  readonly #parts: ReporterParts;
  readonly #ended = new AbortController();
  #sequence = 0;
  #sentAt = -Infinity;
  #sent = "";
  #sending: Promise<void> | null = null;
  #trouble: string | null = null;

  constructor(parts: ReporterParts) {
    this.#parts = parts;
  }

  /** After each refresh. Returns at once: a report goes out beside the next refreshes, one at a time. */
  saw(seen: Seen): void {
    this.#parts.book.saw(seen);
    const mark = `${markOf(seen)}\n${JSON.stringify(this.#parts.svid())}`;
    const waitMs = mark === this.#sent ? reportEveryMs : gapMs;
    if (this.#sending !== null || seen.now - this.#sentAt < waitMs) return;
    this.#sentAt = seen.now;
    this.#sent = mark;
    this.#sending = this.#report().finally(() => {
      this.#sending = null;
    });
  }

  /** Breaks off what is under way. */
  async close(): Promise<void> {
    this.#ended.abort();
    await this.#sending;
  }

  async #report(): Promise<void> {
    const { identity } = this.#parts;
    try {
      this.#noteUnwritten(await identity.begin());
      for (const isLast of [false, true]) {
        const outcome = await this.#tryAll();
        if (outcome !== "taken" || isLast) break;
        this.#noteUnwritten(await identity.renew(this.#parts.host.now()));
        this.#parts.note(`another fetcher reports under the id of this one, which is ${identity.instance} from now on`);
      }
    } catch (error) {
      this.#tell(`reports failed: ${error instanceof Error ? error.name : typeof error}`);
    }
  }

  async #tryAll(): Promise<"done" | "taken"> {
    const { identity, book, host, addressees, bearer, svid } = this.#parts;
    const said = book.report();
    if (said === null) return "done";
    const credential = bearer();
    if (credential === null) {
      this.#tell("reports wait for a JWT-SVID for the API, fetching goes on");
      return "done";
    }
    this.#sequence += 1;
    const { instance, boot, bootId: boot_id } = identity;
    const sent_at = new Date(host.now()).toISOString();
    const held = svid();
    // An API of before fetchers had SVIDs takes no such member.
    const identified = held === null ? said : { ...said, svid: held };
    const body = JSON.stringify({ instance, boot, boot_id, sequence: this.#sequence, sent_at, ...identified });
    const whys: string[] = [];
    let isTaken = false;
    for (const { baseUrl, isApi } of inTurn(addressees(), this.#sequence)) {
      const answer = await this.#send(baseUrl, credential, body);
      if (this.#ended.signal.aborted) return "done";
      if (answer.state === "refused") {
        // A provider alone may say so for its own ends: the next one is asked, too.
        isTaken ||= answer.why === taken;
        whys.push(`${new URL(baseUrl).host} ${answer.why}`);
        continue;
      }
      if (isApi && answer.multicdn !== null) this.#noteUnwritten(await identity.heardFlag(answer.multicdn, host.now()));
      if (this.#trouble !== null) this.#parts.note("reports are taken again");
      this.#trouble = null;
      return "done";
    }
    if (isTaken) return "taken";
    this.#tell(`reports are not taken, fetching goes on: ${whys.join("; ")}`);
    return "done";
  }

  async #send(baseUrl: string, credential: string, body: string): Promise<Sent> {
    try {
      const response = await fetch(`${baseUrl}/api/edge/reports`, {
        method: "POST",
        headers: {
          authorization: `Bearer ${credential}`,
          "content-type": "application/json",
          accept: "application/json",
        },
        body,
        redirect: "error",
        signal: AbortSignal.any([this.#ended.signal, AbortSignal.timeout(answerMsMax)]),
      });
      const text = new TextDecoder().decode(await readBounded(response, answerBytesMax));
      if (response.status !== 200)
        return { state: "refused", why: `answers ${response.status} ${codeOf(text) ?? ""}`.trim() };
      const parsed = edgeReportAnswer.safeParse(jsonOf(text));
      if (!parsed.success) return { state: "refused", why: "answers something else" };
      return { state: "noted", multicdn: parsed.data.multicdn };
    } catch (error) {
      return { state: "refused", why: errorCode(error) ?? whyUnreachable(error) };
    }
  }

  #noteUnwritten(code: string | null): void {
    if (code !== null) this.#tell(`who this instance is could not be written (${code})`);
  }

  #tell(trouble: string): void {
    if (this.#trouble !== trouble && !this.#ended.signal.aborted) this.#parts.note(trouble);
    this.#trouble = trouble;
  }
}

type Sent =
  | { readonly state: "noted"; readonly multicdn: boolean | null }
  /** `why`: fits behind the addressee's name. */
  | { readonly state: "refused"; readonly why: string };

const taken = "answers 409 edge_instance_taken";

/** The API first; of providers another one each time, since one that swallows reports would swallow all of them. */
function inTurn(addressees: readonly Addressee[], sequence: number): Addressee[] {
  const providers = addressees.filter(({ isApi }) => !isApi);
  const at = providers.length === 0 ? 0 : sequence % providers.length;
  return [...addressees.filter(({ isApi }) => isApi), ...providers.slice(at), ...providers.slice(0, at)];
}

/** Changes where what is run, or refused, has. */
const markOf = ({ refresh, held }: Seen): string =>
  [...refresh.verdicts]
    .map(([path, verdict]) => {
      const active = held.active[path];
      const refused = verdict.verdict === "refused" || verdict.verdict === "expired" ? verdict.refusal.code : "";
      return `${path} ${active?.revision ?? ""} ${active?.sha256 ?? ""} ${refused}`;
    })
    .join("\n");

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** A problem's code, a machine word; null where it is none. */
function codeOf(text: string): string | null {
  const value = jsonOf(text) as { readonly code?: unknown } | null;
  const code = typeof value === "object" && value !== null ? value.code : null;
  return typeof code === "string" && /^[a-z0-9_]{1,64}$/.test(code) ? code : null;
}
