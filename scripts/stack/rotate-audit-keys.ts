// Gives a stack that is not running new audit keys: for checkpoints, statements and links. The public halves of the old ones
// are kept, to be published as retired, so that all that they signed goes on to verify. `npm start -- --rotate-audit-keys`.

import { join } from "node:path";
import { base64 } from "../../shared/contract/bytes.ts";
import type { PublishedKey } from "../../shared/contract/http-audit.ts";
import { importSigner, keyNotBefore, type KeyAlgorithmName } from "../../shared/signing/keys.ts";
import { loadSecrets, prepareStateFolder, privateKey, writePrivateJson, type Secrets } from "./state.ts";

interface AuditKey {
  readonly name: "CHECKPOINT_KEY" | "STATEMENT_KEY" | "LINK_KEY";
  readonly algorithm: KeyAlgorithmName;
  readonly uses: readonly PublishedKey["use"][];
}

const auditKeys: readonly AuditKey[] = [
  { name: "CHECKPOINT_KEY", algorithm: "Ed25519", uses: ["checkpoint"] },
  { name: "STATEMENT_KEY", algorithm: "P-256", uses: ["manifest", "receipt", "pack"] },
  { name: "LINK_KEY", algorithm: "P-256", uses: ["link"] },
];

/** The file with all of it is replaced at once. */
export async function rotateAuditKeys(folder: string, now: Date): Promise<void> {
  prepareStateFolder(folder);
  const secrets = await loadSecrets(folder);
  const retired: PublishedKey[] = [];
  const made: Partial<Record<AuditKey["name"], string>> = {};
  for (const { name, algorithm, uses } of auditKeys) {
    const text = secrets.worker_keys[name];
    const { kid, spki } = await importSigner(text, algorithm);
    const entry = {
      kid,
      algorithm: algorithm === "Ed25519" ? "Ed25519" : "ECDSA-P256-SHA256",
      spki: base64(spki),
      not_before: keyNotBefore(text),
      not_after: now.toISOString(),
    } as const;
    retired.push(...uses.map((use) => ({ ...entry, use })));
    made[name] = await privateKey(algorithm === "Ed25519" ? "Ed25519" : "ES256");
  }
  const rotated: Secrets = {
    ...secrets,
    worker_keys: { ...secrets.worker_keys, ...made },
    retired_keys: [...(secrets.retired_keys ?? []), ...retired],
  };
  writePrivateJson(join(folder, "secrets.json"), rotated);
}
