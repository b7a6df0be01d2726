// The cookies in a server's responses. None is ever kept or sent; a cookie that a browser
// would refuse tells of a server, or of something between, that is not set up as it should
// be. The rules are the reference host's (host/src/http_client/cookies.rs).
import { isIP } from 'node:net';
import type { HttpResponse } from './http-client.js';
import type { TokenwellEvent } from './types.js';

/** The longest name and value together (RFC 6265 section 6.1), in bytes. */
const LONGEST = 4096;

/** Tells of each cookie of a response in which something is wrong. */
export function* refusedCookies(connection: string, url: URL, { headers }: HttpResponse): Generator<TokenwellEvent> {
  const server = url.hostname;
  for (const [name, value] of headers) {
    const what = name.toLowerCase() === 'set-cookie' ? violation(url, value) : undefined;
    if (what === undefined) continue;
    yield {
      at: new Date(),
      connection,
      kind: 'cookie-refused',
      message: `a cookie of ${server} ${what}; it is left out of account`,
      details: { server },
    };
  }
}

/**
 * What is wrong with a cookie that a server sets (RFC 6265 section 5.3 and its
 * successor's prefixes), a clause without its value.
 */
export function violation({ protocol, hostname }: URL, setCookie: string): string | undefined {
  const [pair = '', ...rest] = setCookie.split(';');
  const [name, ...value] = pair.split('=').map((part) => part.trim());
  if (!name || value.length === 0) return 'has no name';
  // Header fields are Latin-1: a character for each byte.
  if (pair.length > LONGEST) return 'is longer than 4096 bytes';
  // Of those of one name the last holds.
  const attributes = new Map(
    rest.map((attribute) => {
      const [key, ...words] = attribute.split('=');
      return [key?.trim().toLowerCase(), words.join('=').trim()];
    }),
  );
  const isSecure = attributes.has('secure');
  if (isSecure && protocol !== 'https:') return 'is for https alone, and comes by http';
  const given = attributes.get('domain')?.toLowerCase();
  if (given) {
    const domain = given.replace(/^\.+/, '');
    if (!covers(domain, hostname)) return 'is for another domain';
    if (!domain.includes('.') && given !== hostname) return 'is for a whole top-level domain';
  }
  if (attributes.get('samesite')?.toLowerCase() === 'none' && !isSecure) return 'is for other sites, and not for https alone';
  if (name.startsWith('__Secure-') && !isSecure) return 'has a name for https alone, and is not';
  const isOfHost = isSecure && !attributes.has('domain') && attributes.get('path') === '/';
  if (name.startsWith('__Host-') && !isOfHost) return 'has a name for one host alone, and is not';
  return undefined;
}

/** Whether a cookie's domain covers a host (RFC 6265 section 5.1.3). */
function covers(domain: string, host: string): boolean {
  return host === domain || (host.endsWith(`.${domain}`) && isIP(host) === 0);
}
