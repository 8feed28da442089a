// A bucket behind the S3 API (R2, S3, or what speaks like them), read only: one object, or the keys under a prefix. Requests are
// signed with AWS Signature Version 4 (aws4fetch). Called by log-readers.ts for `maestro audit verify --bucket`.
// https://developers.cloudflare.com/r2/api/s3/api/
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html

import { AwsV4Signer } from "aws4fetch";
import { Gathered } from "../shared/contract/gather.ts";
import { Failure } from "./failure.ts";
import type { Host } from "./host.ts";
import { backoffMs, interruptedFailure, isLoopback, whyUnreachable } from "./http.ts";

const attemptsMax = 5;
/** For one attempt, head and body. */
const answerWithinMs = 60_000;
const listingBytesMax = 8 * 1024 * 1024;
const errorBytesMax = 64 * 1024;
const keysAtOnce = 1_000;

export interface Bucket {
  /** As it was named, without credentials. */
  readonly url: string;
  /** Null where there is no such object. Throws Failure for everything else that is not the whole object. */
  get(key: string, bytesMax: number): Promise<Uint8Array<ArrayBuffer> | null>;
  /** Keys with this prefix in byte order, strictly after `after` where given. */
  keys(prefix: string, after: string | null): AsyncGenerator<string, void>;
  /** What stands before the first slash of each key. */
  folders(): Promise<string[]>;
}

interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  readonly region: string;
}

/** `https://host/bucket`: path-style, which every server has. */
export function parseBucketUrl(text: string): URL {
  const refuse = (why: string): Failure =>
    new Failure("usage", `--bucket ${why}`, {
      advice: "Give it as https://<account>.r2.cloudflarestorage.com/<bucket>",
    });
  if (!URL.canParse(text)) throw refuse("is not a URL");
  const url = new URL(text);
  if (url.username !== "" || url.password !== "") throw refuse("must not hold a user name or password");
  if (url.protocol !== "https:" && !(url.protocol === "http:" && isLoopback(url.hostname)))
    throw refuse("must begin with https://, or http:// on this machine");
  if (!/^\/[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\/?$/.test(url.pathname) || url.search !== "" || url.hash !== "")
    throw refuse("is a host and a bucket's name, nothing behind them");
  return url;
}

function credentialsOf({ env }: Host): Credentials {
  const [accessKeyId, secretAccessKey] = [env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]];
  if (!accessKeyId || !secretAccessKey) {
    throw new Failure("denied", "There are no credentials for the bucket", {
      advice: "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_REGION, where it is not R2).",
    });
  }
  const sessionToken = env["AWS_SESSION_TOKEN"];
  return {
    accessKeyId,
    secretAccessKey,
    ...(sessionToken ? { sessionToken } : {}),
    // R2's only region is called so.
    region: env["AWS_REGION"] || env["AWS_DEFAULT_REGION"] || "auto",
  };
}

