// A key ring: the keys that one worker signs with, one a slot, with those that come next and those that were. It signs itself,
// so that one place decides which key signs. Called by durable-objects/key-ring.ts, whose SQLite it works with; a worker's
// RotatingKeysApi passes the steps on.
//
// The first key of a slot is a secret of the worker, and stays outside of the ring. The others are made here; their private
// halves are kept encrypted (AES-256-GCM, under a key derived by HKDF from the secret KEY_RING_SECRET), until they are revoked.
//
// Nothing is signed by the old key after `activate` has resolved: `sign` compares the kid and notes the signature as under way
// in one turn, `activate` changes the kid in one transaction and waits for what is under way.
//
// What stands where after a crash at each await:
//   prepare: keys made, encrypted, endorsed    nothing: a retry makes others
//   prepare: the transaction                   all new keys of the rotation, not published; a retry finds them
//   publish, taint, revoke, withdraw           one transaction each: done, or not; a retry does nothing more
//   activate: the transaction                  the new keys sign; a retry has nothing to wait for: what was under way died with
//                                              the object, and its caller got no signature

import { z } from "@hono/zod-openapi";
import { base64, base64Bytes, concat, toBytes, utf8, utf8Text, type Bytes } from "../contract/bytes.ts";
import { signedBundle, type SignedBundle } from "../contract/events.ts";
import { endorsementsMax, type PublishedKey } from "../contract/http-audit.ts";
import { isoTime } from "../contract/iso-time.ts";
import type { Clock, Random, Sql } from "../contract/ports.ts";
import { endorse, endorsedKeyOf } from "../signing/endorsement.ts";
import { importSigner, keyNotBefore, type KeyAlgorithmName, type Signer } from "../signing/keys.ts";
import {
  messagesMax,
  type CurrentKey,
  type RingKeys,
  type RingSignatures,
  type RingSignerApi,
  type RotatedKeys,
  type RotatingKeysApi,
  type SlotKey,
  type SlotKeysApi,
} from "./service.ts";

/**
 * A new key is in force from so long before it was made: what it signs first may say a time from before that (a seal that was
 * begun before it), or of a clock that is behind.
 */
const backdatedMs = 10 * 60_000;
/** What is to be signed says a time at most so far ahead of the ring's clock. */
const aheadMaxMs = 60_000;
const nonceBytes = 12;

export interface RingSlot {
  readonly name: string;
  readonly algorithm: KeyAlgorithmName;
  /** What its keys are published for. */
  readonly uses: readonly PublishedKey["use"][];
  /** The first key: a private JWK as JSON text with `not_before`. */
  readonly firstKey: string;
}

export interface RingParts {
  readonly sql: Sql;
  readonly clock: Clock;
  readonly random: Random;
  /** What it is the ring of: part of what private halves are encrypted under. */
  readonly name: string;
  readonly slots: readonly RingSlot[];
  /** KEY_RING_SECRET; absent: this ring cannot be rotated. */
  readonly secret: string | undefined;
}

/** The ring cannot do what it was asked. The message names kids and secrets by their names, never key material. */
export class RingFault extends Error {
  override readonly name = "RingFault";
}

type KeyState = "prepared" | "published" | "active" | "retired";
interface KeyRow extends Record<string, string | number | null> {
  readonly n: number;
  readonly kid: string;
  readonly slot: string;
  readonly spki: string;
  readonly state: KeyState;
  readonly not_before: string;
  readonly not_after: string | null;
  readonly revoked_at: string | null;
  /** The private JWK, encrypted; null: the slot's first key, or destroyed. */
  readonly sealed: string | null;
  /** The rotation that made it, and the key that it takes the place of; null of the first. */
  readonly rotation: string | null;
  readonly replaces: string | null;
  readonly endorsement: string | null;
}

const schema = `
  create table if not exists keys (
    n integer primary key autoincrement, kid text not null unique, slot text not null, spki text not null, state text not null,
    not_before text not null, not_after text, tainted_at text, revoked_at text, sealed text, rotation text, replaces text,
    endorsement text
  );
  -- Rotations that were taken back. A step of theirs that comes late makes nothing.
  create table if not exists withdrawn (rotation text primary key);
  -- The latest time that a key signed, in ms, where that was ahead of the ring's clock.
  create table if not exists ahead (kid text primary key, at integer not null);
`;

