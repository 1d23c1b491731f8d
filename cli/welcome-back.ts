import { acceptSession, type DestinationOptions } from "../core/engine/destination-session.ts";
import type { ResumableSessions } from "../core/engine/resumable.ts";
import { ShrinkerError } from "../core/errors.ts";
import type { Connection, Listener } from "../core/transport/transport.ts";
import { Strangers } from "../transports/strangers.ts";

/** Connections that are looked at together. */
const MAX_STRANGERS = 16;

/**
 * Takes connections that go on with the session that there is, and no others, until the listener is closed. Resolves when
 * all that came are dealt with.
 */
export async function welcomeBack(
  listener: Listener,
  options: DestinationOptions & { readonly resumables: ResumableSessions },
): Promise<void> {
  const admit = () => {
    throw new ShrinkerError("refused", "This receiver takes one session only: start another one");
  };
  const strangers = new Strangers<Connection>((connection) => void connection.destroy(), MAX_STRANGERS);
  const looking = new Set<Promise<void>>();
  for (let connection = await listener.accept(); connection; connection = await listener.accept()) {
    const stranger = connection;
    strangers.add(stranger);
    // It ends with an error in any case: it is refused, or belongs to the session that there is.
    const looked: Promise<void> = acceptSession(stranger, { ...options, admit })
      .then(
        () => {},
        () => {},
      )
      .then(() => {
        strangers.release(stranger);
        looking.delete(looked);
      });
    looking.add(looked);
  }
  await Promise.all(looking);
}
