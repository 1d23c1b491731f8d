/** What a transport that authenticates is given by whoever knows keys (`core/identity`), and knows nothing more of. */

/** The name that every listener's certificate has, whatever its host is called: who it is, its key says. */
export const SERVER_NAME = "shrinker.invalid";

export interface DialSecurity {
  /** The certificate (PEM) that the listener's chain has to lead to: the only one that is trusted. */
  readonly anchor: string;
  /** The name that the listener's certificate has to have. */
  readonly serverName: string;
}

export interface ListenSecurity {
  /** What to show from now on; asked when the listener starts, and again before `expires`. Rejects where there is none. */
  credentials(): Promise<Credentials>;
}

export interface Credentials {
  /** PEM, the listener's own first, then those that lead from it to keys of before. */
  readonly certificates: string;
  /** PEM (PKCS #8), of the first certificate. */
  readonly privateKey: string;
  /** When the first certificate ends to be valid. */
  readonly expires: Date;
}
