// The worker under test in test/workerd: the classes of the API's and the audit worker's scripts in one, with the
// bindings of both wrangler.toml files (vitest.config.ts merges them). It answers nothing itself.

export {
  EdgeHealth,
  Entitlements,
  KeyRotation,
  MeterService,
  OutboxDrain,
  PolicyPublisher,
  PqlMeter,
  PrivacyLedger,
} from "../../workers/api/index.ts";
export { AuditLog, AuditRing, AuditService, DisclosureGrants, LogAnchor } from "../../workers/audit/index.ts";
export { AuthorityService, ReleaseRing, SignerService, WorkerAuthority } from "../../workers/signer/index.ts";
export { DrainProbe } from "./drain-probe.ts";

export default {
  fetch: (): Response => new Response("no routes here", { status: 404 }),
} satisfies ExportedHandler;
