import type { TokenwellError } from './errors.js';

/** One thing that is wrong with a config. */
export interface Problem {
  /** The field, by its name in JSON; `renewal.early_seconds` inside one. */
  field: string;
  severity: 'error' | 'warning';
  /** What is wrong. */
  message: string;
  /** What to do about it. */
  mend: string;
}

/** What an authorization server said (RFC 6749 sections 4.1.2.1 and 5.2). */
export interface ServerError {
  /** `error`. */
  code: string;
  /** `error_description`, with `error_uri` where there is one. */
  description?: string | undefined;
  /** The HTTP status; absent where it came in a redirect. */
  httpStatus?: number | undefined;
}

/** A token that has not expired. */
export interface Token {
  readonly accessToken: string;
  /** Such as `Bearer` (RFC 6749 section 7.1). */
  readonly tokenType: string;
  /** When it expires by this machine's clock; absent: not known. */
  readonly expiresAt: Date | undefined;
  /** Until when it is handed out again without asking the component; absent: as long as no server refuses it. */
  readonly freshUntil: Date | undefined;
  /** The scopes granted. */
  readonly scope: readonly string[];
  /** Whether it can be renewed without the user. */
  readonly refreshable: boolean;
}

/** What a call can be given to be called off with. */
export interface CallOptions {
  /**
   * Ends the wait: the promise is rejected with the signal's reason. What has
   * been begun is finished behind it, so that a token that the server has
   * issued is stored and a refresh token not lost; `authorize` is ended in
   * earnest, its listener closed and a device code polled for no more.
   */
  signal?: AbortSignal | undefined;
}

/** How a connection is opened. */
export interface OpenOptions extends CallOptions {
  /**
   * URLs whose origins the connection's own requests may go to, beside those that its
   * config, its provider and its issuer's metadata name.
   */
  origins?: readonly (string | URL)[] | undefined;
}

/** What is asked of a token. */
export interface TokenOptions extends CallOptions {
  /** The least validity wanted, in seconds; a token with less is renewed first. */
  minValiditySeconds?: number | undefined;
  /**
   * The value of a token that a resource server has just refused. It is
   * renewed, unless it has been replaced meanwhile, or the server has just
   * given the same one again.
   */
  rejected?: string | undefined;
}

export type Prompt = 'none' | 'login' | 'consent' | 'select_account';

/** What is asked of an authorization, beside what the config says. */
export interface AuthorizationOptions extends CallOptions {
  /** The redirect URI of the listener in use. */
  redirectUri?: string | undefined;
  /** In place of the config's prompt. */
  prompt?: readonly Prompt[] | undefined;
  /** The user expected to sign in (OpenID Connect Core section 3.1.2.1). */
  loginHint?: string | undefined;
  /** Further parameters of this one request. */
  parameters?: Readonly<Record<string, string>> | undefined;
}

/** How to go about an authorization in one call. */
export interface AuthorizeOptions extends AuthorizationOptions {
  /** How long to wait for the user, in seconds; 300. */
  timeoutSeconds?: number | undefined;
  /** Show a device code in place of the browser (RFC 8628). */
  device?: boolean | undefined;
  /** Takes the URL for the user's browser, in place of the user agent. */
  onUrl?: ((url: string) => void | Promise<void>) | undefined;
  /** Shows the device code, in place of the user agent. */
  onDeviceCode?: ((device: DeviceAuthorization) => void | Promise<void>) | undefined;
}

/** An authorization under way. */
export interface PendingAuthorization {
  /** The URL for the user's browser. */
  authorizationUrl: string;
  /** The `state` that the response must bear. */
  state: string;
  /** Where the user is sent back to. */
  redirectUri: string;
  /** When it is too late. */
  expiresAt: Date;
  /** Until when the URL can be opened, where the server has said so of the request that was pushed to it (RFC 9126). */
  urlExpiresAt: Date | undefined;
}

/** What came back from the authorization endpoint. */
export type Redirect = { url: string | URL } | { formPost: string | URLSearchParams };

/** A device authorization under way (RFC 8628 section 3.2). */
export interface DeviceAuthorization {
  /** What the user types. */
  userCode: string;
  /** Where. */
  verificationUri: string;
  /** The same with the code in it. */
  verificationUriComplete: string | undefined;
  /** When it is too late. */
  expiresAt: Date;
  /** How long to wait between polls, in seconds. */
  intervalSeconds: number;
}

/** What a poll found. */
export type DevicePoll = { status: 'pending'; waitSeconds: number } | { status: 'authorized' };

export type RenewalReason =
  | 'authorization'
  | 'first-token'
  | 'expired'
  | 'early'
  | 'min-validity'
  | 'rejected'
  | 'requested'
  | 'config-changed';

/** Where a connection stands. */
export interface Status {
  /** `error`: the last attempt failed, as `error` says. */
  state: 'not-configured' | 'not-authorized' | 'authorized' | 'error';
  /** What the config lacks. */
  problems: readonly Problem[];
  error: TokenwellError | undefined;
  /** When the access token expires. */
  expiresAt: Date | undefined;
  /** Whether it can be renewed without the user. */
  refreshable: boolean;
  /** When the refresh token expires, where the server said so. */
  refreshExpiresAt: Date | undefined;
  /** The scopes granted. */
  scope: readonly string[];
  authorizedAt: Date | undefined;
  lastRenewal: { at: Date; reason: RenewalReason } | undefined;
  /** When a failed renewal is tried again. */
  nextRetryAt: Date | undefined;
  /** What works but should be otherwise. */
  warnings: readonly Problem[];
}

/** A field of a config as it takes effect. */
export interface ResolvedField {
  field: string;
  /** Its value, as JSON writes it; a secret as `***`. */
  value: string;
  origin: 'config' | 'provider' | 'metadata' | 'default';
}

/**
 * One thing that happened. Neither a secret nor a token is ever in one; a token
 * is told by eight hexadecimal digits of its SHA-256.
 */
export interface TokenwellEvent {
  at: Date;
  /** The connection it happened to. */
  connection: string;
  /** What, in one word of a list that grows: `authorized`, `renewed`, … (`event` in `wit/types.wit`). */
  kind: string;
  /** What, in one sentence. */
  message: string;
  details: Readonly<Record<string, string>>;
}

/** A provider of the catalogue, in one line. */
export interface ProviderSummary {
  id: string;
  name: string;
}

/** Everything the catalogue knows of a provider. */
export interface Provider extends ProviderSummary {
  parameters: readonly {
    name: string;
    help: string;
    /** The regular expression that a value must match in full. */
    pattern: string;
    required: boolean;
    default: string | undefined;
  }[];
  /** The fields of a config that it sets, with the provider's parameters in braces. */
  defaults: Readonly<Record<string, string>>;
  /**
   * Where the component sends because of it, by the names in its catalogue entry, such as `token_endpoint` and
   * `refresh_endpoint`, with its parameters in braces. `callback_servers`, the servers that a redirect may name, are
   * there once for each.
   */
  endpoints: readonly { name: string; value: string }[];
  /**
   * Which redirect URIs it accepts, where that is known: a loopback one with any port, those registered as they are,
   * port included, or `https` alone.
   */
  redirectUris: 'loopback' | 'exact' | 'https' | undefined;
  registrationPage: string | undefined;
  documentationPage: string | undefined;
  /** What is peculiar about it, a sentence each. */
  peculiarities: readonly string[];
}
