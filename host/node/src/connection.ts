import { inspect } from 'node:util';
import type { Call } from './bridge.js';
import { describe } from './config.js';
import type * as contract from './component/interfaces/tokenwell-oauth2-types.js';
import { refusedCookies } from './cookies.js';
import type { Egress } from './egress.js';
import {
  ForbiddenError,
  InvalidArgumentError,
  NotConfiguredError,
  StorageError,
  TokenwellError,
  UnavailableError,
  UnsupportedError,
} from './errors.js';
import {
  isAllowed,
  isPlainlyAllowed,
  urlOf,
  type HttpClient,
  type HttpResponse,
  type Identity,
  type Manner,
  type Sender,
} from './http-client.js';
import { checkText, SecretError } from './secrets.js';
import { CallContext, dateOf, deviceOf, eventOf } from './services.js';
import { checkLoaded, recordKey, type StoreError } from './store.js';
import { fromContract, text, urlText, type Core } from './core.js';
import type {
  AuthorizationOptions,
  AuthorizeOptions,
  CallOptions,
  DeviceAuthorization,
  DevicePoll,
  PendingAuthorization,
  Problem,
  Redirect,
  ResolvedField,
  Status,
  Token,
  TokenOptions,
  TokenwellEvent,
} from './types.js';
import { TrustEntry } from './trust.js';
import type { UserAgent } from './user-agent.js';

/** A token that may be handed out again while its entry has that version. */
interface Kept {
  token: contract.Token;
  version: bigint;
  /** When it was obtained, and until when it is fresh, in milliseconds since 1970. */
  from: number;
  until: number;
}

/**
 * A named connection. It holds its config and a token that is fresh; nothing is
 * lost when it is dropped, and any number may be open for the same name, in any
 * number of processes.
 */
export class Connection {
  readonly name: string;
  readonly #core: Core;
  readonly #config: contract.Config;
  readonly #key: string;
  readonly #egress: Egress;
  readonly #trust: TrustEntry;
  #kept: Kept | undefined;
  /** Calls of `token` that ask for the same are one. */
  readonly #asked = new Map<string, Promise<contract.Token>>();

  /** @internal */
  constructor(core: Core, name: string, config: contract.Config, egress: Egress) {
    this.#core = core;
    this.name = name;
    this.#config = config;
    this.#egress = egress;
    this.#key = recordKey(name);
    this.#trust = new TrustEntry(name, core.provided);
  }

