import { constants, promises as fs } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { fileError, isMissing, ShrinkerError } from "../errors.ts";
import { stampOf } from "../files/stamp.ts";
import { writeWhole } from "../files/whole.ts";
import { type AuthorizedPeer, parseAuthorizedPeers } from "./authorized-peers.ts";
import { type KnownPeers, parseKnownPeers } from "./known-peers.ts";
import { MAX_PEER_FILE } from "./peer-lines.ts";

/** Whether others could write it (group, all): then it would say nothing. */
const OTHERS_WRITE = 0o022;

/** A file of peers as text, and what tells whether it was changed. Undefined where there is none. */
export async function readPeerFile(path: string): Promise<{ text: string; stamp: string } | undefined> {
  try {
    await using handle = await fs.open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = await handle.stat({ bigint: true });
    if (!stat.isFile()) throw new ShrinkerError("input", `Cannot read "${path}": it is no file`);
    if ((Number(stat.mode) & OTHERS_WRITE) !== 0)
      throw new ShrinkerError("refused", `Others may change "${path}", which says whom to trust: chmod go-w "${path}"`);
    if (stat.size > MAX_PEER_FILE) throw new ShrinkerError("input", `Cannot read "${path}": it is bigger than 1 MiB`);
    const bytes = Buffer.alloc(Number(stat.size));
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, 0);
    return { text: bytes.toString("utf8", 0, bytesRead), stamp: stampOf(stat) };
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw fileError("Cannot read", path, error);
  }
}

/** Replaces a file of peers, in a folder that is made where it is missing. */
export async function writePeerFile(path: string, text: string): Promise<void> {
  const folder = dirname(path);
  await mkdir(folder, { recursive: true, mode: 0o700 }).catch((error) => {
    throw fileError("Cannot create", folder, error);
  });
  await writeWhole(path, [Buffer.from(text)]);
}

/** Empty where there is no such file. */
export async function loadKnownPeers(path: string): Promise<KnownPeers> {
  const file = await readPeerFile(path);
  return file ? parseKnownPeers(file.text, path) : new Map();
}

/** Who may dial, read again whenever the file was changed. */
export class AuthorizedPeers {
  readonly path: string;
  #stamp: string | undefined;
  #peers: ReadonlyMap<string, AuthorizedPeer> = new Map();

  constructor(path: string) {
    this.path = path;
  }

  /** Empty where there is no such file. Rejects for one that can't be read: then nobody may. */
  async current(): Promise<ReadonlyMap<string, AuthorizedPeer>> {
    const stat = await fs.stat(this.path, { bigint: true }).catch(() => undefined);
    if (stat && stampOf(stat) === this.#stamp) return this.#peers;
    const file = await readPeerFile(this.path);
    this.#stamp = undefined;
    this.#peers = file ? parseAuthorizedPeers(file.text, this.path) : new Map();
    this.#stamp = file?.stamp;
    return this.#peers;
  }
}
