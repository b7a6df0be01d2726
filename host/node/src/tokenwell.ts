import type { Call, Outcome } from './bridge.js';
import { Browser } from './browser.js';
import { describe, refused, toJson, type Config } from './config.js';
import { Connection } from './connection.js';
import { text, urlText, valueOf, type CallFlags, type Core } from './core.js';
import { Egress } from './egress.js';
import { ClosedError, InvalidArgumentError } from './errors.js';
import type * as contract from './component/interfaces/tokenwell-oauth2-types.js';
import { FileStore } from './file-store.js';
import { HttpClient, isAllowed, type Manner } from './http-client.js';
import { LocalSecrets, type Resolver } from './local-secrets.js';
import { MemoryStore } from './memory-store.js';
import type { Password } from './password.js';
import { Pool } from './pool.js';
import type { Secrets } from './secrets.js';
import { CallContext, type Provided } from './services.js';
import type { TokenStore } from './store.js';
import { HOST_TIMEOUT_MS } from './time.js';
import type { CallOptions, OpenOptions, Problem, Provider, ProviderSummary, TokenwellEvent } from './types.js';
import type { UserAgent } from './user-agent.js';

/** What a host is made of. Without any option everything is in memory, and gone with the process. */
export interface TokenwellOptions {
  /**
   * Where the records are (`NAME.tokens`) and the key file, shared with the
   * reference host and its command line. `file:PATH` is relative to it.
   */
  directory?: string | undefined;
  /** Where records are kept, in place of the files of `directory`. */
  store?: TokenStore | undefined;
  /** The master password (Argon2id), or what asks for it when it is found to be needed, and may take its time. */
  password?: Password | undefined;
  /** Further forms of reference, such as `{ vault: async (name) => … }`. */
  resolvers?: Readonly<Record<string, Resolver>> | undefined;
  /** Secrets and keys of your own, in place of this machine's. */
  secrets?: Secrets | undefined;
  /** The browser and the listener of `authorize`; by default the user's browser. `noUserAgent` for a server. */
  userAgent?: UserAgent | undefined;
  /** Takes note of what happens. It must not wait; what it throws is a warning of the process. */
  onEvent?: ((event: TokenwellEvent) => void) | undefined;
  /** Certificate authorities to trust, PEM, in place of Node's. */
  ca?: string | readonly string[] | undefined;
  /** Whether a config may have `tls: trust`; `true`. */
  tlsTrust?: boolean | undefined;
  /**
   * How many threads run calls at a time, all but one of them those of one server; 4.
   * Authorizations that wait for a user have further ones.
   */
  maxWorkers?: number | undefined;
  /** How long a promise of your store, secrets or user agent may take, in milliseconds; 30,000. */
  hostTimeoutMs?: number | undefined;
}

const OPTIONS = new Set([
  'directory', 'store', 'password', 'resolvers', 'secrets', 'userAgent', 'onEvent', 'ca', 'tlsTrust', 'maxWorkers', 'hostTimeoutMs',
]);

/** A host: it opens connections, and holds what they need. */
export class Tokenwell implements AsyncDisposable {
  readonly #provided: Provided;
  readonly #pool: Pool;
  readonly #ca: TokenwellOptions['ca'];
  readonly #clients = new Map<string, HttpClient>();
  readonly #core: Core;
  #closing: Promise<void> | undefined;

