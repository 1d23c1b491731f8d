import * as v from "valibot";
import { fileError, IntegrityError, systemCode } from "../errors.ts";
import { readSmall } from "../files/small.ts";
import { printable } from "../wire/bytes.ts";

/** Bytes of the largest journal that is read. */
const MAX_JOURNAL = 1 << 20;
/** Bytes that are shown of what is wrong with one. */
const MAX_REASON = 200;

/**
 * What one end has decided of a migration. At the source: `begun` (the guest is here), `given` (it is the destination's, or
 * nobody's until that is known) and `aborted` (it is here, and the destination may still have a copy). At the destination:
 * `prepared` (nothing is here yet), `loaded` (a paused copy), `taken` (the guest is here) and `lost` (the
 * copy has died, and never ran).
 */
const PHASES = {
  source: ["begun", "given", "aborted"],
  destination: ["prepared", "loaded", "taken", "lost"],
} as const;

const setting = v.union([v.boolean(), v.number(), v.string(), v.object({ integer: v.string() })]);
const time = v.pipe(
  v.string(),
  v.check((text) => !Number.isNaN(Date.parse(text)), "expected a time"),
);
const entrySchema = v.object({
  version: v.literal(1),
  id: v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/)),
  role: v.picklist(["source", "destination"]),
  phase: v.picklist([...PHASES.source, ...PHASES.destination]),
  /** The machine's. */
  name: v.string(),
  /** Path of its QEMU's QMP socket. */
  qmp: v.string(),
  /** Which socket that was (`socketIdentity`): another QEMU may have the path by now. */
  socket: v.string(),
  /** At the destination, the path of a socket at which that connection is to be had from the process that keeps it (`QmpKeeper`). */
  keeper: v.optional(v.string()),
  /** Of a QEMU that was started here. */
  pid: v.optional(v.number()),
  /** Whether the guest ran at the source; false at the destination. */
  ran: v.optional(v.boolean(), false),
  /** At the source, that QEMU may have been told to switch to post-copy; at the destination, that the guest came so, and may lack memory. */
  postcopy: v.optional(v.boolean()),
  /** Whether the guest is to run at the destination. */
  runs: v.boolean(),
  /** At the source, that QEMU may have begun to send the guest; at the destination, that the guest was let go on. */
  started: v.optional(v.boolean(), false),
  /** Where it goes: the address that the source dials. */
  to: v.optional(v.string()),
  /** Whether the source's QEMU is to stay, paused, once the guest has gone. */
  keepSource: v.optional(v.boolean()),
  /** What QEMU's settings were before. */
  settings: v.optional(
    v.object({ capabilities: v.record(v.string(), v.boolean()), parameters: v.record(v.string(), setting) }),
  ),
  /** ISO 8601. */
  began: time,
  changed: time,
});

/** What a journal says. */
export type JournalEntry = v.InferOutput<typeof entrySchema>;
/** What one begins with. */
export type NewEntry = Omit<v.InferInput<typeof entrySchema>, "version" | "began" | "changed">;

/** Undefined where there is none. Rejects with `integrity` for one that is damaged. */
export async function readEntry(path: string): Promise<JournalEntry | undefined> {
  let text: Buffer | undefined;
  try {
    text = await readSmall(path, MAX_JOURNAL);
  } catch (error) {
    if (systemCode(error) === "ENOENT") return undefined;
    throw fileError("Cannot read", path, error);
  }
  try {
    if (!text) throw new Error(`it has more than ${MAX_JOURNAL} bytes`);
    const entry = v.parse(entrySchema, JSON.parse(text.toString()));
    if (!(PHASES[entry.role] as readonly string[]).includes(entry.phase))
      throw new Error("its phase is of the other end");
    return entry;
  } catch (error) {
    const message = `The journal "${path}" is damaged: ${printable(Buffer.from((error as Error).message), MAX_REASON)}; see what runs where, then remove it`;
    throw new IntegrityError(message, { cause: error });
  }
}
