// What bunny.ts has of its runtime beside web standards: the environment, as Node names it.

declare module "node:process" {
  const process: { readonly env: Readonly<Record<string, string | undefined>> };
  export default process;
}