  constructor(options: TokenwellOptions = {}) {
    check(options);
    const { directory, password, resolvers, onEvent } = options;
    const store = options.store ?? (directory === undefined ? new MemoryStore() : new FileStore(directory));
    const isVolatile = store instanceof MemoryStore && directory === undefined && password === undefined;
    const hasKey = isVolatile || directory !== undefined || password !== undefined;
    if (options.secrets === undefined && !hasKey) {
      throw new InvalidArgumentError(
        'options.store',
        'needs something to seal it under that outlives the process: give a `password`, a `directory` for the key file, or `secrets`',
      );
    }
    const hostTimeoutMs = options.hostTimeoutMs ?? HOST_TIMEOUT_MS;
    this.#ca = options.ca;
    this.#provided = {
      store,
      secrets: options.secrets ?? new LocalSecrets({ store, directory, password, resolvers, isVolatile, hostTimeoutMs }),
      userAgent: options.userAgent ?? new Browser(),
      hostTimeoutMs,
      tlsTrust: options.tlsTrust ?? true,
      emit: (event) => {
        // Whoever has closed the host has heard the last of it.
        if (onEvent === undefined || this.#closing !== undefined) return;
        try {
          onEvent(event);
        } catch (error) {
          process.emitWarning(error instanceof Error ? error : String(error), { code: 'TOKENWELL_ON_EVENT' });
        }
      },
    };
    this.#pool = new Pool(options.maxWorkers ?? 4);
    this.#core = {
      provided: this.#provided,
      call: (call, context, flags) => this.#run(call, context, flags),
      http: (manner) => this.#http(manner),
    };
  }

  /**
   * Opens a connection. Neither the store nor the network is touched, and the
   * config may be incomplete. The name becomes part of store keys: letters, digits,
   * `-`, `_` and `.`, at most 64, beginning with a letter or digit.
   *
   * @throws NotConfiguredError with every problem of the config, field by field
   */
  async open(name: string, config: Config, options?: OpenOptions): Promise<Connection> {
    if (typeof name !== 'string') throw new InvalidArgumentError('name', `is ${describe(name)}, and must be a string`);
    const { origins = [] } = options ?? {};
    const further = checkOrigins(origins);
    const parsed = (await this.#parse(config, options)) as contract.Config;
    const provider = parsed.provider === undefined ? undefined : await this.#provider(parsed.provider, options);
    const connection = new Connection(this.#core, name, parsed, Egress.of(parsed, provider, further));
    // Tells of a name that is none.
    await connection.check(options);
    return connection;
  }

  /** Checks a config's form, and gives it as the component writes it: fields at their defaults are left out. */
  async parseConfig(config: Config, options?: CallOptions): Promise<Config> {
    const parsed = await this.#parse(config, options);
    return JSON.parse((await this.#ask('formatConfig', [parsed], options)) as string) as Config;
  }

  async #parse(config: unknown, options: CallOptions | undefined): Promise<unknown> {
    const json = toJson(config);
    const outcome = await this.#outcome({ target: 'connections', method: 'parseConfig', args: [json] }, this.#context(), {
      signal: options?.signal,
    });
    if (outcome.tag === 'error') throw refused(outcome.error as Problem[]);
    return valueOf(outcome, undefined);
  }

  /** The providers of the catalogue, in the order of their identifiers. */
  async listProviders(options?: CallOptions): Promise<ProviderSummary[]> {
    return (await this.#ask('listProviders', [], options)) as ProviderSummary[];
  }

  /** One provider; `undefined` where the catalogue has none of that identifier. */
  async showProvider(id: string, options?: CallOptions): Promise<Provider | undefined> {
    text('id', id);
    const provider = await this.#provider(id, options);
    if (provider === undefined) return undefined;
    const { defaults, parameters, redirectUris, registrationPage, documentationPage, ...rest } = provider;
    return {
      ...rest,
      parameters: parameters.map((parameter) => ({ ...parameter, default: parameter.default })),
      defaults: Object.fromEntries(defaults.map((field) => [field.name, field.value])),
      redirectUris,
      registrationPage,
      documentationPage,
    };
  }

  async #provider(id: string, options: CallOptions | undefined): Promise<contract.Provider | undefined> {
    return (await this.#ask('showProvider', [id], options)) as contract.Provider | undefined;
  }

  /**
   * The metadata of the protected resource that a URL belongs to (RFC 9728):
   * `authorization_servers` names the issuers it takes tokens of.
   */
  async discoverResource(url: string | URL, options?: CallOptions): Promise<Record<string, unknown>> {
    const json = await this.#ask('discoverResource', [urlText('url', url)], options);
    return JSON.parse(json as string) as Record<string, unknown>;
  }

  /**
   * Registers a client at the authorization server of an issuer (RFC 7591). Gives
   * the server's answer, with the `client_id` and any secrets; nothing is stored.
   */
  async registerClient(
    issuer: string | URL,
    metadata: Readonly<Record<string, unknown>>,
    options?: CallOptions & { initialAccessToken?: string | undefined },
  ): Promise<Record<string, unknown>> {
    const args = [urlText('issuer', issuer), toJson(metadata), options?.initialAccessToken];
    return JSON.parse((await this.#ask('registerClient', args, options)) as string) as Record<string, unknown>;
  }

  /**
   * Ends the wait for users, waits for the other calls that are under way, so that
   * no token is lost, and ends the threads. Later calls are refused with
   * `ClosedError`.
   */
  close(): Promise<void> {
    this.#closing ??= (async () => {
      this.#pool.cancelUsers();
      await this.#pool.close();
      for (const client of this.#clients.values()) client.close();
    })();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #context(): CallContext {
    return new CallContext(this.#provided, this.#http());
  }

  #ask(method: string, args: unknown[], options: CallOptions | undefined): Promise<unknown> {
    return this.#run({ target: 'connections', method, args }, this.#context(), { signal: options?.signal });
  }

  async #run(call: Call, context: CallContext, flags: CallFlags = {}): Promise<unknown> {
    return valueOf(await this.#outcome(call, context, flags), context);
  }

  async #outcome(call: Call, context: CallContext, { signal, waitsForUser }: CallFlags): Promise<Outcome> {
    if (signal !== undefined && !(signal instanceof AbortSignal)) {
      throw new InvalidArgumentError('options.signal', `is ${describe(signal)}, and must be an AbortSignal`);
    }
    if (this.#closing !== undefined) throw new ClosedError('this host has been closed');
    signal?.throwIfAborted();
    const running = this.#pool.run(call, context, waitsForUser === true, signal);
    if (signal === undefined) return running;
    return new Promise((resolve, reject) => {
      const abort = () => {
        if (waitsForUser === true) context.cancel();
        reject(signal.reason as Error);
      };
      signal.addEventListener('abort', abort, { once: true });
      running.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
    });
  }

  /** What everybody sends through who connects in that manner. */
  #http({ identity, trust }: Manner = {}): HttpClient {
    const key = JSON.stringify([identity?.certificate, identity?.key, trust?.connection]);
    let client = this.#clients.get(key);
    if (client === undefined) {
      client = new HttpClient({ ca: this.#ca, identity, trust });
      this.#clients.set(key, client);
    }
    return client;
  }
}

function check(options: unknown): asserts options is TokenwellOptions {
  if (typeof options !== 'object' || options === null) {
    throw new InvalidArgumentError('options', `is ${describe(options)}, and must be an object`);
  }
  for (const [name, given] of Object.entries(options) as [string, unknown][]) {
    const field = `options.${name}`;
    if (!OPTIONS.has(name)) throw new InvalidArgumentError(field, 'is not an option');
    if (given === undefined) continue;
    const methods = METHODS[name];
    if (methods !== undefined) {
      for (const method of methods) {
        if (typeof (given as Record<string, unknown> | null)?.[method] !== 'function') {
          throw new InvalidArgumentError(`${field}.${method}`, 'is not there, and must be a function');
        }
      }
    }
    const fits = FITS[name];
    if (fits !== undefined && !fits.is(given)) {
      throw new InvalidArgumentError(field, `is ${describe(given)}, and must be ${fits.what}`);
    }
  }
}

function checkOrigins(given: unknown): URL[] {
  const field = 'options.origins';
  if (!Array.isArray(given)) throw new InvalidArgumentError(field, `is ${describe(given)}, and must be an array of URLs`);
  return given.map((url: unknown, at) => {
    const text = urlText(`${field}[${at}]`, url);
    if (URL.canParse(text) && isAllowed(new URL(text))) return new URL(text);
    throw new InvalidArgumentError(`${field}[${at}]`, 'must be an https URL, or an http one on the loopback interface');
  });
}

const METHODS: Record<string, readonly string[]> = {
  store: ['load', 'compareAndSwap', 'delete', 'acquireLease'],
  secrets: ['resolve', 'sealingKeys', 'sign', 'publicKey', 'verify'],
  userAgent: ['listen', 'openUrl', 'showDeviceCode'],
};

const FITS: Record<string, { is(value: unknown): boolean; what: string }> = {
  directory: { is: (given) => typeof given === 'string' && given !== '', what: 'a path' },
  password: { is: (given) => typeof given === 'string' || typeof given === 'function', what: 'a string or a function' },
  resolvers: {
    is: (given) => typeof given === 'object' && given !== null && Object.values(given).every((f) => typeof f === 'function'),
    what: 'an object of functions',
  },
  onEvent: { is: (given) => typeof given === 'function', what: 'a function' },
  ca: {
    is: (given) => [given].flat().every((pem) => typeof pem === 'string'),
    what: 'a string or an array of strings',
  },
  tlsTrust: { is: (given) => typeof given === 'boolean', what: 'a boolean' },
  maxWorkers: { is: (given) => Number.isInteger(given) && (given as number) >= 1, what: 'a whole number of 1 or more' },
  hostTimeoutMs: { is: (given) => Number.isFinite(given) && (given as number) > 0, what: 'a number of milliseconds' },
};
