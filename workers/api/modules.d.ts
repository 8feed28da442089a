// What the API worker uses of Node's modules, which workerd has; the Workers types do not declare them.

declare module "node:crypto" {
  interface Sha256 {
    update(data: Uint8Array): Sha256;
    digest(): Uint8Array;
  }
  const nodeCrypto: { createHash(algorithm: "sha256"): Sha256 };
  export default nodeCrypto;
}
declare module "node:zlib" {
  interface InflateRaw extends AsyncIterable<Uint8Array> {
    readonly bytesWritten: number;
    readonly destroyed: boolean;
    write(data: Uint8Array, done: () => void): boolean;
    end(): void;
    destroy(error?: Error): void;
    on(event: string, listener: () => void): void;
  }
  export function createInflateRaw(options: { chunkSize: number }): InflateRaw;
  export function crc32(data: Uint8Array, previous: number): number;
}
