// The web standards that shared/ may use: what workerd, Node and Deno all have. Nothing else of a platform is in
// scope here, so the compiler refuses an environment, a timer, a clock through fetch, or a file in shared/.

interface CryptoKey {
  readonly algorithm: { readonly name: string };
  readonly extractable: boolean;
  readonly type: "public" | "private" | "secret";
  readonly usages: readonly string[];
}
interface CryptoKeyPair {
  readonly publicKey: CryptoKey;
  readonly privateKey: CryptoKey;
}
type KeyAlgorithm = string | { name: string; hash?: string; namedCurve?: string; saltLength?: number };
type Bytes = Uint8Array<ArrayBuffer>;
interface SubtleCrypto {
  digest(algorithm: "SHA-256", data: Bytes): Promise<ArrayBuffer>;
  sign(algorithm: KeyAlgorithm, key: CryptoKey, data: Bytes): Promise<ArrayBuffer>;
  verify(algorithm: KeyAlgorithm, key: CryptoKey, signature: Bytes, data: Bytes): Promise<boolean>;
  importKey(
    format: "raw" | "pkcs8" | "spki" | "jwk",
    data: Bytes | (Record<string, unknown> & { kty: string }),
    algorithm: KeyAlgorithm,
    extractable: boolean,
    usages: readonly string[],
  ): Promise<CryptoKey>;
  exportKey(format: "jwk", key: CryptoKey): Promise<Record<string, unknown>>;
  exportKey(format: "raw" | "pkcs8" | "spki", key: CryptoKey): Promise<ArrayBuffer>;
  generateKey(algorithm: KeyAlgorithm, extractable: boolean, usages: readonly string[]): Promise<CryptoKeyPair>;
  deriveKey(
    algorithm: { name: "HKDF"; hash: string; salt: Bytes; info: Bytes },
    key: CryptoKey,
    derived: { name: "AES-GCM"; length: number },
    extractable: boolean,
    usages: readonly string[],
  ): Promise<CryptoKey>;
  encrypt(algorithm: AesGcm, key: CryptoKey, data: Bytes): Promise<ArrayBuffer>;
  decrypt(algorithm: AesGcm, key: CryptoKey, data: Bytes): Promise<ArrayBuffer>;
}
interface AesGcm {
  readonly name: "AES-GCM";
  readonly iv: Bytes;
  readonly additionalData: Bytes;
}
declare const crypto: { readonly subtle: SubtleCrypto };
declare class TextEncoder {
  encode(text?: string): Uint8Array;
}
declare class TextDecoder {
  constructor(label?: string, options?: { fatal?: boolean; ignoreBOM?: boolean });
  decode(bytes?: Uint8Array): string;
}
declare class URL {
  constructor(url: string, base?: string);
  readonly protocol: string;
  readonly host: string;
  readonly hostname: string;
  readonly port: string;
  readonly pathname: string;
  readonly search: string;
  readonly hash: string;
  readonly username: string;
  readonly password: string;
  readonly origin: string;
  readonly href: string;
}
declare function atob(base64: string): string;
declare function btoa(binary: string): string;
