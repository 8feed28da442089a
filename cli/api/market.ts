// The marketplace's public side as the CLI calls it: publisher keys, releases and their review, packages, channels,
// artifacts. Part of `cli/api.ts`.

import type { z } from "zod";
import type { SignedBundle } from "../../shared/contract/events.ts";
import {
  artifactBytesMax,
  channelList,
  channelPointer,
  packageList,
  publisherKey,
  release,
  releaseList,
  review,
  type ChannelPointer,
  type Release,
} from "../../shared/contract/http-market.ts";
import type { Channel } from "../../shared/contract/names.ts";
import { readBytes, send } from "../http.ts";
import { apiPath, type Client, type Page } from "./client.ts";

export const transferWithinMs = 120_000;

export type ReleaseChoice = { readonly version: string } | { readonly channel: Channel };
export type ReleasePage = z.infer<typeof releaseList>;
export type Review = z.infer<typeof review>;
export type PackagePage = z.infer<typeof packageList>;
export type ChannelMove = {
  readonly package: string;
  readonly channel: Channel;
  readonly version: string;
  readonly down: boolean;
};

export const marketApi = ({ wire, json }: Client) => ({
  addPublisherKey: (spki: string): Promise<z.infer<typeof publisherKey>> =>
    json({ method: "POST", path: "/api/market/publisher-keys", json: { spki }, idempotent: true }, publisherKey),
  publish: (artifact: Uint8Array<ArrayBuffer>, bundle: SignedBundle, draft: boolean): Promise<Release> =>
    json(
      {
        method: "POST",
        path: "/api/market/releases",
        bytes: { body: artifact, contentType: "application/gzip" },
        headers: {
          "maestro-release-bundle": Buffer.from(JSON.stringify(bundle)).toString("base64"),
          ...(draft ? { "maestro-release-draft": "true" } : {}),
        },
        idempotent: true,
        withinMs: transferWithinMs,
      },
      release,
    ),
  submit: (id: string): Promise<Release> =>
    json({ method: "POST", path: apiPath("market", "releases", id, "submit"), idempotent: true }, release),
  yank: (id: string, reason: string): Promise<Release> =>
    json(
      { method: "POST", path: apiPath("market", "releases", id, "yank"), json: { reason }, idempotent: true },
      release,
    ),
  release: (name: string, choice: ReleaseChoice): Promise<Release> =>
    json({ method: "GET", path: "/api/market/releases", query: { package: name, ...choice } }, release),
  releaseById: (id: string): Promise<Release> =>
    json({ method: "GET", path: apiPath("market", "releases", id) }, release),
  versions: (name: string, page: Page): Promise<ReleasePage> =>
    json({ method: "GET", path: "/api/market/versions", query: { package: name, ...page } }, releaseList),
  packages: (q: string | undefined, page: Page): Promise<PackagePage> =>
    json({ method: "GET", path: "/api/market/packages", query: { q, ...page } }, packageList),

  reviews: (page: Page): Promise<ReleasePage> =>
    json({ method: "GET", path: "/api/market/reviews", query: { ...page } }, releaseList),
  review: (id: string): Promise<Review> => json({ method: "GET", path: apiPath("market", "reviews", id) }, review),
  decideReview: (id: string, verdict: "approve" | "reject", reason: string): Promise<Release> =>
    json(
      { method: "POST", path: apiPath("market", "reviews", id, verdict), json: { reason }, idempotent: true },
      release,
    ),

  channels: async (name: string): Promise<readonly ChannelPointer[]> =>
    (await json({ method: "GET", path: "/api/market/channels", query: { package: name } }, channelList)).channels,
  moveChannel: (move: ChannelMove): Promise<ChannelPointer> =>
    json({ method: "POST", path: "/api/market/channels", json: move, idempotent: true }, channelPointer),

  artifact: (sha256: string): Promise<Uint8Array<ArrayBuffer>> =>
    send(
      wire,
      {
        method: "GET",
        path: apiPath("market", "artifacts", sha256),
        headers: { accept: "application/gzip, application/problem+json" },
        withinMs: transferWithinMs,
      },
      readBytes(artifactBytesMax),
    ),
});
