/** How long a promise of the application's may take where nothing else is said, in milliseconds. */
export const HOST_TIMEOUT_MS = 30_000;

/** A promise of the application's that has not settled. */
export class Unsettled extends Error {}

/** Waits for a promise of the application's, and not for ever. */
export async function inTime<T>(what: string, promise: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Unsettled(`${what} has not settled within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
