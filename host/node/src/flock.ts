// The lock that the reference host holds files with: `flock` (Linux, macOS, BSD).
// Node has none, and no package that is prebuilt does this one (`fcntl` locks,
// which some do, are others and exclude nobody here): it is called in the C
// library, by Koffi.
import { createRequire } from 'node:module';
import { constants } from 'node:os';
import { StoreError } from './store.js';

const LOCK_EX = 2;
const LOCK_NB = 4;
const LOCK_UN = 8;

interface Flock {
  (descriptor: number, operation: number): number;
}

interface Koffi {
  load(path: string | null): { func(prototype: string): Flock };
  errno(): number;
}

let loaded: { flock: Flock; errno(): number } | undefined;

function load(): { flock: Flock; errno(): number } {
  if (loaded !== undefined) return loaded;
  if (process.platform === 'win32') {
    throw new StoreError('unavailable', 'a store of files is not supported on Windows; give a `store` of your own');
  }
  try {
    const koffi = createRequire(import.meta.url)('koffi') as Koffi;
    // Of the running program, which has the C library.
    const flock = koffi.load(null).func('int flock(int descriptor, int operation)');
    loaded = { flock, errno: () => koffi.errno() };
    return loaded;
  } catch (error) {
    throw new StoreError(
      'unavailable',
      `files cannot be locked here: the package koffi does not load on ${process.platform} ${process.arch}`,
      { cause: error },
    );
  }
}

/** Locks an open file against all other openings of it; false: one of them has it. */
export function tryLock(descriptor: number): boolean {
  const { flock, errno } = load();
  for (;;) {
    if (flock(descriptor, LOCK_EX | LOCK_NB) === 0) return true;
    const error = errno();
    if (error === constants.errno.EWOULDBLOCK || error === constants.errno.EAGAIN) return false;
    if (error !== constants.errno.EINTR) throw new StoreError('unavailable', `flock failed with the error ${error}`);
  }
}

/** Ends it. It ends with the file's last descriptor too, and with the process. */
export function unlock(descriptor: number): void {
  load().flock(descriptor, LOCK_UN);
}
