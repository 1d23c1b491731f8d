import { mkdir } from "node:fs/promises";
import { fileError } from "../core/errors.ts";

/** Makes an output folder. Before anything arrives: contents are spooled in it from the first batch on. */
export async function makeFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true }).catch((error) => {
    const why = error?.code === "EEXIST" ? { code: "ENOTDIR" } : error;
    throw fileError("Cannot make the folder", path, why);
  });
}
