import * as http from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { outcomePage, plainPage, type Page } from './page.js';
import { UserAgentError, type Arrival, type Listener, type Outcome } from './user-agent.js';

/** The redirect URI where the host may choose. */
const DEFAULT_URI = 'http://127.0.0.1/oauth2';

/** How often, and how far apart in milliseconds, a port that is taken is tried. */
const BIND_ATTEMPTS = 10;
const BIND_PAUSE_MS = 20;

/** How long a client may take to send its request, in milliseconds. */
const READ_LIMIT_MS = 10_000;

/** How long to wait for a client to take the page, in milliseconds. */
const WRITE_LIMIT_MS = 2_000;

/** How many connections are open at a time; when there is one more, the oldest that has not sent its request has to go. */
const CONNECTION_LIMIT = 64;

/** The longest request head, in bytes. */
const HEAD_LIMIT = 32 << 10;

/** The longest form, in bytes. */
const FORM_LIMIT = 64 << 10;

/** Where to listen, as a redirect URI says it. */
interface Place {
  written: string;
  /** What of it is before the port, and what after. */
  before: string;
  after: string;
  host: string;
  port: number | undefined;
  path: string;
}

/**
 * A listener for redirects on the loopback interface (RFC 8252 section 7.3). What
 * is not a GET, or a POST of a form, for the redirect URI itself is turned away
 * without anybody hearing of it; what is, gets a page that says how it went, once
 * that is known.
 */
export class LoopbackListener implements Listener {
  readonly redirectUri: string;
  readonly #connection: string;
  readonly #servers: http.Server[];
  /** What `Host` may say. */
  readonly #hosts: readonly string[];
  readonly #path: string;
  /** The redirect URI without its query. */
  readonly #address: string;
  readonly #waiting: LoopbackArrival[] = [];
  readonly #reading = new Set<Socket>();
  #open = 0;
  #wake: (() => void) | undefined;
  #isClosed = false;

  private constructor(connection: string, place: Place, servers: http.Server[], port: number) {
    this.#connection = connection;
    this.#servers = servers;
    const host = `${place.host}:${port}`;
    this.#hosts = port === 80 ? [host, place.host] : [host];
    this.#path = place.path;
    this.redirectUri = place.port === undefined ? `${place.before}:${port}${place.after}` : place.written;
    this.#address = this.redirectUri.replace(/\?.*$/, '');
    for (const server of servers) {
      server.on('connection', (socket: Socket) => this.#connected(socket));
      server.on('request', (request: http.IncomingMessage, response: http.ServerResponse) => {
        void this.#answer(request, response);
      });
    }
  }

  /**
   * Listens on the given redirect URI, or on `http://127.0.0.1:PORT/oauth2` with any
   * free port. A URI that names no port gets any free one (RFC 8252 section 7.3), and
   * one that does is sent as it is written, since servers compare it so; one that names
   * `localhost` is listened on at both loopback addresses. `connection` is the name
   * that the page shows.
   */
  static async bind(connection: string, redirectUri = DEFAULT_URI): Promise<LoopbackListener> {
    const place = placeOf(redirectUri);
    for (let attempt = 1; ; attempt += 1) {
      const servers: http.Server[] = [];
      try {
        const port = await bindOnce(place, servers);
        return new LoopbackListener(connection, place, servers, port);
      } catch (error) {
        for (const server of servers) server.close();
        // A free port may be taken at the other address, and a fixed one by a
        // listener that is about to close.
        if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE' || attempt === BIND_ATTEMPTS) {
          const where = place.port === undefined ? place.host : `${place.host}:${place.port}`;
          const why = error instanceof Error ? error.message : String(error);
          throw new UserAgentError('unavailable', `cannot listen for the redirect on ${where}: ${why}`, { cause: error });
        }
      }
      await sleep(BIND_PAUSE_MS);
    }
  }

