// Files that hold secrets or tokens: private, written whole or not at all, and
// locked against other processes, as the reference host does it.
import { constants } from 'node:fs';
import * as fs from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { tryLock } from './flock.js';

const { O_CREAT, O_EXCL, O_RDWR } = constants;

/** How long to wait for a lock that is held only for short writes. */
const LOCK_TIMEOUT_MS = 10_000;

export function codeOf(error: unknown): string | undefined {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  return typeof code === 'string' ? code : undefined;
}

export function isMissing(error: unknown): boolean {
  return codeOf(error) === 'ENOENT';
}

/** Creates a directory, and those above it, that nobody else can look into. */
export async function createPrivateDirectory(path: string): Promise<void> {
  await fs.mkdir(path, { recursive: true, mode: 0o700 });
}

/** Reads a file; `undefined` where there is none. */
export async function readIfThere(path: string): Promise<Buffer | undefined> {
  try {
    return await fs.readFile(path);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

export async function removeIfThere(path: string): Promise<void> {
  try {
    await fs.unlink(path);
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}

/** Makes creations, renamings and deletions in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await fs.open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/**
 * Puts a private file in place of whatever is there, so that a reader sees either
 * the old content or the new. The caller holds the lock that keeps others from
 * writing the same file.
 */
export async function replace(path: string, content: string | Uint8Array, durable: boolean): Promise<void> {
  const directory = dirname(path);
  const temporary = join(directory, `.${basename(path)}.tmp`);
  // What a writer that died has left behind.
  await removeIfThere(temporary);
  try {
    const file = await fs.open(temporary, O_RDWR | O_CREAT | O_EXCL, 0o600);
    try {
      await file.writeFile(content);
      if (durable) await file.sync();
    } finally {
      await file.close();
    }
    await fs.rename(temporary, path);
  } catch (error) {
    // The first error is the one to report.
    await fs.unlink(temporary).catch(() => undefined);
    throw error;
  }
  if (durable) await syncDirectory(directory);
}

/** Opens a private file to be locked, creating it where that is wanted. */
export function openPrivate(path: string, create: boolean): Promise<fs.FileHandle> {
  return fs.open(path, create ? O_RDWR | O_CREAT : O_RDWR, 0o600);
}

/** Holds the lock on a file, which is created where needed, while that is done. */
export async function withLock<T>(path: string, work: () => Promise<T>): Promise<T> {
  const file = await openPrivate(path, true);
  try {
    const until = performance.now() + LOCK_TIMEOUT_MS;
    let pause = 1;
    while (!tryLock(file.fd)) {
      if (performance.now() >= until) {
        throw Object.assign(new Error(`${path} is locked by another process`), { code: 'ETIMEDOUT' });
      }
      await sleep(pause);
      pause = Math.min(pause * 2, 10);
    }
    return await work();
  } finally {
    await file.close();
  }
}
