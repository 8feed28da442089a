// Bugs to be planted into the verifier: each check of each file that it consists of, taken out, one at a time. A verifier
// with such a bug is bundled from its sources and run. Used by shared/audit/verify-plants.test.ts.

import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";
import { scan } from "../../scripts/walls/imports.ts";
import type * as Gzipping from "../../shared/audit/gzip.ts";
import type * as Verifying from "../../shared/audit/verify.ts";

const project = join(import.meta.dirname, "..", "..");
// Inside of the project, so that the packages that the bundle imports are found.
const folder = join(project, "node_modules", ".cache", "maestro", `plants-${process.pid}`);

export interface Plant {
  readonly file: string;
  /** The check that is taken out, as it is written; with what it is a part of, where it is one of several. */
  readonly check: string;
  /** What the code does where the check fails. */
  readonly refusal: string;
  readonly source: string;
}

const files = [
  "shared/audit/verify.ts",
  "shared/audit/verify-segment.ts",
  "shared/audit/manifest.ts",
  "shared/audit/checkpoint.ts",
  "shared/audit/segment.ts",
  "shared/audit/leaf.ts",
  "shared/audit/gzip.ts",
  "shared/signing/bundle.ts",
  "shared/signing/published.ts",
] as const;

/** A statement that ends in a refusal. */
const refuses =
  /\bthrow (?!error\b)|\brefused\(|\bok: false\b|\breturn \{ reason|\breturn [`"]|\bfault = |\breturn (?:null|false);/;

/** Checks that are no `if`: the text, and what is there without the check. */
const others: readonly (readonly [file: string, from: string, to: string])[] = [
  ["shared/signing/canonical.ts", "JSON.stringify(value) === text && ", ""],
  ["shared/signing/canonical.ts", ' && !text.includes("\\\\ud")', ""],
  ["shared/signing/canonical.ts", " && isSortedCopy(value, read)", ""],
  ["shared/signing/canonical.ts", "(before !== null && name <= before) || ", ""],
  ["shared/signing/canonical.ts", " || !Object.hasOwn(read, name)", ""],
  ["shared/signing/canonical.ts", "return count === Object.keys(read).length;", "return true;"],
  ["shared/signing/canonical.ts", "return isTextOf(text, value) ? value : undefined;", "return value;"],
  ["shared/signing/published.ts", "time >= not_before && ", ""],
  ["shared/signing/published.ts", " && (not_after === undefined || time <= not_after)", ""],
  ["shared/audit/segment.ts", "bytesEqual(again, bytes) ? null", "true ? null"],
  [
    "shared/audit/segment.ts",
    "return bytesEqual(written(of, rows, comparing(bytes, gzip), writeColumns), bytes);",
    "written(of, rows, comparing(bytes, gzip), writeColumns); return true;",
  ],
  ["shared/audit/segment.ts", "metadataFault(metadata, of) ?? ", ""],
  ["shared/audit/leaf-pattern.ts", "if (token !== undefined && !accepts(token)) return null;", ""],
  ["shared/audit/segment.ts", " ?? pageFault(file, metadata, range, rowGroupRows)", ""],
  [
    "shared/audit/verify-segment.ts",
    "rows.fault === null && fault !== null ? await fileFault(of, bytes, fault, read.leaves, gzip) : null",
    "null",
  ],
  ["shared/audit/verify-segment.ts", '"reason" in found || otherColumn(of, row, found) !== null', '"reason" in found'],
  [
    "shared/audit/verify.ts",
    "options.remembered !== null && options.remembered.size > 0",
    "options.remembered !== null",
  ],
];

/** From `open` to the bracket that closes it. */
function closing(code: string, open: number): number {
  let depth = 0;
  for (let at = open; at < code.length; at += 1) {
    if ("([{".includes(code[at]!)) depth += 1;
    if (")]}".includes(code[at]!)) depth -= 1;
    if (depth === 0) return at;
  }
  throw new Error("a bracket is not closed");
}

/** Places of the operands of a disjunction, as pairs; one pair where it is none. */
function operands(code: string, from: number, to: number): [number, number][] {
  const found: [number, number][] = [];
  let start = from;
  for (let at = from; at < to; at += 1) {
    if ("([{".includes(code[at]!)) at = closing(code, at);
    else if (code.startsWith("||", at)) {
      found.push([start, at]);
      start = at + 2;
    }
  }
  return [...found, [start, to]];
}

function plantsIn(file: string): Plant[] {
  const source = readFileSync(join(project, file), "utf8");
  // Without texts and comments, place for place.
  const { code } = scan(source);
  return [...code.matchAll(/\bif \(/g)].flatMap(({ index }) => {
    const open = index + "if ".length;
    const close = closing(code, open);
    const then = close + 1 + code.slice(close + 1).search(/\S/);
    const end = code[then] === "{" ? closing(code, then) : code.indexOf(";", then);
    const refusal = source.slice(then, end + 1).replaceAll(/\s+/g, " ");
    if (!refuses.test(refusal)) return [];
    const parts = operands(code, open + 1, close);
    const wholes: [number, number][] = parts.length > 1 ? [[open + 1, close]] : [];
    return [...wholes, ...parts].map(([from, to]): Plant => {
      const words = (start: number, stop: number): string => source.slice(start, stop).trim().replaceAll(/\s+/g, " ");
      const check =
        parts.length > 1 && to - from < close - open - 1
          ? `${words(from, to)}, of ${words(open + 1, close)}`
          : words(from, to);
      return { file, check, refusal, source: `${source.slice(0, from)} false ${source.slice(to)}` };
    });
  });
}

export function allPlants(): Plant[] {
  return [
    ...files.flatMap(plantsIn),
    ...others.map(([file, from, to]): Plant => {
      const source = readFileSync(join(project, file), "utf8");
      if (source.split(from).length !== 2) throw new Error(`${file} does not hold once: ${from}`);
      return { file, check: from, refusal: "", source: source.replace(from, () => to) };
    }),
  ];
}

let count = 0;

interface Planted {
  readonly verifyLog: typeof Verifying.verifyLog;
  readonly gzipOver: typeof Gzipping.gzipOver;
}

/** The verifier with this bug in it. */
export async function verifierWith(plant: Plant | null): Promise<Planted> {
  mkdirSync(folder, { recursive: true });
  count += 1;
  const outfile = join(folder, `${count}.mjs`);
  await build({
    stdin: {
      contents: `export { verifyLog } from "./shared/audit/verify.ts";\nexport { gzipOver } from "./shared/audit/gzip.ts";`,
      resolveDir: project,
    },
    outfile,
    bundle: true,
    packages: "external",
    format: "esm",
    platform: "node",
    logLevel: "silent",
    plugins: [
      {
        name: "plant",
        setup: (bundling) =>
          bundling.onLoad({ filter: /\.ts$/ }, ({ path }) =>
            plant !== null && path === join(project, plant.file) ? { contents: plant.source, loader: "ts" } : undefined,
          ),
      },
    ],
  });
  return (await import(/* @vite-ignore */ pathToFileURL(outfile).href)) as Planted;
}

export const removePlants = (): void => rmSync(folder, { recursive: true, force: true });
