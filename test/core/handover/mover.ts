/** A process that moves a guest, as far as its guardian can tell: it holds the journal until it is killed. */
import { startGuardian } from "../../../cli/guarding.ts";
import { Journal } from "../../../core/handover/journal.ts";

const [state, id] = process.argv.slice(2) as [string, string];
const journal = await Journal.resume(state, { role: "source", id });
startGuardian(state, [id]);
console.log("moving");
// Its lock would end with it.
setInterval(() => void journal, 1000);
