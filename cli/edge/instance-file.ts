// Who a fetcher is to the fleet, in a file beside what it holds: its id, how often it was started, and until when it asks one provider
// alone. Used by `maestro edge fetch|serve`. Where it cannot be written the fetcher goes on, under a new id the next time.

import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { fetcherId } from "../../shared/contract/http-edge.ts";
import { newId } from "../../shared/contract/ids.ts";
import { timestamp } from "../../shared/contract/names.ts";
import { errorCode } from "../failure.ts";
import { writePrivate } from "../folders.ts";

/** The flag edge_multicdn was off: one provider alone is asked for so long after the API last said so. */
export const oneProviderMs = 3_600_000;
/** The file is written anew once the end that stands there is so far behind. */
const rewriteMs = 300_000;

const fileName = "instance.json";

const instanceFile = z.strictObject({
  format: z.literal("maestro-edge-instance/v1"),
  instance: fetcherId,
  /** Of the last start that reported. */
  boot: z.int().min(0),
  one_provider_until: timestamp.nullable(),
});
type InstanceFile = z.infer<typeof instanceFile>;

export class InstanceIdentity {
  readonly #folder: string;
  readonly bootId = randomBytes(16).toString("hex");
  #kept: InstanceFile;
  #isBooted = false;

  constructor(folder: string, kept: InstanceFile) {
    this.#folder = folder;
    this.#kept = kept;
  }

  get instance(): string {
    return this.#kept.instance;
  }

  get boot(): number {
    return this.#kept.boot;
  }

  /** Before the first report of a start. Null, or why it was not written. */
  async begin(): Promise<string | null> {
    if (this.#isBooted) return null;
    this.#isBooted = true;
    return await this.#keep({ ...this.#kept, boot: this.#kept.boot + 1 });
  }

  /** Another fetcher has this id: a new one. */
  async renew(now: number): Promise<string | null> {
    return await this.#keep({ ...this.#kept, instance: freshId(now), boot: 1 });
  }

  asksOneProvider(now: number): boolean {
    const until = this.#kept.one_provider_until;
    return until !== null && now < Date.parse(until);
  }

  /** What the API said of the flag edge_multicdn. */
  async heardFlag(isOn: boolean, now: number): Promise<string | null> {
    const until = this.#kept.one_provider_until;
    if (isOn) return until === null ? null : await this.#keep({ ...this.#kept, one_provider_until: null });
    const end = now + oneProviderMs;
    if (until !== null && end - Date.parse(until) < rewriteMs && Date.parse(until) > now) return null;
    return await this.#keep({ ...this.#kept, one_provider_until: new Date(end).toISOString() });
  }

  async #keep(next: InstanceFile): Promise<string | null> {
    this.#kept = next;
    try {
      await writePrivate(join(this.#folder, fileName), `${JSON.stringify(next)}\n`);
      return null;
    } catch (error) {
      const code = errorCode(error);
      if (code === null) throw error;
      return code;
    }
  }
}

/** A new one where there is none, or none that can be read. */
export async function readIdentity(folder: string, now: number): Promise<InstanceIdentity> {
  return new InstanceIdentity(folder, (await readFileOf(folder)) ?? freshFile(now));
}

async function readFileOf(folder: string): Promise<InstanceFile | null> {
  try {
    const parsed = instanceFile.safeParse(JSON.parse(await readFile(join(folder, fileName), "utf8")));
    return parsed.success ? parsed.data : null;
  } catch (error) {
    if (error instanceof SyntaxError || errorCode(error) === "ENOENT") return null;
    throw error;
  }
}

const freshId = (now: number): string => newId("fetcher", now, randomBytes(10));
const freshFile = (now: number): InstanceFile => ({
  format: "maestro-edge-instance/v1",
  instance: freshId(now),
  boot: 0,
  one_provider_until: null,
});
