import { readFileSync } from "node:fs";

/** This release, from the package's own description. */
export const version: string = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")).version;

/** How this end introduces itself to the other. */
export const software = `shrinker ${version}`;
