// Mutants of good X.509-SVIDs: bytes that were flipped, cut or doubled, and certificates whose fields were changed and that their
// issuer signed again, so that a reader sees more of them than a broken signature.

import { concat, type Bytes } from "../../shared/contract/bytes.ts";
import { bitString, sequence } from "../../shared/identity/issue/der-writer.ts";
import { bytesOfTree, treeOf, type Node } from "./der.ts";
import { partsOf, signWith, type KeyPair } from "./svid.ts";

/** A number from 0 up to, but not including, `below`. */
export type Pick = (below: number) => number;

export interface Specimen {
  /** Leaf first. */
  readonly chain: readonly Bytes[];
  /** Who signed each certificate of the chain. */
  readonly signers: readonly KeyPair[];
}

const oneOf = <T>(pick: Pick, list: readonly T[]): T => list[pick(list.length)]!;

/** A chain that differs from the specimen's in one to three places; `others` lend their fields. */
export async function mutantOf(specimen: Specimen, others: readonly Specimen[], pick: Pick): Promise<Uint8Array[]> {
  const chain: Uint8Array[] = [...specimen.chain];
  const at = pick(chain.length);
  switch (pick(10)) {
    case 0:
      return chainMutant(chain, oneOf(pick, others), pick);
    case 1:
    case 2:
      chain[at] = bytesMutant(chain[at]!, pick);
      return chain;
    case 3:
      chain[at] = await rawBodyMutant(chain[at]!, specimen.signers[at]!, pick);
      return chain;
    default: {
      const lender = oneOf(pick, oneOf(pick, others).chain);
      chain[at] = await signedMutant(chain[at]!, specimen.signers[at]!, lender, pick);
      return chain;
    }
  }
}

function chainMutant(chain: readonly Uint8Array[], other: Specimen, pick: Pick): Uint8Array[] {
  const at = pick(chain.length);
  switch (pick(5)) {
    case 0:
      return chain.toSpliced(at, 1);
    case 1:
      return chain.toSpliced(at, 0, oneOf(pick, chain));
    case 2:
      return chain.toReversed();
    case 3:
      return [...chain, oneOf(pick, other.chain)];
    default:
      return chain.with(at, oneOf(pick, other.chain));
  }
}

function bytesMutant(der: Uint8Array, pick: Pick): Uint8Array {
  const at = pick(der.length);
  const end = Math.min(der.length, at + 1 + pick(8));
  switch (pick(7)) {
    case 0:
      return flipped(der, pick);
    case 1:
      return der.slice(0, at);
    case 2:
      return concat(der.subarray(0, end), der.subarray(at));
    case 3:
      return concat(der.subarray(0, at), der.subarray(end));
    case 4:
      return concat(der, der.subarray(at, end));
    case 5:
      return withByte(der, at, oneOf(pick, [0, 1, 0x7f, 0x80, 0x81, 0x82, 0xff]));
    default:
      return withByte(der, at, (der[at]! + oneOf(pick, [1, 255])) & 0xff);
  }
}

const withByte = (bytes: Uint8Array, at: number, value: number): Uint8Array => bytes.slice().fill(value, at, at + 1);

function flipped(bytes: Uint8Array, pick: Pick): Uint8Array {
  if (bytes.length === 0) return bytes;
  const at = pick(bytes.length);
  return withByte(bytes, at, bytes[at]! ^ (1 << pick(8)));
}

const signed = async (body: Uint8Array, identifier: Uint8Array, signer: KeyPair): Promise<Bytes> =>
  sequence(body, identifier, bitString(await signWith(signer, body)));

/** Bytes of the signed part are changed without regard to lengths, and the issuer signs what comes of it. */
async function rawBodyMutant(der: Uint8Array, signer: KeyPair, pick: Pick): Promise<Uint8Array> {
  const { body, identifier } = partsOf(der);
  return await signed(bytesMutant(body, pick), identifier, signer);
}