  /** Everything that is wrong with the config, errors first. Sends nothing. */
  async check(options?: CallOptions): Promise<Problem[]> {
    const problems = (await this.#offline('check', [], options)) as Problem[];
    const message = this.#tlsRefusal();
    if (message === undefined) return problems;
    return [{ field: 'tls', severity: 'error', message, mend: 'have the host allow it, or leave it out' }, ...problems];
  }

  /** The config as it takes effect, every default filled in, the server's metadata (RFC 8414) included. */
  async resolve(options?: CallOptions): Promise<ResolvedField[]> {
    return (await this.#online('resolve', [], options)) as ResolvedField[];
  }

  /** Where the connection stands. Sends nothing. */
  async status(options?: CallOptions): Promise<Status> {
    return statusOf((await this.#offline('status', [], options)) as contract.Status);
  }

  /**
   * A token that has not expired, renewed first where needed.
   *
   * One that the component has called fresh is handed out again until then without
   * asking it, as long as the entry in the store is still the one that it came with:
   * each call looks. So one that anybody has cleared, renewed or authorized anew, in
   * this process or another, is not handed out again.
   */
  async token(options: TokenOptions = {}): Promise<Token> {
    const { signal, minValiditySeconds, rejected } = checkTokenOptions(options);
    signal?.throwIfAborted();
    const kept = this.#kept;
    if (kept !== undefined && fits(kept, minValiditySeconds, rejected) && (await this.#stands(kept))) {
      return tokenOf(kept.token);
    }
    const asked = { minValiditySeconds, rejected };
    const key = JSON.stringify([minValiditySeconds, rejected]);
    let shared = this.#asked.get(key);
    if (shared === undefined) {
      shared = this.#obtain('token', [asked]).finally(() => this.#asked.delete(key));
      this.#asked.set(key, shared);
    }
    return tokenOf(await abortable(shared, signal));
  }

  /** Renews the token now, whether or not it is due. */
  async refresh(options: CallOptions = {}): Promise<Token> {
    options.signal?.throwIfAborted();
    return tokenOf(await abortable(this.#obtain('refresh', []), options.signal));
  }

  /**
   * The headers that authorize one request: `Authorization`, and for a bound token
   * its `DPoP` proof (RFC 9449 section 7.1), which is for this method and URL and to
   * be sent once. `dpopNonce` is what the resource server asked for in its last
   * response.
   */
  async authorizationHeaders(
    method: string,
    url: string | URL,
    options: TokenOptions & { dpopNonce?: string | undefined } = {},
  ): Promise<Record<string, string>> {
    const { minValiditySeconds, rejected } = checkTokenOptions(options);
    const target = urlText('url', url);
    const args = [text('method', method), target, { minValiditySeconds, rejected }, options.dpopNonce];
    // Of a URL that no token may go to, the component says what is wrong with it.
    if (!this.#config.dpop && rejected === undefined && isPlainlyAllowed(target)) {
      const { tokenType, accessToken } = await this.token(options);
      // The registered types are written as the registry has them, whatever the server's case.
      if (tokenType.toLowerCase() === 'bearer') return { authorization: `Bearer ${accessToken}` };
    }
    const headers = (await this.#online('authorizationHeaders', args, options)) as contract.Parameter[];
    return Object.fromEntries(headers.map(({ name, value }) => [name.toLowerCase(), value]));
  }

  /**
   * `fetch` with the token. Where the answer is a 401 that says `invalid_token`
   * (RFC 6750 section 3.1), the token is renewed and the request sent once more, and
   * once more with the nonce that a resource server demands in DPoP proofs (RFC 9449
   * section 9); a body that is a stream can be sent only once, and is. Redirects are
   * not followed, since a token is for the server it was meant for: the response is
   * handed out as it is.
   */
  async fetch(input: string | URL | globalThis.Request, init: RequestInit = {}): Promise<Response> {
    if (init.redirect === 'follow') {
      throw new InvalidArgumentError('init.redirect', 'is `follow`, and redirects are not followed with a token');
    }
    if (this.#config.clientCertificate !== undefined) {
      throw new UnsupportedError(
        'a connection with a client certificate: send the request with a client that shows it, and `authorizationHeaders`',
      );
    }
    const first = new Request(input, { ...init, redirect: init.redirect ?? 'manual' });
    const url = new URL(first.url);
    if (!isAllowed(url)) throw new ForbiddenError('the URL is neither https nor on the loopback interface');
    const isOnce = init.body instanceof ReadableStream || (init.body == null && first.body !== null);

    let request = first;
    let rejected: string | undefined;
    let dpopNonce: string | undefined;
    for (;;) {
      const again = isOnce ? undefined : request.clone();
      const { signal } = init;
      const headers = await this.authorizationHeaders(request.method, url.href.split('#')[0] as string, {
        signal: signal ?? undefined,
        rejected,
        dpopNonce,
      });
      for (const [name, value] of Object.entries(headers)) request.headers.set(name, value);
      const response = await fetch(request);
      if (response.status !== 401 || again === undefined) return response;
      const nonce = response.headers.get('dpop-nonce');
      if (nonce !== null && dpopNonce === undefined) {
        dpopNonce = nonce;
      } else if (saysInvalidToken(response) && rejected === undefined) {
        rejected = headers.authorization?.slice(headers.authorization.indexOf(' ') + 1);
      } else {
        return response;
      }
      await response.body?.cancel();
      request = again;
    }
  }

  /** The token endpoint's last successful response, whole. */
  async response(options?: CallOptions): Promise<Record<string, unknown>> {
    return JSON.parse((await this.#offline('responseJson', [], options)) as string) as Record<string, unknown>;
  }

  /**
   * Authorizes the connection: opens the listener and the browser, awaits the
   * redirect, obtains the token, and tells the user how it went. A grant that needs
   * no user is run.
   */
  async authorize(options: AuthorizeOptions = {}): Promise<Status> {
    const { timeoutSeconds, device, signal } = options;
    checkSeconds('options.timeoutSeconds', timeoutSeconds);
    if (device !== undefined && typeof device !== 'boolean') {
      throw new InvalidArgumentError('options.device', `is ${describe(device)}, and must be a boolean`);
    }
    const asked = { authorization: authorizationOf(options), timeoutSeconds, device: device === true };
    const http = await this.#http();
    const context = new CallContext(this.#core.provided, http, withCallbacks(this.#core.provided.userAgent, options));
    const call = this.#call('authorize', [asked], 'interactive');
    await this.#core.call(call, context, { signal, waitsForUser: true });
    return this.status({ signal });
  }

  /** Begins an authorization: the URL is for the user's browser. Any process that shares the store can complete it. */
  async beginAuthorization(options: AuthorizationOptions = {}): Promise<PendingAuthorization> {
    const asked = authorizationOf(options);
    const pending = (await this.#online('beginAuthorization', [asked], options)) as contract.PendingAuthorization;
    const { expiresAt, urlExpiresAt } = pending;
    const given: PendingAuthorization = {
      ...pending,
      expiresAt: dateOf(expiresAt),
      urlExpiresAt: urlExpiresAt === undefined ? undefined : dateOf(urlExpiresAt),
    };
    return Object.defineProperty(given, inspect.custom, PRINTED_PENDING);
  }

  /**
   * Completes an authorization with what came back. A redirect that is not the answer
   * to one begun here is refused, and what was begun stays.
   */
  async completeAuthorization(redirect: Redirect, options?: CallOptions): Promise<Status> {
    await this.#online('completeAuthorization', [redirectOf(redirect)], options);
    return this.status(options);
  }

  /** Begins a device authorization (RFC 8628 section 3.1), in place of one under way. */
  async beginDeviceAuthorization(options?: CallOptions): Promise<DeviceAuthorization> {
    return deviceOf((await this.#online('beginDeviceAuthorization', [], options)) as contract.DeviceAuthorization);
  }

  /** Asks once whether the user has decided (RFC 8628 section 3.4); where that is too soon, nothing is sent. */
  async pollDeviceAuthorization(options?: CallOptions): Promise<DevicePoll> {
    const poll = (await this.#online('pollDeviceAuthorization', [], options)) as contract.DevicePoll;
    return poll.tag === 'authorized' ? { status: 'authorized' } : { status: 'pending', waitSeconds: poll.val };
  }

  /** Forgets the credential. The config is yours and stays. */
  async clear(options?: CallOptions): Promise<void> {
    await this.#offline('clear', [], options);
  }

  /**
   * Forgets how servers were first met (`tls: trust`), the certificates that were
   * imported with it, so that each is met anew.
   */
  async clearTrust(): Promise<void> {
    try {
      await this.#trust.clear();
    } catch (error) {
      const { kind, message } = error as StoreError;
      throw new StorageError(message, { storage: kind === 'corrupt' ? kind : 'unavailable', cause: error });
    }
  }

  /** Revokes the credential at the server (RFC 7009), then clears it. */
  async revoke(options?: CallOptions): Promise<void> {
    await this.#online('revoke', [], options);
  }

  /** What the server knows of the access token (RFC 7662). */
  async introspect(options?: CallOptions): Promise<Record<string, unknown>> {
    return JSON.parse((await this.#online('introspect', [], options)) as string) as Record<string, unknown>;
  }

  /** The user's claims (OpenID Connect Core section 5.3). */
  async userinfo(options?: CallOptions): Promise<Record<string, unknown>> {
    return JSON.parse((await this.#online('userinfo', [], options)) as string) as Record<string, unknown>;
  }

  /** What has happened to the connection, the latest last. */
  async history(options?: CallOptions): Promise<TokenwellEvent[]> {
    return ((await this.#offline('history', [], options)) as unknown[]).map(eventOf);
  }

  /** Seals the stored records anew under the host's current key. */
  async reseal(options?: CallOptions): Promise<void> {
    await this.#offline('reseal', [], options);
  }

  #call(method: string, args: unknown[], target: Call['target'] = 'connection'): Call {
    return { target, method, args, connection: { name: this.name, config: this.#config } };
  }

  /** A call that sends nothing. */
  #offline(method: string, args: unknown[], options: CallOptions | undefined): Promise<unknown> {
    const context = new CallContext(this.#core.provided, this.#within(this.#core.http()));
    return this.#core.call(this.#call(method, args), context, { signal: options?.signal });
  }

  /** A call that may send something. */
  async #online(method: string, args: unknown[], options: CallOptions | undefined): Promise<unknown> {
    options?.signal?.throwIfAborted();
    const context = new CallContext(this.#core.provided, await this.#http());
    return this.#core.call(this.#call(method, args), context, { signal: options?.signal });
  }

  async #obtain(method: string, args: unknown[]): Promise<contract.Token> {
    const context = new CallContext(this.#core.provided, await this.#http());
    const from = Date.now();
    const token = (await this.#core.call(this.#call(method, args), context)) as contract.Token;
    const version = context.versions.get(this.#key);
    const until = token.freshUntil === undefined ? Infinity : Number(token.freshUntil) * 1000;
    this.#kept = version === undefined ? undefined : { token, version, from, until };
    return token;
  }

  /** Whether the entry that a token came with is still the one in the store. */
  async #stands({ version }: Kept): Promise<boolean> {
    const { store } = this.#core.provided;
    if (store.isCurrent !== undefined) {
      try {
        return store.isCurrent(this.#key, version) === true;
      } catch {
        // The component is told in its turn.
        return false;
      }
    }
    return this.#isUnchanged(version);
  }

  async #isUnchanged(version: bigint): Promise<boolean> {
    const { store, hostTimeoutMs } = this.#core.provided;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), hostTimeoutMs);
    });
    try {
      const asked = (async () => checkLoaded(await store.load(this.#key, version)))();
      const loaded = await Promise.race([asked, late]);
      return loaded === 'unchanged' || (loaded !== undefined && loaded.version === version);
    } catch {
      return false;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Why the host does not allow the config's `tls`; absent: it does. */
  #tlsRefusal(): string | undefined {
    const { tls } = this.#config;
    const isRefused = tls === 'off' || (tls === 'trust' && !this.#core.provided.tlsTrust);
    return isRefused ? `\`tls: ${tls}\` is not allowed by this host` : undefined;
  }

  /** What the connection sends through: with its client certificate, where it has one (RFC 8705). */
  async #http(): Promise<Sender> {
    const { tls, clientCertificate, clientCertificateKey } = this.#config;
    const refusal = this.#tlsRefusal();
    if (refusal !== undefined) throw new ForbiddenError(refusal);
    const manner: Manner = tls === 'trust' ? { trust: { connection: this.name, entry: this.#trust } } : {};
    if (clientCertificate === undefined || clientCertificateKey === undefined) return this.#within(this.#core.http(manner));
    const identity: Identity = {
      certificate: await this.#pem('client_certificate', clientCertificate, /-----BEGIN CERTIFICATE-----/),
      key: await this.#pem('client_certificate_key', clientCertificateKey, /-----BEGIN (?:RSA |EC )?PRIVATE KEY-----/),
    };
    try {
      return this.#within(this.#core.http({ ...manner, identity }));
    } catch (error) {
      // Its text is OpenSSL's and shows nothing of the key.
      throw pemProblem('client_certificate_key', error instanceof Error ? error.message : 'does not fit');
    }
  }

  /** A client for the connection's own requests: they go no further than they may, and cookies are told of. */
  #within(client: HttpClient): Sender {
    const tellOfCookies = (url: URL, response: HttpResponse) => {
      for (const event of refusedCookies(this.name, url, response)) this.#core.provided.emit(event);
      return response;
    };
    return {
      send: (request) => {
        const { response, cancel } = this.#egress.send(client, request);
        const url = urlOf(request);
        if (this.#config.ignoreCookiePolicy || url === undefined) return { response, cancel };
        return { response: response.then((answer) => tellOfCookies(url, answer)), cancel };
      },
    };
  }

  async #pem(field: string, reference: string, form: RegExp): Promise<string> {
    let pem: string;
    try {
      pem = checkText('resolve', await this.#core.provided.secrets.resolve(reference));
    } catch (error) {
      const why = error instanceof Error ? error.message : describe(error);
      switch (error instanceof SecretError ? error.kind : 'unavailable') {
        case 'not-found':
          throw pemProblem(field, why);
        case 'denied':
          throw new ForbiddenError(why, { cause: error });
        case 'unsupported':
          throw new UnsupportedError(why, { cause: error });
        case 'unavailable':
          throw new UnavailableError(why, { cause: error });
      }
    }
    if (!form.test(pem)) throw pemProblem(field, 'is no PEM of that kind');
    return pem;
  }
}

function pemProblem(field: string, message: string): TokenwellError {
  const problem = { field, severity: 'error' as const, message, mend: 'name a PEM file that the host can read' };
  return new NotConfiguredError(`${field}: ${message}`, { problems: [problem] });
}

/** Whether a kept token does for what is asked. */
function fits(kept: Kept, minValiditySeconds: number | undefined, rejected: string | undefined): boolean {
  const now = Date.now();
  // By a clock that has been set back, nothing is known of a token from the future.
  if (now < kept.from || now >= kept.until) return false;
  if (kept.token.accessToken === rejected) return false;
  if (minValiditySeconds === undefined || kept.token.expiresAt === undefined) return true;
  return Number(kept.token.expiresAt) * 1000 - now > minValiditySeconds * 1000;
}

function tokenOf({ accessToken, tokenType, expiresAt, freshUntil, scope, refreshable }: contract.Token): Token {
  const token: Token = {
    accessToken,
    tokenType,
    expiresAt: expiresAt === undefined ? undefined : dateOf(expiresAt),
    freshUntil: freshUntil === undefined ? undefined : dateOf(freshUntil),
    scope: [...scope],
    refreshable,
  };
  return Object.defineProperty(token, inspect.custom, PRINTED_TOKEN);
}

// What prints an object, such as `console.log`, is not to show its secrets. Not being
// enumerable, it is in no copy and no comparison.
const PRINTED_TOKEN: PropertyDescriptor = {
  value(this: Token): Token {
    return { ...this, accessToken: '***' };
  },
};
const PRINTED_PENDING: PropertyDescriptor = {
  value(this: PendingAuthorization): PendingAuthorization {
    return { ...this, authorizationUrl: '***', state: '***' };
  },
};

function statusOf(status: contract.Status): Status {
  const { state, lastRenewal } = status;
  const date = (seconds: bigint | undefined) => (seconds === undefined ? undefined : dateOf(seconds));
  return {
    state: state.tag,
    problems: state.tag === 'not-configured' ? state.val : [],
    error: state.tag === 'error' ? fromContract(state.val) : undefined,
    expiresAt: date(status.expiresAt),
    refreshable: status.refreshable,
    refreshExpiresAt: date(status.refreshExpiresAt),
    scope: status.scope,
    authorizedAt: date(status.authorizedAt),
    lastRenewal: lastRenewal && { at: dateOf(lastRenewal.at), reason: lastRenewal.reason },
    nextRetryAt: date(status.nextRetryAt),
    warnings: status.warnings,
  };
}

/** Waits no longer than the signal allows. */
function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason as Error);
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}

function checkTokenOptions(options: TokenOptions): TokenOptions {
  if (typeof options !== 'object' || options === null) {
    throw new InvalidArgumentError('options', `is ${describe(options)}, and must be an object`);
  }
  checkSeconds('options.minValiditySeconds', options.minValiditySeconds);
  if (options.rejected !== undefined) text('options.rejected', options.rejected);
  if (options.signal !== undefined && !(options.signal instanceof AbortSignal)) {
    throw new InvalidArgumentError('options.signal', `is ${describe(options.signal)}, and must be an AbortSignal`);
  }
  return options;
}

function checkSeconds(field: string, value: unknown): void {
  if (value === undefined) return;
  if (typeof value !== 'number') throw new InvalidArgumentError(field, `is ${describe(value)}, and must be a number`);
  if (!Number.isInteger(value) || value < 0 || value > 0xffffffff) {
    throw new InvalidArgumentError(field, 'must be a whole number of seconds');
  }
}

const PROMPTS = ['none', 'login', 'consent', 'select_account'];

function authorizationOf(options: AuthorizationOptions): contract.AuthorizationOptions {
  if (typeof options !== 'object' || options === null) {
    throw new InvalidArgumentError('options', `is ${describe(options)}, and must be an object`);
  }
  const { redirectUri, prompt = [], loginHint, parameters = {} } = options;
  if (redirectUri !== undefined) text('options.redirectUri', redirectUri);
  if (loginHint !== undefined) text('options.loginHint', loginHint);
  if (!Array.isArray(prompt)) throw new InvalidArgumentError('options.prompt', `is ${describe(prompt)}, and must be an array`);
  for (const word of prompt as readonly unknown[]) {
    if (!PROMPTS.includes(word as string)) {
      throw new InvalidArgumentError('options.prompt', `must be of ${PROMPTS.join(', ')}`);
    }
  }
  if (typeof parameters !== 'object' || parameters === null) {
    throw new InvalidArgumentError('options.parameters', `is ${describe(parameters)}, and must be an object`);
  }
  return {
    ...(redirectUri === undefined ? {} : { redirectUri }),
    ...(loginHint === undefined ? {} : { loginHint }),
    prompt: (prompt as readonly string[]).map((word) => word.replace('_', '-') as contract.Prompt),
    parameters: Object.entries(parameters).map(([name, value]) => ({ name, value: text(`options.parameters.${name}`, value) })),
  };
}

function redirectOf(redirect: Redirect): contract.Redirect {
  const { url, formPost } = (redirect ?? {}) as { url?: unknown; formPost?: unknown };
  if (url !== undefined) return { tag: 'url', val: urlText('redirect.url', url) };
  if (formPost instanceof URLSearchParams) return { tag: 'form-post', val: formPost.toString() };
  if (formPost !== undefined) return { tag: 'form-post', val: text('redirect.formPost', formPost) };
  throw new InvalidArgumentError('redirect', 'must have `url` or `formPost`');
}

/** A user agent in which the callbacks of one authorization take their part. */
function withCallbacks(userAgent: UserAgent, { onUrl, onDeviceCode }: AuthorizeOptions): UserAgent {
  for (const [name, callback] of Object.entries({ onUrl, onDeviceCode })) {
    if (callback !== undefined && typeof callback !== 'function') {
      throw new InvalidArgumentError(`options.${name}`, `is ${describe(callback)}, and must be a function`);
    }
  }
  return {
    listen: (connection, redirectUri) => userAgent.listen(connection, redirectUri),
    openUrl: (connection, url) => (onUrl === undefined ? userAgent.openUrl(connection, url) : onUrl(url)),
    showDeviceCode: (connection, device) =>
      onDeviceCode === undefined ? userAgent.showDeviceCode(connection, device) : onDeviceCode(device),
  };
}

/** Whether a resource server refuses the token itself (RFC 6750 section 3.1). */
function saysInvalidToken(response: Response): boolean {
  return (response.headers.get('www-authenticate') ?? '')
    .split(/[ ,]/)
    .some((part) => part === 'error="invalid_token"' || part === 'error=invalid_token');
}
