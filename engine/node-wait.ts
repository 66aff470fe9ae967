// Waits under Node for a driver that runs on the CPU. Dawn polls once in every turn of Node's event loop, so a program that waits
// keeps a whole core busy, which the driver needs for computing and compiling.

const never = new Int32Array(new SharedArrayBuffer(4));
let waiting = 0;
let since = 0;
let isResting = false;

/** Lengthens each turn of the event loop by an eighth of the wait so far, at most a millisecond. */
function rest(): void {
  isResting = waiting > 0;
  if (!isResting) return;
  const pause = Math.min(1, (performance.now() - since) / 8);
  if (pause > 0.05) Atomics.wait(never, 0, 0, pause);
  setImmediate(rest);
}

/** Waits as `await` does, and leaves the core to others meanwhile. */
export async function restWhile<T>(promise: Promise<T>): Promise<T> {
  if (waiting++ === 0) since = performance.now();
  if (!isResting) {
    isResting = true;
    setImmediate(rest);
  }
  try {
    return await promise;
  } finally {
    waiting--;
  }
}
