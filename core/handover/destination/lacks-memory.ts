import { type QmpClient, QmpTimeout } from "../../machines/qemu/qmp.ts";
import { migrationStatus } from "../../machines/qemu/status.ts";

/** For a QEMU that may wait for a page of its guest to say how far it is. */
const STATUS_MS = 1000;

/** Whether a guest has begun to go on by post-copy, and is not all there; undefined where QEMU can't be asked any more. */
export async function lacksMemory(qmp: QmpClient): Promise<boolean | undefined> {
  try {
    return (await migrationStatus(qmp, { timeout: STATUS_MS })).status.startsWith("postcopy");
  } catch (error) {
    // It waits for a page itself.
    return error instanceof QmpTimeout ? true : undefined;
  }
}
