// The certificates of servers that were imported on first use (`tls: trust`). The
// entry `NAME.trust` is that of the reference host (host/STORE.md,
// host/src/http_client/certificates.rs), so that both believe the same servers.
import { createHash } from 'node:crypto';
import { checkLoaded, checkSwapped, StoreError, type TokenStore } from './store.js';
import { inTime } from './time.js';
import type { TokenwellEvent } from './types.js';

/** What was imported for a server. */
interface Import {
  /** The SHA-256 fingerprint of the certificate, in hexadecimal. */
  sha256: string;
  /** When, in seconds since 1970. */
  imported_at: number;
  /** The certificate, DER in base64. */
  certificate: string;
}

/** What imported certificates need of their host. */
export interface TrustParts {
  store: TokenStore;
  hostTimeoutMs: number;
  emit(event: TokenwellEvent): void;
}

/** The certificates imported for a connection, by host and port. */
export class TrustEntry {
  readonly #connection: string;
  readonly #key: string;
  readonly #parts: TrustParts;

  constructor(connection: string, parts: TrustParts) {
    this.#connection = connection;
    this.#key = `${connection}.trust`;
    this.#parts = parts;
  }

  /** The fingerprint of what was imported for a server. */
  async imported(server: string): Promise<string | undefined> {
    return (await this.#load()).servers.get(server)?.sha256;
  }

  /**
   * Imports what a server has shown. Where another process has imported something
   * else meanwhile, that holds, and this is refused.
   */
  async import(server: string, certificate: Buffer): Promise<void> {
    const sha256 = fingerprint(certificate);
    for (;;) {
      const { servers, version } = await this.#load();
      const held = servers.get(server);
      if (held !== undefined) {
        check(server, held.sha256, certificate);
        return;
      }
      const imported_at = Math.floor(Date.now() / 1000);
      servers.set(server, { sha256, imported_at, certificate: certificate.toString('base64') });
      // In the order of the reference host.
      const sorted = [...servers].sort(([one], [other]) => (one < other ? -1 : 1));
      const value = Buffer.from(JSON.stringify({ servers: Object.fromEntries(sorted) }, null, 2));
      const swapped = await this.#ask('compareAndSwap', (store) => store.compareAndSwap(this.#key, version, value, undefined));
      if (checkSwapped(swapped).status !== 'stored') continue;
      this.#parts.emit({
        at: new Date(),
        connection: this.#connection,
        kind: 'certificate-imported',
        message: `imported the certificate of ${server}, which the system does not vouch for: SHA-256 ${sha256}`,
        details: { server },
      });
      return;
    }
  }

  /** Forgets what was imported. */
  async clear(): Promise<void> {
    for (;;) {
      const loaded = checkLoaded(await this.#ask('load', (store) => store.load(this.#key, undefined)));
      if (loaded === undefined || loaded === 'unchanged') return;
      // Somebody else may have written it meanwhile.
      if (await this.#ask('delete', (store) => store.delete(this.#key, loaded.version))) return;
    }
  }

  async #load(): Promise<{ servers: Map<string, Import>; version: bigint | undefined }> {
    const loaded = checkLoaded(await this.#ask('load', (store) => store.load(this.#key, undefined)));
    if (loaded === undefined || loaded === 'unchanged') return { servers: new Map(), version: undefined };
    const servers = serversIn(loaded.value);
    if (servers === undefined) throw new StoreError('corrupt', `the store's entry ${this.#key} is damaged`);
    return { servers, version: loaded.version };
  }

  async #ask<T>(what: string, ask: (store: TokenStore) => T | Promise<T>): Promise<T> {
    const { store, hostTimeoutMs } = this.#parts;
    try {
      return await inTime(`store.${what}`, (async () => ask(store))(), hostTimeoutMs);
    } catch (error) {
      if (error instanceof StoreError) throw error;
      const why = error instanceof Error ? error.message : String(error);
      throw new StoreError('unavailable', why, { cause: error });
    }
  }
}

function serversIn(value: Uint8Array): Map<string, Import> | undefined {
  let content: { servers?: unknown } | null;
  try {
    content = JSON.parse(Buffer.from(value).toString('utf8')) as typeof content;
  } catch {
    return undefined;
  }
  const servers = content?.servers;
  if (typeof servers !== 'object' || servers === null || Array.isArray(servers)) return undefined;
  for (const held of Object.values(servers) as (Partial<Import> | null)[]) {
    const { sha256, imported_at, certificate } = held ?? {};
    if (typeof sha256 !== 'string' || typeof imported_at !== 'number' || typeof certificate !== 'string') return undefined;
  }
  return new Map(Object.entries(servers as Record<string, Import>));
}

/** The SHA-256 fingerprint of a certificate. */
function fingerprint(certificate: Buffer): string {
  return createHash('sha256').update(certificate).digest('hex');
}

/** Another certificate than the one that was imported. */
export class Replaced extends Error {}

/** Refuses another certificate than the one that was imported. */
export function check(server: string, imported: string, certificate: Buffer): void {
  const shown = fingerprint(certificate);
  if (shown === imported) return;
  throw new Replaced(
    `${server} shows another certificate, SHA-256 ${shown}, than the one that was imported for it, ${imported}; if it has been replaced by its owner, clear the connection's trust`,
  );
}
