import type { LinkListener } from "../core/engine/link.ts";

export interface LinkState {
  /** Whether there is no connection at the moment. */
  readonly lost: boolean;
  readonly onLink: LinkListener;
}

/**
 * Follows whether a session has a connection, and tells when that changes.
 * @param note for people
 * @param event for `--json`
 */
export function followLink(note: (line: string) => void, event: (event: object) => void): LinkState {
  let since: number | undefined;
  return {
    get lost() {
      return since !== undefined;
    },
    onLink(state, reason) {
      const now = performance.now();
      if (state === "reconnecting") {
        since ??= now;
        note(`reconnecting: ${reason}`);
        event({ type: "link", state, reason });
      } else {
        const seconds = Math.round(now - (since ?? now)) / 1000;
        since = undefined;
        note(`connected again after ${seconds.toFixed(1)} s`);
        event({ type: "link", state, seconds });
      }
    },
  };
}