  async next(waitMs: number): Promise<Arrival | undefined> {
    if (this.#waiting.length === 0 && !this.#isClosed) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, waitMs);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#wake = undefined;
    }
    const arrival = this.#waiting.shift();
    if (arrival === undefined && this.#isClosed) {
      throw new UserAgentError('unavailable', 'the redirect listener has stopped');
    }
    return arrival;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const server of this.#servers) server.close();
    for (const socket of this.#reading) socket.destroy();
    for (const arrival of this.#waiting.splice(0)) arrival.drop();
    this.#wake?.();
  }

  #connected(socket: Socket): void {
    if (this.#open >= CONNECTION_LIMIT) {
      const oldest = this.#reading.values().next().value;
      (oldest ?? socket).destroy();
      if (oldest === undefined) return;
    }
    this.#open += 1;
    this.#reading.add(socket);
    socket.on('close', () => {
      this.#open -= 1;
      this.#reading.delete(socket);
    });
  }

  async #answer(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const redirect = await this.#redirectIn(request);
    if ('status' in redirect) {
      write(response, redirect);
      return;
    }
    this.#reading.delete(request.socket);
    const arrival = new LoopbackArrival(this.#connection, redirect, response);
    if (this.#isClosed) {
      arrival.drop();
      return;
    }
    this.#waiting.push(arrival);
    this.#wake?.();
  }

  /** The redirect in a request, or the answer to one that is none. */
  async #redirectIn(request: http.IncomingMessage): Promise<Arrival['redirect'] | Page> {
    // So that a page of another site cannot reach the listener under that site's name.
    const hosts = request.headersDistinct.host ?? [];
    const isOurs = (host: string) => this.#hosts.includes(host.toLowerCase());
    if (hosts.length !== 1 || !hosts.every(isOurs)) return plainPage(421);
    const [, authority, target] = /^(?:http:\/\/([^/?]*))?(.*)$/i.exec(request.url ?? '') ?? [];
    if (authority !== undefined && !isOurs(authority)) return plainPage(421);
    const [path, ...query] = (target ?? '').split('?');
    if (path !== this.#path) return plainPage(404);
    switch (request.method) {
      case 'GET':
        return { url: query.length === 0 ? this.#address : `${this.#address}?${query.join('?')}` };
      case 'POST':
        return formIn(request);
      default:
        return plainPage(405, { allow: 'GET, POST' });
    }
  }
}

/** A redirect that has arrived at a `LoopbackListener`. */
class LoopbackArrival implements Arrival {
  #answered = false;

  constructor(
    readonly connection: string,
    readonly redirect: Arrival['redirect'],
    readonly response: http.ServerResponse,
  ) {}

  async respond(outcome: Outcome): Promise<void> {
    if (this.#answered) return;
    this.#answered = true;
    const closed = new Promise<void>((resolve) => this.response.once('close', resolve));
    if (this.response.destroyed) return;
    write(this.response, outcomePage(this.connection, outcome));
    // The caller may end the process next; a client that does not take its page has
    // only itself to blame.
    await Promise.race([closed, sleep(WRITE_LIMIT_MS, undefined, { ref: false })]);
  }

  drop(): void {
    if (this.#answered) return;
    this.#answered = true;
    write(this.response, outcomePage(this.connection, undefined));
  }
}

function write(response: http.ServerResponse, page: Page): void {
  if (response.destroyed) return;
  response.writeHead(page.status, { ...page.headers, connection: 'close' });
  response.end(page.body);
}

function placeOf(written: string): Place {
  const found = /^(http:\/\/(127\.0\.0\.1|\[::1\]|localhost))(?::(\d*))?((\/[^?#\s]*)?(?:\?[^#\s]*)?)$/i.exec(written);
  // Port 0 is any (RFC 6335 section 6), and nobody can be sent there.
  const port = Number(found?.[3] ?? '') || undefined;
  if (found === null || (port !== undefined && port > 65535)) {
    throw new UserAgentError(
      'unavailable',
      `the redirect URI ${written} is not one of this machine's loopback interface (http://127.0.0.1, http://[::1] or http://localhost), so no listener can await the redirect; begin the authorization, and give the URL that the browser ends up on to \`completeAuthorization\``,
    );
  }
  const [, before = '', host = '', , after = '', path = '/'] = found;
  return { written, before, after, host: host.toLowerCase(), port, path };
}

async function bindOnce(place: Place, servers: http.Server[]): Promise<number> {
  // A browser may take either address of localhost, and whoever has the other one
  // would get the redirect.
  const addresses = { '127.0.0.1': ['127.0.0.1'], '[::1]': ['::1'] }[place.host] ?? ['127.0.0.1', '::1'];
  let port = place.port ?? 0;
  for (const address of addresses) {
    const server = http.createServer({
      headersTimeout: READ_LIMIT_MS,
      requestTimeout: READ_LIMIT_MS,
      connectionsCheckingInterval: 1_000,
      keepAliveTimeout: 1,
      maxHeaderSize: HEAD_LIMIT,
    });
    try {
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen({ port, host: address, exclusive: true }, () => {
          server.off('error', reject);
          resolve();
        });
      });
    } catch (error) {
      // A machine without IPv6.
      if (servers.length > 0 && (error as NodeJS.ErrnoException).code !== 'EADDRINUSE') continue;
      throw error;
    }
    servers.push(server);
    port = (server.address() as AddressInfo).port;
  }
  return port;
}

/** The form in the body of a request (OAuth 2.0 Form Post Response Mode). */
async function formIn(request: http.IncomingMessage): Promise<Arrival['redirect'] | Page> {
  const type = (request.headers['content-type'] ?? '').split(';')[0]?.trim().toLowerCase();
  if (type !== 'application/x-www-form-urlencoded') return plainPage(415);
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > FORM_LIMIT) return plainPage(413);
      chunks.push(chunk);
    }
    return { formPost: new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks)) };
  } catch {
    return plainPage(400);
  }
}
