// Whom to believe when a trust domain's bundle is fetched from its endpoint (SPIFFE Federation 5). Pure: a client connects and
// asks this who must be at the other end, where it may be redirected to, and whether an answer is one. Called by the routes of
// /api/identity and by the API's refresh of bundles.

import { checkedNow, refuse, type Checked } from "./refusal.ts";
import { spiffeIdOf, trustDomainOf, type SpiffeId, type TrustDomain } from "./spiffe-id.ts";
import type { TrustBundle } from "./trust-bundle.ts";
import { verifyX509Svid } from "./x509-svid.ts";

/** SPIFFE Federation 5.1: what an operator states. Nothing of it is ever taken from a bundle (7.2). */
export interface BundleEndpoint {
  readonly trustDomain: TrustDomain;
  readonly url: string;
  readonly profile: { readonly kind: "https_web" } | { readonly kind: "https_spiffe"; readonly serverId: SpiffeId };
}

/** Of one fetch; the next one begins at the configured URL again (5.2.1.4). */
export const redirectsMax = 3;

/** Shapes as an operator writes them: `serverId` for `https_spiffe`, and only there. */
export const parseBundleEndpoint = (
  trustDomain: string,
  url: string,
  profile: string,
  serverId: string | null,
): Checked<BundleEndpoint> =>
  checkedNow(() => {
    const known = { trustDomain: trustDomainOf(trustDomain), url: endpointUrl(url, null) };
    if (profile === "https_web") {
      if (serverId !== null) refuse("SPIFFE Federation 5.2.1.2", "an endpoint of the Web PKI has no SPIFFE ID");
      return { ...known, profile: { kind: profile } };
    }
    if (profile !== "https_spiffe") refuse("SPIFFE Federation 5.2", "a profile is https_web or https_spiffe");
    if (serverId === null) refuse("SPIFFE Federation 5.2.2.2", "the endpoint's SPIFFE ID is not stated");
    const id = spiffeIdOf(serverId);
    if (id.path === "") refuse("X509-SVID 3.1", "the endpoint's SPIFFE ID has no path, so that no server can have it");
    return { ...known, profile: { kind: profile, serverId: id } };
  });

/** SPIFFE Federation 5.2.1.1 and 5.2.2.1. `base`: what a relative one is relative to. */
function endpointUrl(text: string, base: string | null): string {
  // A URL's reader would pass over some of them: then it is one that nobody has seen written.
  // oxlint-disable-next-line no-control-regex
  if (/[\u0000-\u0020\u007f-\u00a0\\]/.test(text)) {
    refuse("SPIFFE Federation 5.2.1.1", "the endpoint's URL has a space, a backslash or a control character");
  }
  let url: URL;
  try {
    url = base === null ? new URL(text) : new URL(text, base);
  } catch {
    refuse("SPIFFE Federation 5.2.1.1", "the endpoint's URL is none");
  }
  if (url.protocol !== "https:") refuse("SPIFFE Federation 5.2.1.1", "the endpoint's URL is not https");
  if (url.username !== "" || url.password !== "") {
    refuse("SPIFFE Federation 5.2.1.1", "the endpoint's URL has userinfo");
  }
  return url.href;
}

/** Where a redirect leads. Who must be there does not change by it. `followed`: redirects of this fetch before it. */
export const redirectedTo = (from: string, location: string, followed: number): Checked<string> =>
  checkedNow(() => {
    if (followed >= redirectsMax) refuse("bounds", `a fetch follows at most ${redirectsMax} redirects`);
    return endpointUrl(location, from);
  });

/** The latest bundle of a trust domain, or null. */
export type BundleOf = (trustDomain: TrustDomain) => TrustBundle | null;

/**
 * For `https_spiffe`: whether the certificates of a server, the leaf first, are an SVID of the configured ID, under the latest
 * bundle of that ID's own trust domain (5.2.2.4). A self-serving endpoint is first believed by the bundle that an operator
 * gave. For `https_web` the client's TLS has checked the host, and there is nothing to ask here.
 */
export async function checkBundleServer(
  serverId: SpiffeId,
  chain: readonly Uint8Array[],
  bundleOf: BundleOf,
  now: number,
): Promise<Checked<SpiffeId>> {
  const bundle = bundleOf(serverId.trustDomain);
  const none = checkedNow(() =>
    bundle === null ? refuse("SPIFFE Federation 5.2.2.2", `there is no bundle of ${serverId.trustDomain} yet`) : bundle,
  );
  if (!none.ok) return none;
  const verified = await verifyX509Svid(chain, none.value, now);
  if (!verified.ok) return verified;
  const { id } = verified.value;
  return checkedNow(() =>
    id.uri === serverId.uri ? id : refuse("SPIFFE Federation 5.2.2.4", `the server is ${id.uri}, not ${serverId.uri}`),
  );
}
