// The key file: random sealing keys beside what they seal, for their owner's eyes
// alone. `DIR/tokenwell.key` is described in host/STORE.md.
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import * as files from './files.js';
import type { SealingKey } from './seal.js';
import { SecretError } from './secrets.js';
import { StoreError } from './store.js';

const FORMAT = 'tokenwell-key';
const FILE_NAME = 'tokenwell.key';

/** A key of the file. */
interface KeptKey {
  key: SealingKey;
  /** Whether more than one store may be sealed under it. */
  isShared: boolean;
}

/** The key file of a directory. */
export class KeyFile {
  readonly path: string;
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
    this.path = join(directory, FILE_NAME);
  }

  /** The keys, the one that seals first; none where there is no file. */
  async read(): Promise<SealingKey[]> {
    return (await this.#kept()).map(({ key }) => key);
  }

  /** The first key, which is made where there is none; and whether it was. */
  async firstOrCreate(newKey: () => SealingKey): Promise<{ key: SealingKey; isMade: boolean }> {
    const [first] = await this.read();
    if (first !== undefined) return { key: first, isMade: false };
    return this.#change((kept) => {
      // Another process may have been quicker.
      if (kept[0] !== undefined) return { key: kept[0].key, isMade: false };
      const key = newKey();
      kept.push({ key, isShared: false });
      return { key, isMade: true };
    });
  }

  /** Marks a key, where it is there, as one that another store may be sealed under as well. */
  async share(id: string): Promise<void> {
    const has = ({ key, isShared }: KeptKey) => key.id === id && !isShared;
    if (!(await this.#kept()).some(has)) return;
    await this.#change((kept) => {
      for (const key of kept.filter(has)) key.isShared = true;
    });
  }

  async #kept(): Promise<KeptKey[]> {
    const content = await attempt('reading', this.path, async () => {
      const bytes = await files.readIfThere(this.path);
      if (bytes === undefined) return undefined;
      const { mode } = await fs.stat(this.path);
      if (process.platform !== 'win32' && (mode & 0o077) !== 0) {
        throw new SecretError(
          'denied',
          `${this.path} can be read by others than its owner: \`chmod 600\` it`,
        );
      }
      return bytes.toString('utf8');
    });
    if (content === undefined) return [];
    const keys = keysIn(content);
    if (keys === undefined) throw new SecretError('unavailable', `${this.path} is not a whole key file`);
    return keys;
  }

  /** Changes the keys; a file without any is removed. */
  async #change<T>(change: (kept: KeptKey[]) => T): Promise<T> {
    return attempt('locking', this.path, async () => {
      const locks = join(this.#directory, '.locks');
      await files.createPrivateDirectory(locks);
      return files.withLock(join(locks, `${FILE_NAME}.lock`), async () => {
        const kept = await this.#kept();
        const done = change(kept);
        const [first, ...others] = kept.map(stored);
        const content = { format: FORMAT, ...first, ...(others.length > 0 ? { others } : {}) };
        await attempt('writing', this.path, () =>
          first === undefined ? files.removeIfThere(this.path) : files.replace(this.path, `${JSON.stringify(content)}\n`, true),
        );
        return done;
      });
    });
  }
}

function stored({ key: { id, key }, isShared }: KeptKey): object {
  return { id, key: Buffer.from(key).toString('base64'), ...(isShared ? { shared: true } : {}) };
}

function keysIn(content: string): KeptKey[] | undefined {
  let file: { format?: unknown; others?: unknown };
  try {
    file = JSON.parse(content) as typeof file;
  } catch {
    return undefined;
  }
  if (typeof file !== 'object' || file === null || file.format !== FORMAT) return undefined;
  const others = file.others ?? [];
  if (!Array.isArray(others)) return undefined;
  const keys: KeptKey[] = [];
  for (const stored of [file, ...(others as unknown[])]) {
    const { id, key, shared = false } = (stored ?? {}) as { id?: unknown; key?: unknown; shared?: unknown };
    if (typeof id !== 'string' || typeof key !== 'string' || typeof shared !== 'boolean') return undefined;
    const bytes = Buffer.from(key, 'base64');
    if (bytes.length !== 32) return undefined;
    keys.push({ key: { id, key: bytes }, isShared: shared });
  }
  return keys;
}

/** Does something to a file; what fails is told as a secret that cannot be had. */
export async function attempt<T>(doing: string, path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof SecretError) throw error;
    if (error instanceof StoreError) throw new SecretError('unavailable', error.message, { cause: error });
    const why = error instanceof Error ? error.message : String(error);
    throw new SecretError(files.isMissing(error) ? 'not-found' : 'unavailable', `${doing} ${path} failed: ${why}`, { cause: error });
  }
}
