// Why something that a provider served is not believed: a stable code, what was seen, and what to do about it. Made by the
// parts that fetch and verify; counted and shown by `maestro edge`.

/** What to do, a sentence or two for each code. */
export const refusalAdvice = {
  unreachable: "Another provider is asked; where all say so, check this machine's network.",
  late: "It was given up after its time; another provider is asked.",
  truncated: "It broke off before its end; it is asked for again.",
  too_large: "Reading was stopped at the bound; tell the provider's operator.",
  wrong_content_type: "It is not what it should be, perhaps a page of a proxy; check the provider's baseUrl.",
  redirected: "Redirects are never followed: name the address itself as the provider's baseUrl.",
  encoded: "It is coded in a way that was not asked for; switch compression off at the provider.",
  bad_status: "The provider does not serve it now; another one is asked.",
  denied:
    "The fetcher's key is not taken: it is revoked, has expired, or has not reached this provider yet. An admin makes another with `maestro keys create --role fetcher --out FILE`; give it with --key-file.",
  missing: "The provider has not got it (yet); another one is asked.",
  malformed: "It is not metadata of this format; tell the provider's operator.",
  bad_signature: "It is not signed by the keys that the root names: whoever wrote it is not the publisher.",
  bad_root_rotation:
    "A new root counts only when enough keys of the old and of the new one have signed it; ask the tenant's root keepers.",
  root_expired:
    "Nothing is trusted under an expired root; the tenant's root keepers make a new one with `maestro policy root rotate`.",
  metadata_expired:
    "Nobody vouches for it any more: the provider is frozen, the signer has stopped, or this machine's clock is wrong.",
  clock_behind: "What is signed comes from this machine's future; set its clock.",
  rollback: "It goes back behind what was trusted before, and is never activated; tell the tenant's publisher.",
  mix_and_match:
    "It is signed, but belongs to another version than the one that names it; tell the provider's operator.",
  not_a_target: "The tenant has published no policy of this name on this channel; check both.",
  wrong_length: "It is not what the metadata names; this provider is not asked for it again until that changes.",
  wrong_digest: "It is not what the metadata names; this provider is not asked for it again until that changes.",
  bad_delta: "The whole bundle is fetched instead, and this delta is not asked for again.",
  broken_archive:
    "The bytes are those that were signed for, and are no bundle; publish it anew, then `maestro edge clear`.",
  gzip_bomb: "It unpacks to more than was signed for; publish it anew, then `maestro edge clear`.",
  wrong_tar_digest: "It unpacks to something other than was signed for; publish it anew, then `maestro edge clear`.",
  bad_statement:
    "The publisher's own signature is missing or not by a trusted key; check the keys given with --publisher: with others it is asked for again.",
  statement_disagrees: "The publisher signed something else than the metadata names; tell the tenant's publisher.",
  quarantined:
    "It failed before, and is not fetched again until the metadata names another one or `maestro edge clear` is run.",
  not_kept: "The one before stays; make room where the state is kept.",
} as const;
export type RefusalCode = keyof typeof refusalAdvice;

export interface Refusal {
  readonly code: RefusalCode;
  /** What was seen, a sentence without its full stop. */
  readonly detail: string;
}

export const refusal = (code: RefusalCode, detail: string): Refusal => ({ code, detail });

export const refusalWords = ({ code, detail }: Refusal): string => `${detail}. ${refusalAdvice[code]}`;

/** Of this provider alone, whole, and other than its name says: it would be the same the next time. */
export const isMismatch = ({ code }: Refusal): boolean => code === "wrong_digest" || code === "wrong_length";

export type Read =
  | { readonly ok: true; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly ok: false; readonly refusal: Refusal };

export const refusedRead = (code: RefusalCode, detail: string): Read & { readonly ok: false } => ({
  ok: false,
  refusal: refusal(code, detail),
});
