/** A hand-over as a process that was killed leaves it: the journals, and what the VMs came to. */
import { Journal } from "../../../core/handover/journal.ts";
import type { FakeVm } from "../../../core/machines/fake/fake-vm.ts";
import { socketIdentity } from "../../../core/machines/qemu/socket-path.ts";
import { type Ends, TO } from "./ends.ts";

export const SOURCES = ["begun", "begun, sent", "aborted", "given", "given, dead"] as const;
export const COPIES = [
  "none",
  "prepared",
  "loaded",
  "loaded, dead",
  "lost",
  "taken",
  "taken, running",
  "taken, told",
  "taken, dead",
] as const;
export type SourceStage = (typeof SOURCES)[number];
export type CopyStage = (typeof COPIES)[number];

export const ID = "0123456789abcdef0123456789abcdef";

export interface Staged {
  readonly source: FakeVm;
  readonly copy: FakeVm;
  readonly sourceSocket: string;
  readonly copySocket: string;
}

/** @param paused whether the guest stood still before */
export async function stage(pair: Ends, at: SourceStage, there: CopyStage, paused = false): Promise<Staged> {
  const source = await pair.source({ paused });
  const copy = await pair.place();
  const sourceSocket = pair.path("source");
  const copySocket = pair.placeSocket();
  const sent = at !== "begun" && at !== "aborted";
  const arrives = there !== "none" && there !== "prepared";
  if (sent || arrives) await send(source, copy, pair.path("stream"));
  // What did not complete goes on at the source.
  if (!sent && arrives && !paused) source.parts.run.start();
  if (there === "taken, running" || there === "taken, told") copy.parts.run.start();

  if (there !== "none") {
    const journal = await Journal.create(pair.b, {
      ...{ id: ID, role: "destination", phase: "prepared", name: "web", qmp: copySocket, runs: !paused },
      socket: (await socketIdentity(copySocket))!,
    });
    const [phase] = there.split(",") as ["prepared" | "loaded" | "lost" | "taken"];
    await journal.update({ phase, started: there === "taken, told" });
    await journal.release();
  }
  const journal = await Journal.create(pair.a, {
    ...{ id: ID, role: "source", phase: "begun", name: "web", qmp: sourceSocket, to: TO, keepSource: false },
    ...{ ran: !paused, runs: !paused, socket: (await socketIdentity(sourceSocket))! },
  });
  const [phase] = at.split(",") as ["begun" | "aborted" | "given"];
  await journal.update({ phase, started: at !== "begun" });
  await journal.release();
  if (at.endsWith("dead")) source.parts.die();
  if (there.endsWith("dead") || there === "lost") copy.parts.die();
  return { source, copy, sourceSocket, copySocket };
}

/** Moves the guest from one VM to the other, as far as QEMU does it by itself. */
async function send(source: FakeVm, copy: FakeVm, path: string): Promise<void> {
  copy.parts.autostart = false;
  source.parts.capabilities.set([{ capability: "return-path", state: true }]);
  await copy.migrateIncoming({ type: "unix", path }, false);
  source.migrate({ type: "unix", path });
  while (source.parts.migration.status !== "completed") await new Promise((resolve) => setTimeout(resolve, 2));
}
