// The HTTP client behind `wasi:http`: HTTP/1.1, connections pooled, redirects not
// followed, plain http on the loopback interface only, as the reference host's
// (host/src/http_client.rs). It runs on the main thread, where the pool is shared
// by all workers.
import * as http from 'node:http';
import * as https from 'node:https';
import { isIP } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect, createSecureContext, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { joined } from './bytes.js';
import { StoreError } from './store.js';
import { check, Replaced, type TrustEntry } from './trust.js';

/** What holds where a request names no timeout, in milliseconds. */
const DEFAULT_TIMEOUT_MS = 30_000;

/**
 * How long an unused connection is kept, in milliseconds: less than the five
 * seconds after which a server made with Node closes it.
 */
const IDLE_TIMEOUT_MS = 4_000;

/** More than the component takes of a body (RESPONSE_LIMIT in guest/core/src/http.rs), in bytes. */
const BODY_LIMIT = 2 << 20;

/**
 * The most that is taken of a response's header fields, in bytes: they come when the
 * server has done what it was asked.
 */
const HEAD_LIMIT = 64 << 10;

/** A request as a worker sends it. */
export interface HttpRequest {
  method: string;
  scheme: string;
  authority: string;
  path: string;
  /** Values in Latin-1, an octet each. */
  headers: [string, string][];
  body: Uint8Array;
  /** Milliseconds. */
  connect: number | undefined;
  firstByte: number | undefined;
  betweenBytes: number | undefined;
}

export interface HttpResponse {
  status: number;
  headers: [string, string][];
  body: Uint8Array;
}

/** A request under way, and what calls it off without the cost of an `AbortSignal` for each. */
export interface Exchange {
  response: Promise<HttpResponse>;
  cancel(): void;
}

/** What sends requests. */
export interface Sender {
  send(request: HttpRequest): Exchange;
}

/** A client's own certificate and key (RFC 8705), PEM. */
export interface Identity {
  certificate: string;
  key: string;
}

/** How a client connects. */
export interface Manner {
  identity?: Identity | undefined;
  /** Where servers are held to how they were first met by the connection of that name. */
  trust?: { connection: string; entry: TrustEntry } | undefined;
}

/** An error code of `wasi:http`. */
export class HttpError extends Error {
  /** Why the host refused, where it did. */
  readonly refusal: string | undefined;
  constructor(
    readonly payload: { tag: string; val?: unknown },
    options: { cause?: unknown; refusal?: string | undefined } = {},
  ) {
    super(payload.tag, options);
    this.refusal = options.refusal;
  }
}

/** Makes TLS connections to servers that are held to how they were first met. */
class TrustingAgent extends https.Agent {
  readonly #entry: TrustEntry;

  constructor(options: https.AgentOptions, entry: TrustEntry) {
    super(options);
    this.#entry = entry;
  }

  // Node takes a connection by the callback as well; its types do not say so.
  override createConnection(options: https.RequestOptions, made?: (error: Error | null, socket: Duplex) => void): undefined {
    this.#connect(options as ConnectionOptions & { host: string }).then(
      (socket) => made?.(null, socket),
      (error: unknown) => made?.(error as Error, undefined as never),
    );
    return undefined;
  }

  async #connect(options: ConnectionOptions & { host: string }): Promise<TLSSocket> {
    const name = options.host.includes(':') ? `[${options.host}]` : options.host;
    const server = `${name.toLowerCase()}:${options.port}`;
    const held = await this.#entry.heldTo(server);
    // A session that is resumed shows no certificate.
    const socket = connect({ ...options, rejectUnauthorized: false, session: undefined });
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once('secureConnect', resolve);
        socket.once('error', reject);
        socket.setTimeout(DEFAULT_TIMEOUT_MS, () => reject(Object.assign(new Error('no TLS session in time'), { code: 'ETIMEDOUT' })));
      });
      socket.setTimeout(0);
      const certificate = socket.getPeerX509Certificate()?.raw;
      if (certificate === undefined) throw Object.assign(new Error('the server has shown no certificate'), { code: 'EPROTO' });
      // Before anything is sent.
      const shown = { certificate, isVouchedFor: socket.authorized };
      if (held === undefined) await this.#entry.meet(server, shown);
      else check(server, held, shown);
      return socket;
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }
}

