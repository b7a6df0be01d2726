// Where a connection's own requests may go: https anywhere, plain http to the loopback
// interface only; and of these only to its own origins. They are those of
//
// - the `issuer` and the endpoints that its config names,
// - the `issuer` and the endpoints that the catalogue has for its provider, those for
//   refreshing and exchanging a token and the servers that a redirect may name among
//   them, with the config's parameters put in,
// - the URLs that the application opened it with (`origins`),
// - the endpoints that its issuer's metadata names (RFC 8414 section 2), where it was
//   fetched by this connection from that issuer's own well-known place and says, to the
//   letter, that it is that issuer's (RFC 8414 section 3.3): of the issuers that share an
//   origin, such as the tenants of one server, none speaks for another.
//
// What the component asks for is not taken as a reason. A credential keeps the endpoints
// that issued it, so a renewal may go to one before this process has seen the metadata:
// then the host fetches it itself, once a minute at most where the issuer answers, and
// looks again. What concerns no connection (the metadata of a resource, registration) is
// held to the first sentence alone, and bears no token of a connection.
import type * as contract from './component/interfaces/tokenwell-oauth2-types.js';
import {
  HttpError,
  isAllowed,
  urlOf,
  type Exchange,
  type HttpRequest,
  type HttpResponse,
  type Sender,
} from './http-client.js';

/** How long an issuer that has answered is not asked again, in milliseconds. */
const DISCOVERY_PAUSE_MS = 60_000;

/** A parameter in a URL of the catalogue. */
const BRACES = /\{([^{}]*)\}/g;

const ENDPOINTS = [
  'authorization_endpoint',
  'token_endpoint',
  'revocation_endpoint',
  'introspection_endpoint',
  'userinfo_endpoint',
  'device_authorization_endpoint',
  'pushed_authorization_request_endpoint',
  'jwks_uri',
];

/** The origins of one connection. */
export class Egress {
  readonly #origins = new Set<string>();
  readonly #issuers: readonly string[];
  /** When the issuers may be asked again, by `performance.now()`. */
  #nextDiscovery = 0;
  #discovery: Promise<boolean> | undefined;

  constructor(urls: readonly string[], issuers: readonly string[]) {
    this.#issuers = issuers.filter((issuer) => URL.canParse(issuer));
    for (const url of [...urls, ...issuers]) this.#add(url);
  }

  /** Those of a connection with that config, its provider in the catalogue, and further ones. */
  static of(config: contract.Config, provider: contract.Provider | undefined, further: readonly URL[]): Egress {
    const values = new Map<string, string | undefined>([['client_id', config.clientId]]);
    for (const parameter of provider?.parameters ?? []) values.set(parameter.name, parameter.default);
    for (const { name, value } of config.parameters) values.set(name, value);
    const urls: (string | undefined)[] = [
      config.authorizationEndpoint,
      config.tokenEndpoint,
      config.revocationEndpoint,
      config.introspectionEndpoint,
      config.userinfoEndpoint,
      config.deviceAuthorizationEndpoint,
      config.pushedAuthorizationRequestEndpoint,
      config.jwksUri,
      ...further.map((url) => url.href),
    ];
    const issuers = [config.issuer];
    for (const { name, value } of provider?.endpoints ?? []) {
      // One by hand is another server, which merely speaks as the provider does.
      const isIssuer = name === 'issuer' && config.issuer === undefined;
      (isIssuer ? issuers : urls).push(filledIn(value, values));
    }
    const isThere = (url: string | undefined): url is string => url !== undefined;
    return new Egress(urls.filter(isThere), issuers.filter(isThere));
  }

  /** Whether a request to that URL may leave. */
  allows(url: URL): boolean {
    return isAllowed(url) && this.#origins.has(url.origin);
  }

  /** Sends a request of the connection's, where it may go. */
  send(client: Sender, request: HttpRequest): Exchange {
    const url = urlOf(request);
    // The client refuses what is no URL, and what would go out in clear.
    if (url === undefined || !isAllowed(url)) return client.send(request);
    if (this.allows(url)) return this.#exchange(client, request, url);
    let exchange: Exchange | undefined;
    let isCancelled = false;
    const decided = async () => {
      const isKnown = await this.#discovered(client, request);
      if (!this.allows(url)) throw isKnown ? refusal(url) : new HttpError({ tag: 'destination-unavailable' });
      if (isCancelled) throw new HttpError({ tag: 'internal-error', val: 'the request was called off' });
      exchange = this.#exchange(client, request, url);
      return exchange.response;
    };
    const cancel = () => {
      isCancelled = true;
      exchange?.cancel();
    };
    return { response: decided(), cancel };
  }

