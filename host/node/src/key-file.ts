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

  /** The keys, a first one being made where there is none. */
  async readOrCreate(newKey: () => SealingKey): Promise<SealingKey[]> {
    const keys = await this.read();
    if (keys.length > 0) return keys;
    return attempt('locking', this.path, async () => {
      const locks = join(this.#directory, '.locks');
      await files.createPrivateDirectory(locks);
      return files.withLock(join(locks, `${FILE_NAME}.lock`), async () => {
        // Another process may have been quicker.
        const theirs = await this.read();
        if (theirs.length > 0) return theirs;
        const { id, key } = newKey();
        const content = { format: FORMAT, id, key: Buffer.from(key).toString('base64') };
        await attempt('writing', this.path, () => files.replace(this.path, `${JSON.stringify(content)}\n`, true));
        return [{ id, key }];
      });
    });
  }
}

function keysIn(content: string): SealingKey[] | undefined {
  let file: { format?: unknown; id?: unknown; key?: unknown; others?: unknown };
  try {
    file = JSON.parse(content) as typeof file;
  } catch {
    return undefined;
  }
  if (typeof file !== 'object' || file === null || file.format !== FORMAT) return undefined;
  const others = file.others ?? [];
  if (!Array.isArray(others)) return undefined;
  const keys: SealingKey[] = [];
  for (const stored of [file, ...(others as unknown[])]) {
    const { id, key } = (stored ?? {}) as { id?: unknown; key?: unknown };
    if (typeof id !== 'string' || typeof key !== 'string') return undefined;
    const bytes = Buffer.from(key, 'base64');
    if (bytes.length !== 32) return undefined;
    keys.push({ id, key: bytes });
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
    const code = files.codeOf(error);
    const kind =
      code === 'ENOENT' ? 'not-found' : code === 'EACCES' || code === 'EPERM' || code === 'EROFS' ? 'denied' : 'unavailable';
    const why = error instanceof Error ? error.message : String(error);
    throw new SecretError(kind, `${doing} ${path} failed: ${why}`, { cause: error });
  }
}