/** Sends requests over pooled connections. */
export class HttpClient implements Sender {
  readonly #plain: http.Agent;
  readonly #secure: https.Agent;

  constructor(options: Manner & { ca?: string | readonly string[] | undefined }) {
    // Throws where the two are no PEM, or do not belong together.
    if (options.identity !== undefined) createSecureContext({ cert: options.identity.certificate, key: options.identity.key });
    const pooling = { keepAlive: true, timeout: IDLE_TIMEOUT_MS, noDelay: true };
    this.#plain = new http.Agent(pooling);
    const { trust } = options;
    const securing = {
      ...pooling,
      minVersion: 'TLSv1.2' as const,
      ...(options.ca === undefined ? {} : { ca: [...[options.ca].flat()] }),
      ...(options.identity === undefined ? {} : { cert: options.identity.certificate, key: options.identity.key }),
    } satisfies https.AgentOptions;
    this.#secure = trust === undefined ? new https.Agent(securing) : new TrustingAgent(securing, trust.entry);
  }

  /** Closes the connections that are not in use. */
  close(): void {
    this.#plain.destroy();
    this.#secure.destroy();
  }

  /** Sends a request and reads the response to its end. */
  send(request: HttpRequest): Exchange {
    let cancel = () => {};
    const response = new Promise<HttpResponse>((resolve, reject) => {
      const url = urlOf(request);
      if (url === undefined) {
        reject(new HttpError({ tag: 'HTTP-request-URI-invalid' }));
        return;
      }
      if (!isAllowed(url)) {
        reject(new HttpError({ tag: 'HTTP-request-denied' }));
        return;
      }
      const isSecure = url.protocol === 'https:';
      const headers: Record<string, string | string[]> = { host: request.authority };
      for (const [name, value] of request.headers) {
        const before = headers[name.toLowerCase()];
        headers[name.toLowerCase()] = before === undefined || name.toLowerCase() === 'host' ? value : [...[before].flat(), value];
      }
      const sent = (isSecure ? https : http).request({
        agent: isSecure ? this.#secure : this.#plain,
        protocol: url.protocol,
        hostname: url.hostname.replace(/^\[|\]$/g, ''),
        port: url.port,
        path: request.path,
        method: request.method,
        headers,
        maxHeaderSize: HEAD_LIMIT,
      });
      cancel = () => sent.destroy(new Error('the request was called off'));

      let timer: NodeJS.Timeout | undefined;
      let timedOut: string | undefined;
      const limit = (ms: number | undefined, tag: string) => {
        clearTimeout(timer);
        timer = setTimeout(() => {
          timedOut = tag;
          sent.destroy(new Error(tag));
        }, ms ?? DEFAULT_TIMEOUT_MS);
      };
      const fail = (error: unknown) => {
        clearTimeout(timer);
        const payload = timedOut === undefined ? payloadOf(error, isConnected) : { tag: timedOut };
        reject(new HttpError(payload, { cause: error, refusal: error instanceof Replaced ? error.message : undefined }));
      };

      let isConnected = false;
      limit(request.connect, 'connection-timeout');
      sent.on('socket', (socket) => {
        const connected = () => {
          isConnected = true;
          if (timedOut === undefined) limit(request.firstByte, 'HTTP-response-timeout');
        };
        // A connection out of the pool is there already, and one that had to be judged.
        if (socket.connecting || (isSecure && !sent.reusedSocket && !(this.#secure instanceof TrustingAgent))) {
          socket.once(isSecure ? 'secureConnect' : 'connect', connected);
        } else {
          connected();
        }
      });
      sent.on('error', fail);
      sent.on('response', (response) => {
        const chunks: Buffer[] = [];
        let length = 0;
        limit(request.betweenBytes, 'connection-read-timeout');
        const finish = () => {
          clearTimeout(timer);
          const received: [string, string][] = [];
          for (let i = 0; i + 1 < response.rawHeaders.length; i += 2) {
            received.push([response.rawHeaders[i] as string, response.rawHeaders[i + 1] as string]);
          }
          resolve({ status: response.statusCode ?? 0, headers: received, body: joined(chunks) });
        };
        response.on('data', (chunk: Buffer) => {
          limit(request.betweenBytes, 'connection-read-timeout');
          chunks.push(chunk);
          length += chunk.length;
          if (length > BODY_LIMIT) {
            // The component tells that it is too large.
            finish();
            sent.destroy();
          }
        });
        response.on('end', () => (response.complete ? finish() : fail(undefined)));
        response.on('error', fail);
      });
      sent.end(request.body);
    });
    return { response, cancel: () => cancel() };
  }
}

/** The URL that a request goes to; `undefined` where it is none. */
export function urlOf({ scheme, authority, path }: HttpRequest): URL | undefined {
  const text = `${scheme}://${authority}${path}`;
  return URL.canParse(text) ? new URL(text) : undefined;
}

/** https anywhere, http to this machine only. */
export function isAllowed(url: URL): boolean {
  if (url.protocol === 'https:') return url.hostname !== '';
  return url.protocol === 'http:' && isLoopback(url.hostname);
}

/**
 * Whether that holds of a URL as it is written. Where a parser has to mend something, or
 * leaves something out, others may read another server: such a one is not.
 */
export function isPlainlyAllowed(text: string): boolean {
  const authority = /^https?:\/\/([\w.:[\]-]+)(?:[/?#]|$)/i.exec(text)?.[1];
  if (authority === undefined || !URL.canParse(text)) return false;
  const url = new URL(text);
  return url.host === authority.toLowerCase() && isAllowed(url);
}

/** Whether a host name or address of a URL is this machine's own. */
function isLoopback(host: string): boolean {
  const address = host.replace(/^\[|\]$/g, '').toLowerCase();
  if (address === 'localhost' || address === '::1') return true;
  return isIP(address) === 4 && address.startsWith('127.');
}

const CERTIFICATE_CODES = new Set([
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'INVALID_CA',
  'INVALID_PURPOSE',
  'HOSTNAME_MISMATCH',
  'PATH_LENGTH_EXCEEDED',
]);

/** The `wasi:http` error for what the client failed with. */
function payloadOf(error: unknown, isConnected: boolean): { tag: string; val?: unknown } {
  if (error instanceof Replaced) return { tag: 'TLS-certificate-error' };
  // How the servers were met could not be looked at: no connection was made.
  if (error instanceof StoreError) return { tag: 'TLS-protocol-error' };
  const { code, message } = (error ?? {}) as { code?: string; message?: string };
  switch (code) {
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
    case 'EAI_FAIL':
    case 'EAI_NODATA':
      return { tag: 'DNS-error', val: { rcode: undefined, infoCode: undefined } };
    case 'ECONNREFUSED':
      return { tag: 'connection-refused' };
    case 'ETIMEDOUT':
      return { tag: isConnected ? 'HTTP-response-timeout' : 'connection-timeout' };
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return { tag: 'destination-unavailable' };
    case 'ECONNRESET':
    case 'ECONNABORTED':
    case 'EPIPE':
      return { tag: 'connection-terminated' };
    case undefined:
      return { tag: 'HTTP-response-incomplete' };
  }
  if (code.startsWith('CERT_') || code === 'ERR_TLS_CERT_ALTNAME_INVALID' || CERTIFICATE_CODES.has(code)) {
    return { tag: 'TLS-certificate-error' };
  }
  if (/^ERR_SSL_.*_ALERT_/.test(code)) {
    return { tag: 'TLS-alert-received', val: { alertId: undefined, alertMessage: code } };
  }
  if (code.startsWith('ERR_SSL_') || code.startsWith('ERR_TLS_') || code === 'EPROTO') return { tag: 'TLS-protocol-error' };
  if (code === 'HPE_HEADER_OVERFLOW') return { tag: 'HTTP-response-header-section-size', val: undefined };
  if (code.startsWith('HPE_')) return { tag: 'HTTP-protocol-error' };
  return { tag: 'internal-error', val: message ?? code };
}