export class KeyRing implements RingSignerApi, RotatingKeysApi, SlotKeysApi {
  readonly #parts: RingParts;
  readonly #sql: Sql;
  readonly #signers = new Map<string, Promise<Signer>>();
  /** By kid. */
  readonly #underWay = new Map<string, Set<Promise<unknown>>>();
  /** By kid: the latest time that this instance signed. */
  readonly #signedAt = new Map<string, number>();
  /** By slot, once imported. */
  readonly #firsts = new Map<string, Signer>();
  #sealingKey: Promise<CryptoKey> | undefined;

  constructor(parts: RingParts) {
    this.#parts = parts;
    this.#sql = parts.sql;
    this.#sql.exec(schema);
  }

  async current(): Promise<CurrentKey[]> {
    return await Promise.all(
      this.#parts.slots.map(async (slot) => {
        const { kid, algorithm, spki } = await this.#signer(slot, this.#active(slot));
        return { slot: slot.name, kid, algorithm, spki };
      }),
    );
  }

  async sign(slotName: string, kid: string, at: number, messages: readonly Bytes[]): Promise<RingSignatures> {
    const slot = this.#slot(slotName);
    if (messages.length > messagesMax) throw new RangeError(`a ring signs at most ${messagesMax} messages at once`);
    if (this.#active(slot) === null) await this.#signer(slot, null);
    // From here to `#begin` in one turn.
    const active = this.#active(slot);
    if ((active ?? this.#firsts.get(slot.name))?.kid !== kid) return { state: "rotated" };
    this.#checkTime(slot, active, at);
    const signing = this.#signer(slot, active).then((signer) =>
      Promise.all(messages.map((message) => signer.sign(message))),
    );
    return { state: "signed", signatures: await this.#begin(kid, at, signing) };
  }

  async prepareKeys(rotation: string, slotNames: readonly string[]): Promise<RotatedKeys> {
    this.#checkStands(rotation);
    const known = this.#rotated(rotation);
    if (known !== null) return known;
    const made = await Promise.all(slotNames.map((name) => this.#make(this.#slot(name))));
    return this.#sql.transaction(() => {
      this.#checkStands(rotation);
      const meanwhile = this.#rotated(rotation);
      if (meanwhile !== null) return meanwhile;
      for (const { slot, key } of made) {
        const [waiting] = this.#sql.exec<{ rotation: string }>(
          "select rotation from keys where slot = ? and state in ('prepared', 'published')",
          slot.name,
        );
        if (waiting !== undefined)
          throw new RingFault(`the slot ${slot.name} is being rotated already: ${waiting.rotation}`);
        const active = this.#active(slot) ?? this.#firstRow(slot);
        if (active.kid !== key.replaces) throw new RingFault(`the slot ${slot.name} was rotated meanwhile: try again`);
        if (active.n === 0) this.#insert(active);
        this.#insert({ ...key, rotation });
      }
      return this.#rotated(rotation)!;
    });
  }

  async publishKeys(rotation: string): Promise<void> {
    this.#sql.exec("update keys set state = 'published' where rotation = ? and state = 'prepared'", rotation);
  }

  async activateKeys(rotation: string): Promise<void> {
    const now = this.#parts.clock();
    const { old } = this.#sql.transaction(() => {
      for (const { kid, replaces } of this.#rowsOf(rotation, "published")) {
        const end = Math.max(now, this.#signedTo(replaces!));
        this.#sql.exec("update keys set state = 'retired', not_after = ? where kid = ?", isoTime(end), replaces);
        this.#sql.exec("update keys set state = 'active' where kid = ?", kid);
      }
      return this.#known(rotation);
    });
    const underWay = old.flatMap(({ kid }) => [...(this.#underWay.get(kid) ?? [])]);
    await Promise.allSettled(underWay);
    for (const { kid } of old) this.#signers.delete(kid);
  }

  async taintKeys(rotation: string): Promise<void> {
    const kids = this.#known(rotation).old.map(({ kid }) => kid);
    for (const kid of kids)
      this.#sql.exec(
        "update keys set tainted_at = coalesce(tainted_at, ?) where kid = ?",
        isoTime(this.#parts.clock()),
        kid,
      );
  }

  async revokeKeys(rotation: string, compromised: boolean): Promise<void> {
    const at = compromised ? isoTime(this.#parts.clock()) : null;
    this.#sql.transaction(() => {
      for (const { kid } of this.#known(rotation).old) {
        this.#sql.exec(
          "update keys set sealed = null, revoked_at = coalesce(revoked_at, ?) where kid = ? and state = 'retired'",
          at,
          kid,
        );
      }
    });
  }

  async withdrawKeys(rotation: string): Promise<RotatedKeys> {
    const at = isoTime(this.#parts.clock());
    return this.#sql.transaction(() => {
      if (!this.#isWithdrawn(rotation)) {
        const signs = this.#rows("where rotation = ? and state in ('active', 'retired')", rotation)[0];
        if (signs !== undefined) throw new RingFault(`the key ${signs.kid} of ${rotation} signs, or has signed`);
        this.#sql.exec("insert into withdrawn values (?)", rotation);
        this.#sql.exec("delete from keys where rotation = ? and state = 'prepared'", rotation);
        // Whoever has seen it is told that nothing is by it; one that vanished would look like a set of keys that was altered.
        this.#sql.exec(
          "update keys set state = 'retired', not_after = not_before, revoked_at = ?, sealed = null where rotation = ?",
          at,
          rotation,
        );
      }
      return this.#rotated(rotation) ?? { old: [], new: [] };
    });
  }

  async publishedKeys(): Promise<RingKeys> {
    const { slots } = this.#parts;
    const unrotated = slots.filter((slot) => this.#active(slot) === null);
    await Promise.all(unrotated.map((slot) => this.#signer(slot, null)));
    const rows = this.#rows("where state <> 'prepared' order by n");
    const first = slots.filter((slot) => this.#active(slot) === null).map((slot) => this.#firstRow(slot));
    const all = [...first, ...rows];
    const inOrder = [
      ...slots.flatMap(({ name }) => all.filter(({ slot, state }) => slot === name && state !== "retired")),
      ...all.filter(({ state }) => state === "retired"),
    ];
    return {
      keys: inOrder.flatMap(({ slot: name, kid, spki, not_before, not_after, revoked_at }) => {
        const slot = this.#slot(name);
        const algorithm = slot.algorithm === "Ed25519" ? "Ed25519" : "ECDSA-P256-SHA256";
        return slot.uses.map((use): PublishedKey => ({
          kid,
          use,
          algorithm,
          spki,
          not_before,
          ...(not_after === null ? {} : { not_after }),
          ...(revoked_at === null ? {} : { revoked_at }),
        }));
      }),
      endorsements: rows
        .flatMap(({ endorsement }) => (endorsement === null ? [] : [signedBundle.parse(JSON.parse(endorsement))]))
        .slice(-endorsementsMax),
    };
  }

  async slotKeys(slotName: string): Promise<SlotKey[]> {
    const slot = this.#slot(slotName);
    if (this.#active(slot) === null) await this.#signer(slot, null);
    const rows = this.#rows("where slot = ? and state <> 'prepared' order by n", slot.name);
    const all = this.#active(slot) === null ? [this.#firstRow(slot)] : rows;
    return all.map(({ kid, spki, state, replaces, not_before, revoked_at }) => ({
      kid,
      spki,
      active: state === "active",
      since: state === "published" ? null : (all.find((before) => before.kid === replaces)?.not_after ?? not_before),
      revoked: revoked_at !== null,
    }));
  }

  #slot(name: string): RingSlot {
    const slot = this.#parts.slots.find((one) => one.name === name);
    if (slot === undefined) throw new RingFault(`the ring ${this.#parts.name} has no slot ${name}`);
    return slot;
  }

  #rows(where: string, ...values: (string | null)[]): KeyRow[] {
    return this.#sql.exec<KeyRow>(`select * from keys ${where}`, ...values);
  }

  /** Null: the slot was never rotated, and its first key signs. */
  #active(slot: RingSlot): KeyRow | null {
    return this.#rows("where slot = ? and state = 'active'", slot.name)[0] ?? null;
  }

  #rowsOf(rotation: string, state: KeyState): KeyRow[] {
    return this.#rows("where rotation = ? and state = ?", rotation, state);
  }

  #rotated(rotation: string): RotatedKeys | null {
    const rows = this.#rows("where rotation = ? order by n", rotation);
    if (rows.length === 0) return null;
    return {
      old: rows.map(({ slot, replaces }) => ({ slot, kid: replaces! })),
      new: rows.map(({ slot, kid }) => ({ slot, kid })),
    };
  }

  #known(rotation: string): RotatedKeys {
    const rotated = this.#rotated(rotation);
    if (rotated === null) throw new RingFault(`the ring ${this.#parts.name} knows no rotation ${rotation}`);
    return rotated;
  }

  #isWithdrawn(rotation: string): boolean {
    return this.#sql.exec("select rotation from withdrawn where rotation = ?", rotation).length > 0;
  }

  #checkStands(rotation: string): void {
    if (this.#isWithdrawn(rotation)) throw new RingFault(`the rotation ${rotation} was cancelled`);
  }

  #insert(row: KeyRow): void {
    const { kid, slot, spki, state, not_before, sealed, endorsement, rotation, replaces } = row;
    this.#sql.exec(
      `insert into keys (kid, slot, spki, state, not_before, sealed, endorsement, rotation, replaces)
       values (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      kid,
      slot,
      spki,
      state,
      not_before,
      sealed,
      endorsement,
      rotation,
      replaces,
    );
  }

  #checkTime(slot: RingSlot, row: KeyRow | null, at: number): void {
    const from = Date.parse(row?.not_before ?? keyNotBefore(slot.firstKey));
    if (at < from) throw new RingFault(`the key of ${slot.name} signs nothing of before ${isoTime(from)}`);
    if (at > this.#parts.clock() + aheadMaxMs) throw new RingFault(`${isoTime(at)} is ahead of the ring's clock`);
  }

  /** Notes a signature as under way, with the time that it says; one ahead of the clock outlives the object. */
  async #begin<T>(kid: string, at: number, signing: Promise<T>): Promise<T> {
    if (at > (this.#signedAt.get(kid) ?? 0)) {
      this.#signedAt.set(kid, at);
      if (at > this.#parts.clock())
        this.#sql.exec("insert into ahead values (?1, ?2) on conflict (kid) do update set at = max(at, ?2)", kid, at);
    }
    const all = this.#underWay.get(kid) ?? new Set();
    this.#underWay.set(kid, all);
    all.add(signing);
    try {
      return await signing;
    } finally {
      all.delete(signing);
      if (all.size === 0) this.#underWay.delete(kid);
    }
  }

  #signedTo(kid: string): number {
    const [ahead] = this.#sql.exec<{ at: number }>("select at from ahead where kid = ?", kid);
    return Math.max(ahead?.at ?? 0, this.#signedAt.get(kid) ?? 0);
  }

  /** A slot's first key, as a row that is not in the table (`n` 0). Its signer was imported before. */
  #firstRow(slot: RingSlot): KeyRow {
    const first = this.#firsts.get(slot.name);
    if (first === undefined) throw new RingFault(`the first key of ${slot.name} is not known yet: try again`);
    return {
      n: 0,
      kid: first.kid,
      slot: slot.name,
      spki: base64(first.spki),
      state: "active",
      not_before: keyNotBefore(slot.firstKey),
      not_after: null,
      revoked_at: null,
      sealed: null,
      rotation: null,
      replaces: null,
      endorsement: null,
    };
  }

  /** A failed import is not remembered: the next call tries again. `row` null: the first key. */
  #signer(slot: RingSlot, row: KeyRow | null): Promise<Signer> {
    const name = row?.kid ?? slot.name;
    const known = this.#signers.get(name);
    if (known !== undefined) return known;
    const made = this.#load(slot, row).catch((error: unknown) => {
      this.#signers.delete(name);
      throw error;
    });
    this.#signers.set(name, made);
    return made;
  }

  async #load(slot: RingSlot, row: KeyRow | null): Promise<Signer> {
    if (row !== null && row.sealed !== null)
      return await importSigner(await this.#unseal(row.kid, row.sealed), slot.algorithm);
    const signer = await importSigner(slot.firstKey, slot.algorithm);
    this.#firsts.set(slot.name, signer);
    if (row !== null && row.kid !== signer.kid)
      throw new RingFault(`the worker's secret for ${slot.name} is another key than ${row.kid}, which signs`);
    return signer;
  }

  async #make(slot: RingSlot) {
    const old = await this.#signer(slot, this.#active(slot));
    const algorithm = slot.algorithm === "Ed25519" ? { name: "Ed25519" } : { name: "ECDSA", namedCurve: "P-256" };
    // The workers' types know this call's answer less well.
    // oxlint-disable-next-line typescript/no-unnecessary-type-assertion
    const pair = (await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"])) as CryptoKeyPair;
    const text = JSON.stringify(await crypto.subtle.exportKey("jwk", pair.privateKey));
    const signer = await importSigner(text, slot.algorithm);
    const endorsed = endorsedKeyOf(signer, slot.uses, isoTime(this.#parts.clock() - backdatedMs));
    const endorsement: SignedBundle = await endorse(old, endorsed);
    const sealed = await this.#seal(signer.kid, text);
    const { kid, spki, not_before } = endorsed;
    const key: KeyRow = {
      n: 0,
      kid,
      slot: slot.name,
      spki,
      state: "prepared",
      not_before,
      not_after: null,
      revoked_at: null,
      sealed,
      endorsement: JSON.stringify(endorsement),
      rotation: null,
      replaces: old.kid,
    };
    return { slot, key };
  }

  /** Under the secret, and no other one than the private halves that are here already. */
  async #seal(kid: string, text: string): Promise<string> {
    const [other] = this.#rows("where sealed is not null limit 1");
    if (other !== undefined) await this.#unseal(other.kid, other.sealed!);
    const nonce = this.#parts.random(nonceBytes);
    const algorithm = { name: "AES-GCM", iv: nonce, additionalData: this.#boundTo(kid) } as const;
    return base64(
      concat(nonce, toBytes(await crypto.subtle.encrypt(algorithm, await this.#keyOfSecret(), utf8(text)))),
    );
  }

  async #unseal(kid: string, sealed: string): Promise<string> {
    const bytes = base64Bytes(sealed);
    const iv = bytes.slice(0, nonceBytes);
    const algorithm = { name: "AES-GCM", iv, additionalData: this.#boundTo(kid) } as const;
    const key = await this.#keyOfSecret();
    const opened = await crypto.subtle.decrypt(algorithm, key, bytes.slice(nonceBytes)).catch(() => null);
    if (opened === null)
      throw new RingFault(
        `KEY_RING_SECRET is not the secret that the private half of ${kid} was encrypted with (ring ${this.#parts.name})`,
      );
    return utf8Text(toBytes(opened));
  }

  #boundTo(kid: string): Bytes {
    return utf8(`${this.#parts.name}/${kid}`);
  }

  #keyOfSecret(): Promise<CryptoKey> {
    this.#sealingKey ??= this.#deriveKey().catch((error: unknown) => {
      this.#sealingKey = undefined;
      throw error;
    });
    return this.#sealingKey;
  }

  async #deriveKey(): Promise<CryptoKey> {
    const secret = secretShape.safeParse(this.#parts.secret);
    if (!secret.success)
      throw new RingFault(
        `KEY_RING_SECRET is not set, or shorter than ${secretLengthMin} characters: no key can be kept`,
      );
    const material = await crypto.subtle.importKey("raw", utf8(secret.data), "HKDF", false, ["deriveKey"]);
    return await crypto.subtle.deriveKey(
      {
        name: "HKDF",
        hash: "SHA-256",
        salt: new Uint8Array(0),
        info: utf8(`maestro key ring v1: ${this.#parts.name}`),
      },
      material,
      { name: "AES-GCM", length: 256 },
      false,
      ["encrypt", "decrypt"],
    );
  }
}

const secretLengthMin = 32;
const secretShape = z.string().min(secretLengthMin).max(1_024);
