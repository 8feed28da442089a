// Why a package's archive is not accepted, thrown by the parts that read it (gunzip.ts, tar.ts) and answered by
// package-archive.ts as a value.

/** Its message is a clause about "it", the archive: "it holds a symlink", "its checksum is wrong". */
export class ArchiveRefusal extends Error {
  override readonly name = "ArchiveRefusal";
}

/** The bytes are not those of a whole, plain tar.gz. */
export const brokenArchive = (why: string): ArchiveRefusal => new ArchiveRefusal(`it is not a whole tar.gz (${why})`);
