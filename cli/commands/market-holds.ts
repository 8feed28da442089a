// `maestro market freeze|unfreeze|pin|unpin|bar|unbar`: what a tenant keeps from moving, and what it will not have.

import type { Command } from "commander";
import { installArgument, leaf, packageArgument, versionArgument, type Act } from "../command.ts";
import { statusText } from "../package-status.ts";
import type { Session } from "../session.ts";
import type { PackageStatus } from "../../shared/contract/http-installs.ts";

export function holdCommands(market: Command, act: Act): void {
  for (const [name, frozen, summary] of [
    ["freeze", true, "keep a package's installs where they are; only a rollback moves them"],
    ["unfreeze", false, "let a package's installs move again"],
  ] as const) {
    leaf(market, name, {
      summary,
      examples: [
        `maestro market ${name} tools/sbom-inventory --reason "the audit of ${frozen ? "May" : "May is over"}"`,
      ],
    })
      .argument("<package>", "package name", packageArgument)
      .option("--reason <text>", "kept beside it", "")
      .action(act(freeze(frozen)));
  }
  for (const [name, pinned, summary] of [
    ["pin", true, "pin installs to the version that they have; upgrades leave them there"],
    ["unpin", false, "let upgrades move installs again"],
  ] as const) {
    leaf(market, name, {
      summary,
      examples: [
        `maestro market ${name} tools/sbom-inventory`,
        `maestro market ${name} tools/sbom-inventory --install site-a`,
      ],
    })
      .argument("<package>", "package name", packageArgument)
      .option("--install <name>", "this install only (default: all of them)", installArgument)
      .action(act(pin(pinned)));
  }
  for (const [name, barred, summary] of [
    ["bar", true, "bar a release for this tenant: nothing is installed from it or upgraded to it"],
    ["unbar", false, "lift a bar, also one of a rollback or of the health gate; people may, services may not"],
  ] as const) {
    leaf(market, name, {
      summary,
      examples: [
        `maestro market ${name} tools/sbom-inventory 1.1.0 --reason "${barred ? "fails on lockfiles of npm 12" : "it was the input"}"`,
      ],
    })
      .argument("<package>", "package name", packageArgument)
      .argument("<version>", "its version", versionArgument)
      .requiredOption("--reason <text>", "kept beside it")
      .action(act(bar(barred)));
  }
}

const freeze =
  (frozen: boolean) =>
  async (session: Session, name: string, { reason }: { reason: string }): Promise<void> =>
    tell(session, await (await session.api()).freeze({ package: name, frozen, reason }));

const pin =
  (pinned: boolean) =>
  async (session: Session, name: string, { install }: { install?: string }): Promise<void> =>
    tell(
      session,
      await (await session.api()).pin({ package: name, ...(install === undefined ? {} : { install }), pinned }),
    );

const bar =
  (barred: boolean) =>
  async (session: Session, name: string, version: string, { reason }: { reason: string }): Promise<void> =>
    tell(session, await (await session.api()).bar({ package: name, version, barred, reason }));

const tell = (session: Session, status: PackageStatus): void =>
  session.out.result(status, () => statusText(session, status));