/** A node of the tree is changed, lengths are made right again, and the issuer signs it. */
async function signedMutant(der: Uint8Array, signer: KeyPair, lender: Uint8Array, pick: Pick): Promise<Uint8Array> {
  const { body, identifier } = partsOf(der);
  const tree = treeOf(body);
  const lent = everyList(treeOf(partsOf(lender).body)).flat();
  for (let change = 1 + pick(3); change > 0; change -= 1) changeOne(tree, lent, pick);
  const changed = bytesOfTree(tree);
  const own = pick(4) === 0 ? sameIdentifier(tree, identifier) : identifier;
  const written = pick(20) === 0 ? longLength(changed, pick) : changed;
  return await signed(written, own, signer);
}

/** The identifier inside, so that both are changed alike. */
function sameIdentifier(tree: readonly Node[], identifier: Uint8Array): Uint8Array {
  const inner = tree[0]?.parts?.[2];
  return inner === undefined ? identifier : bytesOfTree([inner]);
}

/** Lists of siblings, in the tree and below. */
function everyList(nodes: Node[]): Node[][] {
  return [nodes, ...nodes.flatMap(({ parts }) => (parts === null ? [] : everyList(parts)))];
}

const tags = [
  0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0c, 0x13, 0x14, 0x16, 0x17, 0x18, 0x1e, 0x30, 0x31, 0x80, 0x81, 0x82, 0x86,
  0x87, 0xa0, 0xa1, 0xa3, 0xa4,
];
/** `2.5.29.x`, which Go looks at, and some that it does not. */
const extensionEnds = [9, 14, 15, 17, 18, 19, 30, 31, 32, 33, 35, 36, 37, 54];
const texts = [
  "spiffe://td.example/api",
  "spiffe://td.example",
  "spiffe://td.example/",
  "spiffe://td.example/a/../b",
  "spiffe://td.example/a%2fb",
  "spiffe://td.example:443/api",
  "spiffe://user@td.example/api",
  "spiffe://td.example./api",
  "spiffe://td..example/api",
  "spiffe://TD.example/api",
  "SPIFFE://td.example/api",
  "spiffe://td.example/api?x",
  "spiffe://td.example/api#",
  "spiffe://td.example/é",
  "spiffe://other.example/api",
  "https://td.example/api",
  "td.example",
  ".example",
  "",
  "*.td.example",
  "260413160000Z",
  "2604131600Z",
  "20260413160000Z",
  "19500101000000Z",
  "491231235959Z",
  "99991231235959Z",
  "260413160000+0000",
];

function changeOne(tree: Node[], lent: readonly Node[], pick: Pick): void {
  const list = oneOf(pick, everyList(tree));
  if (list.length === 0) return;
  const at = pick(list.length);
  const node = list[at]!;
  switch (pick(12)) {
    case 0:
      list.splice(at, 1);
      return;
    case 1:
      list.splice(at, 0, structuredClone(node));
      return;
    case 2: {
      const other = pick(list.length);
      [list[at], list[other]] = [list[other]!, node];
      return;
    }
    case 3:
      list[at] = structuredClone(oneOf(pick, lent));
      return;
    case 4:
      list.splice(at, 0, structuredClone(oneOf(pick, lent)));
      return;
    case 5:
      node.tag = oneOf(pick, tags);
      return;
    case 6:
      node.tag ^= 1 << pick(8);
      return;
    case 7:
      setContents(node, new TextEncoder().encode(oneOf(pick, texts)));
      return;
    case 8:
      setContents(node, new Uint8Array([0x55, 0x1d, oneOf(pick, extensionEnds)]));
      return;
    case 9:
      setContents(
        node,
        oneOf(pick, [new Uint8Array(), new Uint8Array([0]), new Uint8Array([0xff]), new Uint8Array([1])]),
      );
      return;
    default: {
      const bytes = node.parts === null ? node.contents : bytesOfTree(node.parts);
      setContents(node, pick(2) === 0 ? flipped(bytes, pick) : bytesMutant(concat(bytes, new Uint8Array(1)), pick));
    }
  }
}

function setContents(node: Node, contents: Uint8Array): void {
  node.contents = contents;
  node.parts = null;
}

/** One short length is written in two bytes. What stands around it is made longer by as much where that is easy: at the end. */
function longLength(der: Uint8Array, pick: Pick): Uint8Array {
  const at = pick(der.length - 1);
  return concat(der.subarray(0, at + 1), new Uint8Array([0x81]), der.subarray(at + 1));
}
