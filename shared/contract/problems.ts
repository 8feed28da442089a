// The one catalogue of errors (RFC 9457): code → status, title and what to do. Rooms throw `Problem`; the API door
// turns it into application/problem+json with the request id. Everything else that is thrown becomes `internal`.

export const problems = {
  malformed_json: [400, "The body is not JSON", "Send one JSON value as UTF-8."],
  not_utf8: [400, "The body is not UTF-8", "Encode the body as UTF-8, without NUL characters."],
  invalid_request: [
    400,
    "The request does not fit the contract",
    "Correct the fields named in `errors`; /openapi.json has the shapes.",
  ],
  idempotency_key_missing: [
    400,
    "Idempotency-Key is required",
    "Send an Idempotency-Key header of 1 to 255 visible ASCII characters, new for each intent.",
  ],
  idempotency_key_invalid: [400, "Idempotency-Key is not usable", "Send 1 to 255 visible ASCII characters."],
  pql_invalid: [
    400,
    "The PQL query cannot be run",
    "Correct the query at the line and column given; docs/pql has the language.",
  ],
  unauthenticated: [
    401,
    "Who are you?",
    "Send `Authorization: Bearer` with an API key or a token; `maestro login` gets one.",
  ],
  token_invalid: [401, "The token is not valid", "Get a new token with `maestro login`."],
  token_expired: [401, "The token has expired", "Get a new token with `maestro login`."],
  token_not_yet_valid: [
    401,
    "The token is not valid yet",
    "Check this machine's clock, or wait until the token's `nbf`.",
  ],
  token_audience: [
    401,
    "The token was issued for another audience",
    "Ask the issuer for a token whose `aud` is this API.",
  ],
  svid_invalid: [
    401,
    "The SVID is not believed",
    "`detail` names the rule that it breaks; get a new SVID, or have an admin look at the trust domain's bundle (`maestro identity domain list`).",
  ],
  svid_not_registered: [
    401,
    "The SPIFFE ID is nobody here",
    "Ask an admin of the tenant to register it: `maestro identity workload add`.",
  ],
  key_revoked: [401, "The API key was revoked", "Ask an admin of the tenant for a new key."],
  key_expired: [401, "The API key has expired", "Ask an admin of the tenant for a new key."],
  principal_disabled: [401, "The principal was disabled", "Ask an admin of the tenant."],
  role_too_low: [
    403,
    "Your role does not allow this",
    "Ask an admin of the tenant for one of the roles in `roles_allowed`.",
  ],
  svid_needed: [
    403,
    "This tenant's fetchers have SVIDs",
    "Call with the fetcher's SVID, as a client certificate or as a JWT-SVID; or have an admin switch the flag off for a while: `maestro flags set spiffe_everywhere off`.",
  ],
  denied: [403, "The policy denies this", "Apply the change in `fix`, or ask someone who may."],
  privacy_budget_exceeded: [
    403,
    "The privacy budget is spent",
    "Wait until enough of the budget has leaked back, or ask an admin to raise it.",
  ],
  not_found: [404, "There is no such thing here", "Check the id; things of other tenants look like missing ones."],
  not_acceptable: [
    406,
    "There is no answer in a format that you accept",
    "Send one of the types in `available` as `Accept`.",
  ],
  method_not_allowed: [405, "This path does not take that method", "See `allow` for the methods that it takes."],
  idempotency_conflict: [
    409,
    "This Idempotency-Key was used with another body",
    "Use a new key for a new intent, or send the first body again.",
  ],
  own_identity: [
    409,
    "Nobody erases themselves",
    "Ask another admin of the tenant: whoever erases a person has to be there to answer for it.",
  ],
  execution_not_running: [409, "The execution is not running", "A run finishes once; GET it to see how it ended."],
  execution_running: [409, "The execution is still running", "Finish it first; then ask for the link."],
  release_exists: [
    409,
    "This version was published already, with other bytes",
    "Publish under a new version: nothing under a version is ever rewritten.",
  ],
  release_state: [
    409,
    "The release is in another state",
    "See `state_now`; a draft is submitted, a release in review is approved or rejected, a published one is yanked.",
  ],
  channel_backwards: [
    409,
    "The channel points to a newer version",
    'Send `"down": true` if it should go back: everyone who follows it is offered the older version then.',
  ],
  change_state: [
    409,
    "The change is in another state",
    "See `state_now`; a change is proposed, approved by another principal, applied, and reverted.",
  ],
  change_superseded: [
    409,
    "The entitlements were changed again since",
    "A revert would undo the later change too: PUT the rows that you want.",
  ],
  nothing_to_upgrade: [
    409,
    "The installs are on a newer release",
    "An upgrade leads on only: to go back, roll back with `to_version`, or wait until the channel points further.",
  ],
  no_good_release: [
    409,
    "The channel's release is still being tried",
    "Install from another channel, or widen the rollout (`maestro market upgrade … --cohort 100`).",
  ],
  nothing_to_roll_back: [
    409,
    "No install can go back",
    "`unmoved` says why for each; give a version that an install had before, as `maestro market history` lists them.",
  ],
  release_gone: [
    409,
    "The release cannot be used any more",
    "Its artifact or a signature is missing or does not verify: choose another version.",
  ],
  too_many_installs: [
    409,
    "The package has as many installs as a tenant may have",
    "A tenant has at most `installs_max` installs of one package.",
  ],
  policy_root_missing: [
    409,
    "The tenant's policies have no root of trust",
    "An admin makes one on their own machine: `maestro policy root init`.",
  ],
  policy_keys_changed: [
    409,
    "The signer has keys that the root does not name",
    "An admin names them in the next root: `maestro policy root rotate`.",
  ],
  policy_version_taken: [
    409,
    "This revision was published already, with other bytes",
    "Give the bundle's .manifest another `revision`, sign it anew, and publish again.",
  ],
  policy_no_revision: [
    409,
    "The channel has no such revision to go back to",
    "`maestro policy list NAME` lists the revisions that a channel had.",
  ],
  policy_too_many: [
    409,
    "The tenant has as many policies as it may have",
    "Publish under a name that is there already.",
  ],
  edge_instance_taken: [
    409,
    "Another fetcher reports under this id",
    "Take a new id, and report again: two fetchers share a folder's copy, or an older copy was put back.",
  ],
  edge_fleet_full: [
    409,
    "The board of the fleet is full",
    "Have an operator forget instances that are gone (`maestro edge forget`); silent ones make room by themselves.",
  ],
  identity_full: [
    409,
    "The tenant has as many of these as it may have",
    "Take back what is not used any more: `maestro identity workload remove`, `maestro identity domain remove`.",
  ],
  trust_domain_taken: [
    409,
    "The trust domain is another tenant's",
    "State a trust domain of your own; IDs of a shared one are registered without stating it.",
  ],
  trust_domain_in_use: [
    409,
    "SPIFFE IDs of the trust domain are registered",
    "Remove them first: `maestro identity workload list` and `maestro identity workload remove`.",
  ],
  bundle_overtaken: [
    409,
    "The bundle was changed in between, again and again",
    "Look at the bundle in force (`maestro identity bundle show`), and hand yours in again if it is newer.",
  ],
  workload_taken: [
    409,
    "The SPIFFE ID is registered already",
    "A SPIFFE ID is one principal of one tenant: register another, or remove it where it is.",
  ],
  rotation_running: [
    409,
    "These keys are being rotated",
    "`maestro rotation list` shows how far it is and for whom it waits; it goes on by itself when that is there.",
  ],
  rotation_state: [
    409,
    "The rotation is not in the state for this",
    "See `detail`, and `maestro rotation show` for how far it is.",
  ],
  proposal_changed: [
    409,
    "What you approve is not what is proposed",
    "Read it as it stands now (`maestro rotation approve` shows it; `GET /api/rotations` has it under `proposals`), and, if it is right, approve it by its `proposal_sha256`.",
  ],
  rotation_consumers_max: [
    409,
    "These keys have as many consumers as they may have",
    "Remove one that is gone: `maestro rotation consumer remove`.",
  ],
  rotation_distrusts_max: [
    409,
    "This trust domain has as many distrusted authorities as it may have",
    "They are never believed again, and stay in the list: state a trust domain of another name (`maestro identity domain set`).",
  ],
  bucket_unavailable: [
    503,
    "The bucket of artifacts cannot be reached",
    "Try again after `Retry-After` seconds; nothing was changed.",
  ],
  package_busy: [
    503,
    "Others keep changing this package",
    "Try again after `Retry-After` seconds; nothing was changed.",
  ],
  version_conflict: [412, "Someone changed this in between", "GET it again, and send its ETag in If-Match."],
  too_large: [413, "The body is too large", "Send at most `bytes_max` bytes."],
  unsupported_media_type: [415, "This content type is not taken here", "Send one of the types in `accept`."],
  release_invalid: [
    422,
    "The release cannot be accepted",
    "Correct what `detail` names, sign again, and publish again.",
  ],
  policy_invalid: [422, "The bundle cannot be accepted", "Correct what `detail` names, sign again, and publish again."],
  trust_domain_invalid: [422, "The trust domain cannot be stated so", "Do what `detail` says, and send it again."],
  bundle_refused: [
    422,
    "The bundle is refused",
    "`detail` names the rule that it breaks; the bundle in force stays as it was.",
  ],
  workload_invalid: [422, "The SPIFFE ID cannot be registered", "Do what `detail` says."],
  policy_root_invalid: [422, "The root cannot be accepted", "Do what `detail` says, and send the root again."],
  precondition_required: [428, "If-Match is required", "GET it first, and send its ETag in If-Match."],
  link_invalid: [403, "The link is not valid", "Ask for a new link at the execution's disclosure:link."],
  link_expired: [410, "The link has expired", "Ask for a new link at the execution's disclosure:link."],
  link_used: [410, "The link is used up", "Ask for a new link at the execution's disclosure:link."],
  link_revoked: [410, "The link was revoked", "Ask whoever gave it to you."],
  link_audience: [
    403,
    "The link is for someone else",
    "Ask for a link of your own at the execution's disclosure:link.",
  ],
  too_many_rows: [422, "The answer would be too large", "Narrow the time range or add a predicate."],
  pql_too_expensive: [
    422,
    "The question would read too many rows",
    "Make one of `changes`: each says what it would read; `maestro pql --explain` shows the price of any question.",
  ],
  pql_rate_limited: [
    429,
    "The tenant has asked for more rows than it may for now",
    "Ask again after `Retry-After` seconds, or ask for less.",
  ],
  edge_reports_limited: [
    429,
    "This instance reports too often",
    "Report again after `Retry-After` seconds: the newest report says everything.",
  ],
  internal: [500, "Something broke on our side", "Try again; if it stays, report the request id."],
  database_unavailable: [
    503,
    "The database cannot be reached",
    "Try again after `Retry-After` seconds; nothing was changed, or your Idempotency-Key tells.",
  ],
  identity_busy: [
    503,
    "Too many SVIDs are looked at",
    "Try again after `Retry-After` seconds; an SVID that was verified here before is not held up.",
  ],
  issuer_unavailable: [
    503,
    "The token issuer cannot be reached",
    "Try again after `Retry-After` seconds, or use an API key.",
  ],
  worker_unavailable: [
    503,
    "A worker of the platform cannot be reached",
    "Try again after `Retry-After` seconds; nothing was done by the worker, or your Idempotency-Key tells.",
  ],
  meter_unavailable: [
    503,
    "What the question costs cannot be known now",
    "Try again after `Retry-After` seconds; nothing was read.",
  ],
  policy_unavailable: [
    503,
    "Policies cannot be published now",
    "Try again after `Retry-After` seconds; nothing was changed.",
  ],
  edge_board_unavailable: [
    503,
    "The board of the fleet cannot be reached",
    "Try again after `Retry-After` seconds; fetchers go on without it.",
  ],
  audit_unavailable: [503, "The audit log cannot be reached", "Try again after `Retry-After` seconds."],
  store_unavailable: [
    503,
    "This provider's store cannot be reached",
    "Ask the other provider, or try again after `Retry-After` seconds.",
  ],
  store_corrupt: [
    502,
    "This provider's store holds other bytes than their name says",
    "Ask the other provider; nothing of it was served.",
  ],
  metadata_expired: [
    503,
    "Nobody vouches for this provider's metadata any more",
    "Ask the other provider, or publish again: the timestamp was not signed anew in time.",
  ],
  fetcher_key_needed: [
    401,
    "This takes a fetcher's key or SVID",
    "Send `Authorization: Bearer` with a fetcher's key that is in use; an admin makes one: `maestro keys create --role fetcher --out fetcher.key`. Or with a JWT-SVID for the audience maestro-edge, of a SPIFFE ID that is registered as a fetcher. A new one is taken within seconds.",
  ],
  operator_key_needed: [
    401,
    "This takes the operator's key",
    "Send `Authorization: Bearer` with what EDGE_METRICS_KEY is set to.",
  ],
  api_unreachable: [502, "The API cannot be reached from here", "Try again, or ask the API by its own name."],
  forwarding_loop: [508, "The request came back to the edge", "Point the edge at the API's own name."],
} as const satisfies Record<string, readonly [status: number, title: string, action: string]>;

export type ProblemCode = keyof typeof problems;

/** Extra members of the problem document; `detail` is a public sentence written on purpose. */
export type ProblemMembers = Readonly<Record<string, unknown>>;

/** An expected refusal that reaches the caller as a problem document. */
export class Problem extends Error {
  override readonly name = "Problem";
  readonly code: ProblemCode;
  readonly detail: string;
  readonly members: ProblemMembers;

  constructor(code: ProblemCode, detail: string, members: ProblemMembers = {}) {
    super(`${code}: ${detail}`);
    this.code = code;
    this.detail = detail;
    this.members = members;
  }

  get status(): number {
    return problems[this.code][0];
  }
}

export interface ProblemDocument {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: ProblemCode;
  readonly action: string;
  readonly request_id: string;
  readonly [member: string]: unknown;
}

export function problemDocument(problem: Problem, requestId: string): ProblemDocument {
  const [status, title, action] = problems[problem.code];
  return {
    ...problem.members,
    type: `urn:maestro:problem:${problem.code}`,
    title,
    status,
    detail: problem.detail,
    code: problem.code,
    action,
    request_id: requestId,
  };
}