export function openBucket(host: Host, url: URL): Bucket {
  const credentials = credentialsOf(host);
  const base = url.href.replace(/\/$/, "");
  const what = `The bucket ${base}`;

  async function get(address: string, bytesMax: number): Promise<Uint8Array<ArrayBuffer> | null> {
    for (let attempt = 1; ; attempt += 1) {
      const answer = await attemptOnce(address, bytesMax);
      if (!("mayPass" in answer)) return answer.bytes;
      if (attempt >= attemptsMax) throw new Failure("unavailable", `${what} cannot be read: ${answer.mayPass}`);
      try {
        await host.sleep(backoffMs(attempt, null), host.interrupted);
      } catch (error) {
        if (host.interrupted.aborted) throw interruptedFailure();
        throw error;
      }
    }
  }

  async function attemptOnce(
    address: string,
    bytesMax: number,
  ): Promise<{ readonly bytes: Uint8Array<ArrayBuffer> | null } | { readonly mayPass: string }> {
    const inTime = AbortSignal.timeout(answerWithinMs);
    try {
      const signed = await new AwsV4Signer({ ...credentials, url: address, service: "s3" }).sign();
      const response = await fetch(signed.url, {
        headers: signed.headers,
        signal: AbortSignal.any([host.interrupted, inTime]),
        // What is signed for one place is not carried to another.
        redirect: "manual",
      });
      const body = await readAtMost(response, response.ok ? bytesMax : errorBytesMax);
      if (response.ok) {
        const promised = response.headers.get("content-length");
        if (body === null) throw new Failure("failure", `${what} holds an object of more than ${bytesMax} bytes`);
        return promised === null || Number(promised) === body.length
          ? { bytes: body }
          : { mayPass: "an answer was cut off" };
      }
      return refusal(response, codeIn(body));
    } catch (error) {
      if (host.interrupted.aborted) throw interruptedFailure();
      if (error instanceof Failure) throw error;
      if (error instanceof TypeError || inTime.aborted) return { mayPass: whyUnreachable(error) };
      throw error;
    }
  }

  /** Only the code is repeated: what else such an answer says may hold the request's signature. */
  function refusal(response: Response, code: string | null): { readonly bytes: null } | { readonly mayPass: string } {
    const { status } = response;
    const said = code === null ? `${status}` : `${status} ${code}`;
    // Some servers have 404 for other things too (versitygw for an unknown access key), and those are no missing objects.
    if (status === 404 && (code === "NoSuchKey" || code === null)) return { bytes: null };
    if (code === "NoSuchBucket") throw new Failure("not_found", `${what} is not there`);
    if (status === 429 || status >= 500) return { mayPass: `it answers ${said}` };
    if (status === 401 || status === 403) {
      throw new Failure("denied", `${what} refuses these credentials (${said})`, {
        advice: "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, and this machine's clock.",
      });
    }
    if (status >= 300 && status < 400) {
      throw new Failure("failure", `${what} is somewhere else (${said}), and redirects are not followed`, {
        advice: "Name the endpoint of the bucket's own region, and that region as AWS_REGION.",
      });
    }
    throw new Failure("failure", `${what} refuses the request (${said})`);
  }

  async function list(query: Readonly<Record<string, string>>): Promise<string> {
    const address = new URL(base);
    address.search = new URLSearchParams({ "list-type": "2", ...query }).toString();
    const bytes = await get(address.href, listingBytesMax);
    if (bytes === null) throw new Failure("not_found", `${what} is not there`);
    const xml = new TextDecoder().decode(bytes);
    if (!/<ListBucketResult[\s>]/.test(xml)) throw new Failure("failure", `${what} does not answer like one of S3's`);
    return xml;
  }

  return {
    url: base,
    get: (key, bytesMax) => get(`${base}/${key}`, bytesMax),
    async *keys(prefix, after) {
      let last = after ?? "";
      let next: Readonly<Record<string, string>> | null = after === null ? {} : { "start-after": after };
      while (next !== null) {
        const xml = await list({ prefix, "max-keys": String(keysAtOnce), ...next });
        for (const key of textsOf(xml, "Key")) {
          // Else a server could keep us busy for ever.
          if (key <= last || !key.startsWith(prefix))
            throw new Failure("failure", `${what} lists its keys out of order`);
          last = key;
          yield key;
        }
        const [token] = textsOf(xml, "NextContinuationToken");
        next =
          textsOf(xml, "IsTruncated")[0] === "true" && token !== undefined ? { "continuation-token": token } : null;
      }
    },
    folders: async () =>
      textsOf(await list({ delimiter: "/" }), "Prefix").flatMap((prefix) =>
        prefix.endsWith("/") ? [prefix.slice(0, -1)] : [],
      ),
  };
}

/** Null where the body is larger. */
async function readAtMost(response: Response, bytesMax: number): Promise<Uint8Array<ArrayBuffer> | null> {
  const gathered = new Gathered();
  for await (const chunk of response.body ?? []) {
    if (gathered.length + chunk.length > bytesMax) return null;
    gathered.add(chunk);
  }
  return gathered.take();
}

function codeIn(body: Uint8Array | null): string | null {
  const [code] = body === null ? [] : textsOf(new TextDecoder().decode(body), "Code");
  return code !== undefined && /^[A-Za-z]{1,64}$/.test(code) ? code : null;
}

const entities: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

/** The texts of all elements of that name. S3's answers are flat: no attributes on them, no sections, no comments. */
function textsOf(xml: string, name: string): string[] {
  return [...xml.matchAll(new RegExp(`<${name}>([^<]*)</${name}>`, "g"))].map(([, text = ""]) =>
    text.replaceAll(
      /&(?:#(x?)([0-9a-fA-F]{1,6})|([a-z]{2,4}));/g,
      (all: string, x: string, digits: string, entity: string) => {
        if (entity !== undefined) return entities[entity] ?? all;
        const point = Number.parseInt(digits, x === "" ? 10 : 16);
        return point <= 0x10ffff ? String.fromCodePoint(point) : all;
      },
    ),
  );
}
