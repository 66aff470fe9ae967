// "This call throws that error": uvu's assert.throws takes no error class, and no promise.

// biome-ignore lint/suspicious/noExplicitAny: error classes take different arguments
type ErrorClass = new (...args: any[]) => Error;

/** Throws unless `work` throws (or rejects with) an error of this class whose message matches. */
export async function refuses(work: () => unknown, kind: ErrorClass, message: RegExp): Promise<void> {
  let error: unknown;
  try {
    await work();
  } catch (reason) {
    error = reason;
  }
  if (error === undefined) throw new Error(`nothing was thrown, expected ${kind.name} ${message}.`);
  if (!(error instanceof kind) || !message.test(error.message)) {
    throw new Error(`expected ${kind.name} ${message} — got ${String(error)}`);
  }
}
