import * as fs from "node:fs";
import { promisify } from "node:util";
import { abortReason, fileError, ShrinkerError } from "../core/errors.ts";
import type { Address, Connection, Transport } from "../core/transport/transport.ts";
import { onePeer } from "./accept.ts";
import { bundleReader } from "./bundle-reader.ts";
import { bundleWriter } from "./bundle-writer.ts";
import { openFifo, PIPE_PIECE } from "./fd.ts";
import { openTarget } from "./target.ts";

const FILE_PIECE = 512 * 1024;
const STDIN = 0;
const { O_RDONLY, O_NOCTTY } = fs.constants;

function bundlePath({ rest, text }: Address): string {
  if (rest === "" || rest.includes("\0"))
    throw new ShrinkerError("usage", `Cannot use "${text}": expected file:PATH, or file:- for a pipe`);
  return rest;
}

async function openBundle(path: string, peer: string, signal: AbortSignal): Promise<Connection> {
  if (path === "-") return { ...bundleReader("stdin", peer, STDIN, PIPE_PIECE, () => {}), padded: isDevice(STDIN) };
  let fd: number | undefined;
  try {
    const isFifo = fs.statSync(path).isFIFO();
    fd = isFifo ? await openFifo(path, O_RDONLY, signal) : await promisify(fs.open)(path, O_RDONLY | O_NOCTTY);
    if (signal.aborted) throw abortReason(signal);
    const opened = fd;
    if (fs.fstatSync(opened).isDirectory()) throw { code: "EISDIR" };
    const reader = bundleReader(path, peer, opened, isFifo ? PIPE_PIECE : FILE_PIECE, () => fs.closeSync(opened));
    return { ...reader, padded: isDevice(opened) };
  } catch (error) {
    if (fd !== undefined) fs.closeSync(fd);
    throw fileError("Cannot read", path, error);
  }
}

function isDevice(fd: number): boolean {
  const stats = fs.fstatSync(fd);
  return stats.isBlockDevice() || stats.isCharacterDevice();
}

/**
 * `file:PATH`, a bundle: what is dialled is written, what is listened to is read, later and elsewhere. `file:-` is
 * stdout or stdin; devices and FIFOs are used as they are.
 */
export const bundle: Transport = {
  scheme: "file",
  resumable: false,
  authenticates: false,
  async dial(address, { signal, force = false }) {
    if (signal.aborted) throw abortReason(signal);
    const path = bundlePath(address);
    return bundleWriter(path === "-" ? "stdout" : path, address.text, await openTarget(path, force, signal));
  },
  async listen(address, { signal }) {
    if (signal.aborted) throw abortReason(signal);
    return onePeer(address.text, await openBundle(bundlePath(address), address.text, signal), signal);
  },
};
