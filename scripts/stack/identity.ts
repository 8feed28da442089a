// The stack's own SPIFFE authority, for trust domain mc.local, in the state folder, and the API's SVID, which is renewed while the
// stack runs. Started by startStack; an authority for development, as `maestro svid authority` has it.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type pg from "pg";
import { initAuthority, readAuthority, rotateAuthority, authorityLifeMs } from "../../cli/svid/authority-folder.ts";
import { mintSvid, whyMintAgain, type Minted } from "../../cli/svid/mint.ts";
import { writeBundleFile, writeSvidFolder } from "../../cli/svid/svid-folder.ts";
import { sha256Hex, utf8 } from "../../shared/contract/bytes.ts";
import { activeKey, bundleOfState, type AuthorityState } from "../../shared/identity/issue/authority-state.ts";
import { receiveDocument } from "../../shared/identity/receive-document.ts";
import { parseSpiffeId, type SpiffeId } from "../../shared/identity/spiffe-id.ts";

export const localTrustDomain = "mc.local";
const apiTtlSeconds = 3_600;
/** How often the authority's file is looked at: `maestro svid authority` may have rotated it. */
const lookEveryMs = 1_000;
const handInMsMax = 10_000;

export interface StackIdentity {
  /** The authority's folder, for `maestro svid mint --authority`. */
  readonly authorityFolder: string;
  /** The API's SVID, as a folder. */
  readonly apiFolder: string;
  /** Of the API's SVID as it is now. */
  readonly svid: () => Minted["files"];
  readonly bundle: () => string;
  readonly sequence: () => number;
  stop(): Promise<void>;
}

export interface IdentityOptions {
  /** The state folder. */
  readonly folder: string;
  readonly clock: () => number;
  /** After the API's SVID was minted again. */
  readonly onRenewed: (files: Minted["files"]) => void;
  /** After the bundle changed; the change counts as seen when this is done. */
  readonly onBundle: (document: string) => Promise<void>;
  readonly onFault: (error: unknown) => void;
}

export async function startIdentity(options: IdentityOptions): Promise<StackIdentity> {
  const { clock } = options;
  const [authorityFolder, apiFolder] = ["authority", "api"].map((name) => join(options.folder, "spiffe", name)) as [
    string,
    string,
  ];
  mkdirSync(join(options.folder, "spiffe"), { recursive: true, mode: 0o700 });
  const id = idOf(`spiffe://${localTrustDomain}/platform/api`);
  await initAuthority(authorityFolder, id.trustDomain, clock());
  let state = await agedOut(authorityFolder, clock());
  const mint = async (from: AuthorityState): Promise<Minted> => {
    const minted = await mintSvid(
      from,
      {
        id,
        ttlSeconds: apiTtlSeconds,
        audiences: [],
        dnsNames: ["localhost"],
        ipAddresses: [new Uint8Array([127, 0, 0, 1])],
      },
      clock(),
    );
    await writeSvidFolder(apiFolder, minted.files);
    return minted;
  };
  let minted = await mint(state);

  async function look(): Promise<void> {
    const seen = await readAuthority(authorityFolder);
    if (seen.sequence !== state.sequence) {
      const document = bundleOfState(seen);
      await writeBundleFile(apiFolder, document);
      await options.onBundle(document);
    }
    state = seen;
    if (whyMintAgain(minted, seen, clock()) === null) return;
    minted = await mint(seen);
    options.onRenewed(minted.files);
  }
  let looking: Promise<void> | null = null;
  const timer = setInterval(() => {
    looking ??= look()
      .catch(options.onFault)
      .finally(() => {
        looking = null;
      });
  }, lookEveryMs);
  return {
    authorityFolder,
    apiFolder,
    svid: () => minted.files,
    bundle: () => bundleOfState(state),
    sequence: () => state.sequence,
    async stop() {
      clearInterval(timer);
      await looking;
    },
  };
}

/** Keys near their end are replaced at a start, before anything of this run is signed: nobody holds an SVID of a year ago. */
async function agedOut(folder: string, now: number): Promise<AuthorityState> {
  let state = await readAuthority(folder);
  for (const kind of ["x509", "jwt"] as const) {
    if (activeKey(state[kind]).expires_at - now > authorityLifeMs / 3) continue;
    const isReplaced = state[kind].some((key) => key.state === "old" || key.state === "tainted");
    for (const move of [...(isReplaced ? (["taint", "revoke"] as const) : []), "prepare", "activate"] as const) {
      state = (await rotateAuthority(folder, move, [kind], now)).state;
    }
  }
  return state;
}

function idOf(text: string): SpiffeId {
  const parsed = parseSpiffeId(text);
  if (!parsed.ok) throw new TypeError(parsed.refusal.reason);
  return parsed.value;
}

/**
 * The row of mc.local, shared by the first tenant that curates, as tenants themselves are seeded: where there is none yet. `client` is
 * the owner's. Answers whose it is, and the digest of the bundle in force.
 */
export async function seedTrustDomain(
  client: pg.Client,
  owner: { readonly tenantId: string; readonly principalId: string },
  document: string,
  sequence: number,
  now: Date,
): Promise<{ readonly tenantId: string; readonly bundleSha256: string | null }> {
  const digest = await sha256Hex(utf8(document));
  const nothing = { sha256: null, sequence_max: null, sequence_max_sha256: null, distrusted: [] };
  const received = await receiveDocument(idOf(`spiffe://${localTrustDomain}`).trustDomain, nothing, document);
  if (!received.ok) throw new TypeError(received.refusal.reason);
  const { first } = received.value;
  const ends = first === null ? [null, null] : [new Date(first.notBeforeMs), new Date(first.notAfterMs)];
  // Where some of its authorities were distrusted, the API is to take the document, without them.
  await client.query(
    `insert into trust_domains
       (name, tenant_id, shared, bundle, bundle_sha256, sequence_max, sequence_max_sha256, confirmed_at, created_at, created_by,
        first_from_at, first_until_at, distrusts)
     select $1, $2, true, case when n = 0 then $3 end, case when n = 0 then $4 end, case when n = 0 then $5::bigint end,
       case when n = 0 then $4 end, case when n = 0 then $6::timestamptz end, $6, $7,
       case when n = 0 then $8::timestamptz end, case when n = 0 then $9::timestamptz end, n
     from (select count(*)::int as n from distrusted_authorities where trust_domain = $1 and tenant_id = $2::uuid) as known
     on conflict (name) do nothing`,
    [localTrustDomain, owner.tenantId, document, digest, sequence, now, owner.principalId, ...ends],
  );
  const { rows } = await client.query<{ tenant_id: string; bundle_sha256: string | null }>(
    "select tenant_id, bundle_sha256 from trust_domains where name = $1",
    [localTrustDomain],
  );
  const [row] = rows;
  if (row === undefined) throw new Error(`the row of ${localTrustDomain} went away`);
  return { tenantId: row.tenant_id, bundleSha256: row.bundle_sha256 };
}

/** As an admin of its tenant would: in force when this returns, told to the log and to the edges. Throws what the API says against it. */
export async function handInBundle(apiUrl: string, token: string, document: string): Promise<void> {
  const response = await fetch(`${apiUrl}/api/identity/trust-domains/${localTrustDomain}/bundle`, {
    method: "PUT",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ document }),
    signal: AbortSignal.timeout(handInMsMax),
  });
  const text = await response.text();
  if (response.status !== 200)
    throw new Error(`the API does not take the bundle of ${localTrustDomain}: ${response.status} ${text}`);
}
