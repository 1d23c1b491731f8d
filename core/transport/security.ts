import { ShrinkerError } from "../errors.ts";

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
  /** Whether the last ones are of a key that is not to be shown any more; asked whenever somebody comes. */
  outdated?(): Promise<boolean>;
}

export interface Credentials {
  /** PEM, the listener's own first, then those that lead from it to keys of before. */
  readonly certificates: string;
  /** PEM (PKCS #8), of the first certificate. */
  readonly privateKey: string;
  /** When the first certificate ends to be valid. */
  readonly expires: Date;
}

/** What remains of a certificate's life when the next one is asked for, of what it had: a third. */
const RENEW_AT = 1 / 3;

/**
 * Keeps a listener's credentials fresh: by looking at the clock whenever somebody comes, which neither a suspended machine
 * nor a clock that is set can outwit. While new ones can't be had, those of before are used to their end.
 * @param make what the transport makes of credentials, such as a TLS context
 * @param now for tests: the time in milliseconds since 1970
 * @returns gives what is to be used now; the first ones are made before it resolves, and it rejects where they can't be
 */
export async function renewed<T>(
  security: ListenSecurity,
  make: (credentials: Credentials) => T,
  now: () => number = Date.now,
): Promise<() => Promise<T>> {
  let made: T;
  let expires = 0;
  let renewAt = 0;
  let renewing: Promise<void> | undefined;
  async function renew(): Promise<void> {
    const credentials = await security.credentials();
    made = make(credentials);
    expires = credentials.expires.getTime();
    renewAt = expires - (expires - now()) * RENEW_AT;
  }
  await renew();
  return async () => {
    if (now() >= renewAt || (await security.outdated?.())) {
      renewing ??= renew().finally(() => {
        renewing = undefined;
      });
      await renewing.catch((error) => {
        if (now() >= expires) throw error;
      });
    }
    return made;
  };
}

/** For a transport that authenticates: throws `bug` for both, and `refused` where neither says whom to trust. */
export function requireSecurity(
  address: { readonly text: string },
  security: object | undefined,
  insecure: boolean,
): void {
  if (security !== undefined && insecure)
    throw new ShrinkerError("bug", `Was told to authenticate ${address.text}, and not to`);
  if (security !== undefined || insecure) return;
  const advice = "see `shrinker identity --help`, or pass --insecure on a network that you trust";
  throw new ShrinkerError("refused", `Refused to use ${address.text} without authentication: ${advice}`);
}

/** A listener could not prove to be the one that is expected. */
export class UntrustedPeerError extends ShrinkerError {
  /** The key that it says it has, as text; nothing proves that. */
  readonly claims: string | undefined;
  constructor(peer: string, claims?: string, options?: ErrorOptions) {
    const shown = claims === undefined ? "" : `; it claims to be ${claims}`;
    const advice = "check the key that is pinned, and the clocks of both machines";
    super("refused", `${peer} does not prove to be who was expected: ${advice}${shown}`, options);
    this.name = "UntrustedPeerError";
    this.claims = claims;
  }
}
