// What Node's permission model cannot do: cut a run off from the network, from Unix sockets, from other processes and
// from the sight of other files. Linux can, by namespaces and a root folder of the run's own, where the machine lets a
// user make them. Asked by `sandbox.ts`; the permission model stays on inside.
// https://man7.org/linux/man-pages/man7/user_namespaces.7.html

import { spawn } from "node:child_process";
import { access, constants, mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Isolation {
  /** `none`: the run has no network at all. `open`: this machine cannot take it away. */
  readonly network: "none" | "open";
  /** The program `unshare`, where it works here. */
  readonly unshare: string | null;
}

const places = ["/usr/bin/unshare", "/bin/unshare"];
const probeWithinMs = 5_000;

// --user: no privilege needed. --pid --fork: the run sees no other process. --kill-child: none outlives unshare.
const flags = ["--user", "--map-root-user", "--mount", "--net", "--pid", "--ipc", "--fork", "--kill-child"];

// The run's root: system libraries, Node, and the paths given, all read-only, on a file system that ends with the run.
// Arguments: unshare, the folder to mount on, then `from to` pairs up to `--`, then the working folder and the command.
const enter = `set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
unshare=$1 root=$2; shift 2
mount -t tmpfs -o size=64k,nr_inodes=64,mode=0755,nosuid,nodev tmpfs "$root"
show() {
  if [ -d "$1" ]; then mkdir -p "$root$2"; else mkdir -p "$root\${2%/*}"; : > "$root$2"; fi
  mount --rbind "$1" "$root$2"
  mount -o remount,bind,ro,nosuid,nodev "$root$2"
}
for part in /lib /lib64 /usr/lib /usr/lib64; do if [ -d "$part" ]; then show "$part" "$part"; fi; done
while [ "$1" != -- ]; do show "$1" "$2"; shift 2; done
folder=$2; shift 2
mount -o remount,bind,ro,nosuid,nodev "$root"
exec env -i "$unshare" --root="$root" --wd="$folder" "$@"`;

export interface Shown {
  /** On this machine. */
  readonly from: string;
  /** Inside. */
  readonly to: string;
}

/** `command` in a root folder that holds only `shown` (and system libraries). `root`: an empty folder to mount on. */
export const isolatedCommand = (
  unshare: string,
  root: string,
  shown: readonly Shown[],
  folder: string,
  command: readonly string[],
): string[] => [
  unshare,
  ...flags,
  "--",
  "/bin/sh",
  "-c",
  enter,
  "sh",
  unshare,
  root,
  ...shown.flatMap(({ from, to }) => [from, to]),
  "--",
  folder,
  ...command,
];

/** Tries it with a Node that does nothing. */
export async function findIsolation(): Promise<Isolation> {
  const open: Isolation = { network: "open", unshare: null };
  if (process.platform !== "linux") return open;
  const root = await realpath(await mkdtemp(join(tmpdir(), "maestro-probe-")));
  try {
    for (const unshare of places) {
      try {
        await access(unshare, constants.X_OK);
      } catch {
        continue; // not there: the next place
      }
      const node: Shown = { from: process.execPath, to: "/run/node" };
      if (await succeeds(isolatedCommand(unshare, root, [node], "/run", [node.to, "--version"]))) {
        return { network: "none", unshare };
      }
    }
    return open;
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

function succeeds([program = "", ...args]: readonly string[]): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      stdio: "ignore",
      env: {},
      cwd: "/",
      timeout: probeWithinMs,
      killSignal: "SIGKILL",
    });
    child.once("error", () => resolve(false));
    child.once("exit", (code) => resolve(code === 0));
  });
}
