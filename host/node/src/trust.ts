// How the servers of a connection were first met (`tls: trust`): by a certificate
// that the system vouches for, or by one that was imported. The entry `NAME.trust` is
// that of the reference host (host/STORE.md, host/src/http_client/certificates.rs), so
// that both believe the same servers.
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

/**
 * What a server is held to: the certificate that was imported for it, by its
 * fingerprint, or one that the system vouches for, as it did when the server was
 * first met.
 */
export type HeldTo = { imported: string } | 'vouched';

/** What a server shows. */
export interface Shown {
  certificate: Buffer;
  /** Whether the system vouches for it. */
  isVouchedFor: boolean;
}

/** How servers were first met, each by host and port, in one or the other. */
interface Met {
  servers: Map<string, Import>;
  /** An entry from before there were any has no such list. */
  vouchedFor: Set<string>;
}

/** What imported certificates need of their host. */
export interface TrustParts {
  store: TokenStore;
  hostTimeoutMs: number;
  emit(event: TokenwellEvent): void;
}

/** How a connection first met its servers. */
export class TrustEntry {
  readonly #connection: string;
  readonly #key: string;
  readonly #parts: TrustParts;

  constructor(connection: string, parts: TrustParts) {
    this.#connection = connection;
    this.#key = `${connection}.trust`;
    this.#parts = parts;
  }

  /** What a server is held to, where it was met before. */
  async heldTo(server: string): Promise<HeldTo | undefined> {
    return heldTo(await this.#load(), server);
  }

  /**
   * Writes down how a server was first met. Where another process has met it
   * meanwhile, that holds, and what is shown may be refused.
   */
  async meet(server: string, shown: Shown): Promise<void> {
    for (;;) {
      const { version, ...met } = await this.#load();
      const held = heldTo(met, server);
      if (held !== undefined) {
        check(server, held, shown);
        return;
      }
      const sha256 = fingerprint(shown.certificate);
      if (shown.isVouchedFor) {
        met.vouchedFor.add(server);
      } else {
        const imported_at = Math.floor(Date.now() / 1000);
        met.servers.set(server, { sha256, imported_at, certificate: shown.certificate.toString('base64') });
      }
      const swapped = await this.#ask('compareAndSwap', (store) => store.compareAndSwap(this.#key, version, written(met), undefined));
      if (checkSwapped(swapped).status !== 'stored') continue;
      if (shown.isVouchedFor) return;
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

  /** Forgets how the servers were met. */
  async clear(): Promise<void> {
    for (;;) {
      const loaded = checkLoaded(await this.#ask('load', (store) => store.load(this.#key, undefined)));
      if (loaded === undefined || loaded === 'unchanged') return;
      // Somebody else may have written it meanwhile.
      if (await this.#ask('delete', (store) => store.delete(this.#key, loaded.version))) return;
    }
  }

  async #load(): Promise<Met & { version: bigint | undefined }> {
    const loaded = checkLoaded(await this.#ask('load', (store) => store.load(this.#key, undefined)));
    if (loaded === undefined || loaded === 'unchanged') return { servers: new Map(), vouchedFor: new Set(), version: undefined };
    const met = metIn(loaded.value);
    if (met === undefined) throw new StoreError('corrupt', `the store's entry ${this.#key} is damaged`);
    return { ...met, version: loaded.version };
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

function heldTo({ servers, vouchedFor }: Met, server: string): HeldTo | undefined {
  if (vouchedFor.has(server)) return 'vouched';
  const held = servers.get(server);
  return held && { imported: held.sha256 };
}

function metIn(value: Uint8Array): Met | undefined {
  let content: { servers?: unknown; vouched_for?: unknown } | null;
  try {
    content = JSON.parse(Buffer.from(value).toString('utf8')) as typeof content;
  } catch {
    return undefined;
  }
  const { servers, vouched_for: vouchedFor = [] } = content ?? {};
  if (typeof servers !== 'object' || servers === null || Array.isArray(servers)) return undefined;
  for (const held of Object.values(servers) as (Partial<Import> | null)[]) {
    const { sha256, imported_at, certificate } = held ?? {};
    if (typeof sha256 !== 'string' || typeof imported_at !== 'number' || typeof certificate !== 'string') return undefined;
  }
  if (!Array.isArray(vouchedFor) || !vouchedFor.every((server) => typeof server === 'string')) return undefined;
  return { servers: new Map(Object.entries(servers as Record<string, Import>)), vouchedFor: new Set(vouchedFor) };
}

/** The entry, in the order of the reference host. */
function written({ servers, vouchedFor }: Met): Buffer {
  const sorted = [...servers].sort(([one], [other]) => (one < other ? -1 : 1));
  const vouched = vouchedFor.size === 0 ? {} : { vouched_for: [...vouchedFor].sort() };
  return Buffer.from(JSON.stringify({ servers: Object.fromEntries(sorted), ...vouched }, null, 2));
}

/** The SHA-256 fingerprint of a certificate. */
function fingerprint(certificate: Buffer): string {
  return createHash('sha256').update(certificate).digest('hex');
}

/** Another certificate than the server is held to. */
export class Replaced extends Error {}

/** Refuses another certificate than the server is held to. */
export function check(server: string, held: HeldTo, { certificate, isVouchedFor }: Shown): void {
  const sha256 = fingerprint(certificate);
  if (held === 'vouched' ? isVouchedFor : held.imported === sha256) return;
  const what =
    held === 'vouched'
      ? `a certificate that the system does not vouch for, SHA-256 ${sha256}, and showed one that it does when it was first met`
      : `another certificate, SHA-256 ${sha256}, than the one that was imported for it, ${held.imported}`;
  throw new Replaced(`${server} shows ${what}; if it has been replaced by its owner, clear the connection's trust`);
}
