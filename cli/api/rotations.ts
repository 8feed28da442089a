// Rotations of signing keys as `maestro` calls them. Part of cli/api.ts.

import type { z } from "zod";
import {
  emergencyProposal,
  namedConsumer,
  rotation,
  rotationList,
  type EmergencyProposal,
  type NamedConsumer,
  type Rotated,
  type Rotation,
} from "../../shared/contract/http-rotations.ts";
import type { AuthorityName } from "../../shared/identity/authorities.ts";
import { apiPath as path, type Client } from "./client.ts";

export const rotationsApi = ({ json }: Client) => ({
  rotations: (): Promise<z.infer<typeof rotationList>> => json({ method: "GET", path: "/api/rotations" }, rotationList),
  rotation: (id: string): Promise<Rotation> => json({ method: "GET", path: path("rotations", id) }, rotation),
  startRotation: (rotated: Rotated): Promise<Rotation> =>
    json({ method: "POST", path: "/api/rotations", json: asked(rotated), idempotent: true }, rotation),
  acknowledgeRotation: (id: string, consumer: string, kids: readonly string[]): Promise<Rotation> =>
    json(
      { method: "POST", path: path("rotations", id, "acknowledgements"), json: { consumer, kids }, idempotent: true },
      rotation,
    ),
  /** `authorities`: of a trust domain, those that it is about; none: the server's choice. */
  proposeEmergency: (
    rotated: Rotated,
    reason: string,
    authorities: readonly AuthorityName[],
  ): Promise<EmergencyProposal> =>
    json(
      {
        method: "POST",
        path: path("rotations", "emergencies"),
        json: { ...asked(rotated), reason, ...(authorities.length === 0 ? {} : { authorities }) },
        idempotent: true,
      },
      emergencyProposal,
    ),
  stepRotation: (id: string, step: "resume" | "cancel"): Promise<Rotation> =>
    json({ method: "POST", path: path("rotations", id, step), idempotent: true }, rotation),
  /** `proposalSha256`: of what was read. */
  approveEmergency: (id: string, proposalSha256: string): Promise<Rotation> =>
    json(
      {
        method: "POST",
        path: path("rotations", id, "approve"),
        json: { proposal_sha256: proposalSha256 },
        idempotent: true,
      },
      rotation,
    ),
  addRotationConsumer: (rotated: Rotated, name: string): Promise<NamedConsumer> =>
    json({ method: "PUT", path: consumer(rotated, name), idempotent: true }, namedConsumer),
  removeRotationConsumer: (rotated: Rotated, name: string): Promise<NamedConsumer> =>
    json({ method: "DELETE", path: consumer(rotated, name), idempotent: true }, namedConsumer),
});

const asked = (rotated: Rotated): object => (rotated.trust_domain === null ? { kind: rotated.kind } : rotated);

const consumer = ({ kind, trust_domain: domain }: Rotated, name: string): string =>
  `${path("rotations", "consumers", kind, name)}${domain === null ? "" : `?trust_domain=${encodeURIComponent(domain)}`}`;
