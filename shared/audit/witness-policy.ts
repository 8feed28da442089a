// Trust policies: which witnesses a verifier knows, and how many of them have to agree (https://c2sp.org/tlog-policy).
// `maestro audit verify --witnesses` reads one; witnessed.ts asks it.

import { hex, utf8Text } from "../contract/bytes.ts";
import { noteTypes, parseVerifierKey, type VerifierKey } from "./note.ts";

export const policyBytesMax = 64 * 1024;
/** Of each kind. The specification recommends at least 32. */
const definitionsMax = 64;

export interface PolicyWitness {
  /** Octets, one a character: two names are the same only where their octets are. */
  readonly octets: string;
  /** For people: the octets read as UTF-8, where they are that. */
  readonly name: string;
  readonly key: VerifierKey;
  /** Where it is asked, if that is said. */
  readonly url: string | null;
}

interface Group {
  readonly threshold: number;
  readonly members: readonly string[];
}

export interface WitnessPolicy {
  /** Empty: the log is known from elsewhere. */
  readonly logs: readonly VerifierKey[];
  readonly witnesses: readonly PolicyWitness[];
  readonly groups: ReadonlyMap<string, Group>;
  /** The octets of a witness's or a group's name; null: `none`. */
  readonly quorum: string | null;
}

export type ParsedPolicy = { ok: true; policy: WitnessPolicy } | { ok: false; reason: string };

class Unusable extends Error {}

/** Where a policy is not exactly one, the reason names the line. Takes the octets of the file. */
export async function parseWitnessPolicy(bytes: Uint8Array): Promise<ParsedPolicy> {
  if (bytes.length > policyBytesMax) return { ok: false, reason: `it is larger than ${policyBytesMax} bytes` };
  const reading = new Reading();
  let line = 0;
  try {
    for (const text of octets(bytes).split("\n")) {
      line += 1;
      await reading.line(text);
    }
    return { ok: true, policy: reading.end() };
  } catch (error) {
    if (error instanceof Unusable) return { ok: false, reason: `line ${line}: ${error.message}` };
    throw error;
  }
}

const octets = (bytes: Uint8Array): string => Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");

/** What the octets say in UTF-8; where they are not that, the octets themselves. */
function words(text: string): string {
  try {
    return utf8Text(Uint8Array.from(text, (character) => character.charCodeAt(0)));
  } catch {
    return text; // a name may be any octets
  }
}

const logTypes: readonly number[] = [noteTypes.ed25519, noteTypes.mlDsa44];
const witnessTypes: readonly number[] = [noteTypes.cosignature, noteTypes.mlDsa44];

class Reading {
  readonly #logs: VerifierKey[] = [];
  readonly #witnesses: PolicyWitness[] = [];
  readonly #groups = new Map<string, Group>();
  readonly #names = new Set<string>(["none"]);
  readonly #members = new Set<string>();
  /** Undefined: no quorum line yet. */
  #quorum: string | null | undefined;

  async line(text: string): Promise<void> {
    // oxlint-disable-next-line no-control-regex -- the specification's words: tab and newline are the only ones allowed.
    if (/[\u0000-\u0008\u000B-\u001F\u007F]/.test(text)) throw new Unusable("a control character");
    const [kind = "", ...items] = text.split(/[ \t]+/).filter((item) => item !== "");
    if (kind === "" || kind.startsWith("#")) return;
    if (kind === "log") await this.#log(items);
    else if (kind === "witness") await this.#witness(items);
    else if (kind === "group") this.#group(items);
    else if (kind === "quorum") this.#setQuorum(items);
    else throw new Unusable("it begins with none of log, witness, group, quorum");
  }

  end(): WitnessPolicy {
    if (this.#quorum === undefined) throw new Unusable("the policy ends without a quorum line");
    return { logs: this.#logs, witnesses: this.#witnesses, groups: this.#groups, quorum: this.#quorum };
  }

  async #log([vkey, , ...more]: readonly string[]): Promise<void> {
    if (vkey === undefined || more.length > 0) throw new Unusable("a log is `log <vkey> [<url>]`");
    this.#logs.push(await keyOf(vkey, logTypes, this.#logs));
  }

  async #witness([name, vkey, url, ...more]: readonly string[]): Promise<void> {
    if (name === undefined || vkey === undefined || more.length > 0)
      throw new Unusable("a witness is `witness <name> <vkey> [<url>]`");
    const known = this.#witnesses.map(({ key }) => key);
    const key = await keyOf(vkey, witnessTypes, known);
    this.#define(name, this.#witnesses.length);
    this.#witnesses.push({ octets: name, name: words(name), key, url: url === undefined ? null : words(url) });
  }

  #group([name, count, ...members]: readonly string[]): void {
    if (name === undefined || count === undefined || members.length === 0)
      throw new Unusable("a group is `group <name> all|any|<k> <name>...`");
    for (const member of members) {
      if (member === "none" || !this.#names.has(member))
        throw new Unusable(`${words(member)} is not defined before it is used`);
      if (this.#members.has(member)) throw new Unusable(`${words(member)} is a member twice`);
      this.#members.add(member);
    }
    const threshold =
      count === "all" ? members.length : count === "any" ? 1 : /^\d{1,3}$/.test(count) ? Number(count) : 0;
    if (threshold < 1 || threshold > members.length)
      throw new Unusable(`of ${members.length} members, all, any or 1 to ${members.length} can be asked for`);
    this.#define(name, this.#groups.size);
    this.#groups.set(name, { threshold, members });
  }

  #setQuorum([name, ...more]: readonly string[]): void {
    if (name === undefined || more.length > 0) throw new Unusable("the quorum is `quorum <name>`");
    if (this.#quorum !== undefined) throw new Unusable("there is a quorum line already");
    if (!this.#names.has(name)) throw new Unusable(`${words(name)} is not defined before it is used`);
    this.#quorum = name === "none" ? null : name;
  }

  #define(name: string, count: number): void {
    if (this.#names.has(name)) throw new Unusable(`${words(name)} is defined already`);
    if (count >= definitionsMax) throw new Unusable(`more than ${definitionsMax} of a kind`);
    this.#names.add(name);
  }
}

async function keyOf(vkey: string, types: readonly number[], known: readonly VerifierKey[]): Promise<VerifierKey> {
  const key = await parseVerifierKey(words(vkey));
  if (key === null || !types.includes(key.type)) throw new Unusable("the verifier key (vkey) is none of this kind");
  if (known.length >= definitionsMax) throw new Unusable(`more than ${definitionsMax} of a kind`);
  if (known.some((other) => hex(other.key) === hex(key.key))) throw new Unusable("this public key is there already");
  return key;
}

/** `agreed`: octets of the names of witnesses that cosigned. */
export function isQuorum(policy: WitnessPolicy, agreed: ReadonlySet<string>): boolean {
  // Groups refer to what was defined before them only, so this ends.
  const holds = (name: string): boolean => {
    const group = policy.groups.get(name);
    if (group === undefined) return agreed.has(name);
    return group.members.filter((member) => holds(member)).length >= group.threshold;
  };
  return policy.quorum === null || holds(policy.quorum);
}
