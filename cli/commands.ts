import type { CommandSpec } from "./command.ts";
import { diff } from "./commands/diff.ts";
import { fake } from "./commands/fake.ts";
import { identity } from "./commands/identity.ts";
import { index } from "./commands/index.ts";
import { inspect } from "./commands/inspect.ts";
import { list } from "./commands/list.ts";
import { migrate } from "./commands/migrate.ts";
import { prune } from "./commands/prune.ts";
import { receive } from "./commands/receive.ts";
import { resolve } from "./commands/resolve.ts";
import { restore } from "./commands/restore.ts";
import { snapshot } from "./commands/snapshot.ts";
import { tunnel } from "./commands/tunnel.ts";
import { verify } from "./commands/verify.ts";

/** Every command, in the order of the help. A new one is its declaration in `commands/`, its action in this folder, and an entry here. */
export const commands: readonly CommandSpec[] = [
  migrate,
  receive,
  tunnel,
  identity,
  snapshot,
  restore,
  index,
  diff,
  list,
  verify,
  prune,
  resolve,
  inspect,
  fake,
];