  /** Sends a request; where it fetches an issuer's metadata, adds the origins that they name. */
  #exchange(client: Sender, request: HttpRequest, url: URL): Exchange {
    const { response, cancel } = client.send(request);
    const place = placeOf(url, request.path);
    const issuers = this.#issuers.filter((issuer) => metadataPlaces(issuer).includes(place));
    if (request.method !== 'GET' || issuers.length === 0) return { response, cancel };
    const learning = response.then((answer) => {
      this.#learn(issuers, answer);
      return answer;
    });
    return { response: learning, cancel };
  }

  #learn(issuers: readonly string[], { status, body }: HttpResponse): void {
    if (status !== 200) return;
    let metadata: unknown;
    try {
      metadata = JSON.parse(new TextDecoder().decode(body));
    } catch {
      // The component tells of it.
      return;
    }
    const { issuer, mtls_endpoint_aliases: aliases } = membersOf(metadata);
    if (typeof issuer !== 'string' || !issuers.includes(issuer)) return;
    for (const endpoints of [membersOf(metadata), membersOf(aliases)]) {
      for (const name of ENDPOINTS) this.#add(endpoints[name]);
    }
  }

  #add(url: unknown): void {
    if (typeof url === 'string' && URL.canParse(url)) this.#origins.add(new URL(url).origin);
  }

  /**
   * Fetches the issuers' metadata, unless that was done just now, and tells whether what
   * they name is known now. Those who ask meanwhile wait for the same.
   */
  #discovered(client: Sender, timeouts: HttpRequest): Promise<boolean> {
    this.#discovery ??= this.#discover(client, timeouts).finally(() => (this.#discovery = undefined));
    return this.#discovery;
  }

  async #discover(client: Sender, timeouts: HttpRequest): Promise<boolean> {
    if (performance.now() < this.#nextDiscovery) return true;
    let isKnown = true;
    for (const issuer of this.#issuers) isKnown = (await this.#ask(issuer, client, timeouts)) && isKnown;
    if (isKnown) this.#nextDiscovery = performance.now() + DISCOVERY_PAUSE_MS;
    return isKnown;
  }

  /** Whether an issuer has answered: one that does not, or is failing, says nothing of what it names. */
  async #ask(issuer: string, client: Sender, { connect, firstByte, betweenBytes }: HttpRequest): Promise<boolean> {
    const { protocol, host } = new URL(issuer);
    let hasAnswered = true;
    for (const path of metadataPaths(issuer)) {
      const request: HttpRequest = {
        method: 'GET',
        scheme: protocol.slice(0, -1),
        authority: host,
        path,
        headers: [['accept', 'application/json']],
        body: new Uint8Array(),
        connect,
        firstByte,
        betweenBytes,
      };
      const url = urlOf(request);
      if (url === undefined || !this.allows(url)) continue;
      const sent = this.#exchange(client, request, url).response;
      const status = await sent.then((answer) => answer.status).catch(() => undefined);
      if (status === 200) return true;
      if (status === undefined || status >= 500 || status === 429) hasAnswered = false;
    }
    return hasAnswered;
  }
}

function refusal({ origin }: URL): HttpError {
  const reason =
    `a request to ${origin}, which neither the config nor its provider nor the issuer's metadata names: ` +
    'name the endpoint in the config, or the origin in `origins` when the connection is opened';
  return new HttpError({ tag: 'HTTP-request-denied' }, { refusal: reason });
}

/** Where the metadata of an issuer may be (OpenID Connect Discovery section 4, RFC 8414 section 3.1). */
function metadataPaths(issuer: string): string[] {
  // As it is written: a parser would mend a path that the server need not.
  const path = /^[^:]*:\/\/[^/?#]*([^?#]*)/.exec(issuer)?.[1]?.replace(/\/+$/, '') ?? '';
  return [`${path}/.well-known/openid-configuration`, `/.well-known/oauth-authorization-server${path}`];
}

function metadataPlaces(issuer: string): string[] {
  return metadataPaths(issuer).map((path) => placeOf(new URL(issuer), path));
}

/** What a request is for, however its origin is written. */
function placeOf({ origin }: URL, path: string): string {
  return origin + path;
}

/**
 * A URL with the parameters put in; `undefined` where one has no value: then the component
 * leaves the endpoint out as well.
 */
function filledIn(template: string, values: ReadonlyMap<string, string | undefined>): string | undefined {
  const names = Array.from(template.matchAll(BRACES), ([, name]) => name as string);
  if (names.some((name) => values.get(name) === undefined)) return undefined;
  return template.replaceAll(BRACES, (_, name: string) => values.get(name) as string);
}

/** The members of a JSON object; none of anything else. */
function membersOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}
