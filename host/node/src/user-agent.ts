import type { DeviceAuthorization } from './types.js';

type Awaitable<T> = T | Promise<T>;

/** How an authorization went, for the page that the user is left with. */
export type Outcome =
  | { status: 'authorized' }
  /** It is not, and the reason, free of secrets, says why. */
  | { status: 'failed'; reason: string }
  /** This was not the answer that is awaited; the reason says why. */
  | { status: 'refused'; reason: string };

/** A redirect that has arrived. The user's browser waits until `respond`. */
export interface Arrival {
  /** What came: the callback URL, whole, or the body of a form post. */
  readonly redirect: { url: string } | { formPost: string };
  /** Tells the user how it went, and returns when the browser has been told. Only the first call has an effect. */
  respond(outcome: Outcome): Awaitable<void>;
  /** Nobody will say how it went: tells the user so, unless `respond` was called. */
  drop(): void;
}

/** A listener for redirects (RFC 8252 section 7.3). */
export interface Listener {
  /** Where the user must be sent back to. */
  readonly redirectUri: string;
  /** Awaits the next redirect for at most so long; `undefined`: none came. */
  next(waitMs: number): Awaitable<Arrival | undefined>;
  close(): Awaitable<void>;
}

/** What reaches the user before the host. */
export interface UserAgent {
  /**
   * Opens a listener for the connection of that name: on the given redirect URI,
   * or else where the user agent likes.
   */
  listen(connection: string, redirectUri: string | undefined): Awaitable<Listener>;
  /** Opens a URL in the user's browser, or shows it. */
  openUrl(connection: string, url: string): Awaitable<void>;
  /** Shows a device code to the user (RFC 8628 section 3.3). */
  showDeviceCode(connection: string, device: DeviceAuthorization): Awaitable<void>;
}

/** Why the user's part could not be done. */
export class UserAgentError extends Error {
  override readonly name = 'UserAgentError';
  constructor(
    /** `denied`: the host does not allow it. `unavailable`: there is no browser, or no port to listen on. */
    readonly kind: 'denied' | 'unavailable',
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

/** The user agent of a host that has no user, such as a server. */
export const noUserAgent: UserAgent = {
  listen: refuse,
  openUrl: refuse,
  showDeviceCode: refuse,
};

function refuse(): never {
  throw new UserAgentError(
    'denied',
    'this host has no user agent; begin and complete the authorization in two steps',
  );
}
