// Rotations of signing keys as `maestro` calls them. Part of cli/api.ts.

import type { z } from "zod";
import {
  emergencyProposal,
  namedConsumer,
  rotation,
  rotationList,
  type EmergencyProposal,
  type NamedConsumer,
  type Rotation,
  type RotationKind,
} from "../../shared/contract/http-rotations.ts";
import { apiPath as path, type Client } from "./client.ts";

export const rotationsApi = ({ json }: Client) => ({
  rotations: (): Promise<z.infer<typeof rotationList>> => json({ method: "GET", path: "/api/rotations" }, rotationList),
  rotation: (id: string): Promise<Rotation> => json({ method: "GET", path: path("rotations", id) }, rotation),
  startRotation: (kind: RotationKind): Promise<Rotation> =>
    json({ method: "POST", path: "/api/rotations", json: { kind }, idempotent: true }, rotation),
  acknowledgeRotation: (id: string, consumer: string, kids: readonly string[]): Promise<Rotation> =>
    json(
      { method: "POST", path: path("rotations", id, "acknowledgements"), json: { consumer, kids }, idempotent: true },
      rotation,
    ),
  proposeEmergency: (kind: RotationKind, reason: string): Promise<EmergencyProposal> =>
    json(
      { method: "POST", path: path("rotations", "emergencies"), json: { kind, reason }, idempotent: true },
      emergencyProposal,
    ),
  stepRotation: (id: string, step: "approve" | "resume"): Promise<Rotation> =>
    json({ method: "POST", path: path("rotations", id, step), idempotent: true }, rotation),
  addRotationConsumer: (kind: RotationKind, name: string): Promise<NamedConsumer> =>
    json({ method: "PUT", path: path("rotations", "consumers", kind, name), idempotent: true }, namedConsumer),
  removeRotationConsumer: (kind: RotationKind, name: string): Promise<NamedConsumer> =>
    json({ method: "DELETE", path: path("rotations", "consumers", kind, name), idempotent: true }, namedConsumer),
});
