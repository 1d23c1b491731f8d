/** Says a word to the other end. Rejects where the session has failed; during an outage it waits. */
export type Tell = (payload: Buffer) => Promise<void>;
