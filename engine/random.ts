// Counter-based random numbers on the CPU: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
// SC 2011). The same counter and key give the same numbers here and in shaders/philox.ts, so nothing keeps state.

function multiply(a: number, b: number): [high: number, low: number] {
  // 32×32 → 64 bits in 16-bit halves; every intermediate is below 2^53.
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const low = a * bLow; // < 2^48
  const high = a * bHigh; // < 2^48
  const sum = high + Math.floor(low / 65536); // < 2^49
  return [Math.floor(sum / 65536) >>> 0, Math.imul(a, b) >>> 0];
}

/**
 * Four uniform u32 for a 128-bit counter and a 64-bit key.
 * @example
 * console.log(philox4x32([0, 0, 0, 0], [0, 0])[0].toString(16)); // 6627e8d5
 */
export function philox4x32(counter: readonly number[], key: readonly number[]): [number, number, number, number] {
  let [c0, c1, c2, c3] = [counter[0]! >>> 0, counter[1]! >>> 0, counter[2]! >>> 0, counter[3]! >>> 0];
  let [k0, k1] = [key[0]! >>> 0, key[1]! >>> 0];
  for (let round = 0; round < 10; round++) {
    const [high0, low0] = multiply(0xd2511f53, c0);
    const [high1, low1] = multiply(0xcd9e8d57, c2);
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/**
 * A uniform number in [0, 1) with 24 random bits, from one u32: the same value in f32 and f64.
 * @example
 * console.log(toUniform(0x80000000)); // 0.5
 */
export const toUniform = (bits: number): number => (bits >>> 8) * 2 ** -24;

/**
 * A sequence of uniform numbers in [0, 1), fixed by the key; call it as `Math.random`.
 * @example
 * const random = uniformStream(1337);
 * console.log(random() !== random(), uniformStream(1337)() === uniformStream(1337)()); // true true
 */
export function uniformStream(seed: number, stream = 0): () => number {
  let counter = 0;
  let block = [0, 0, 0, 0];
  return () => {
    if (counter % 4 === 0) block = philox4x32([counter / 4, 0, 0, 0], [seed, stream]);
    return toUniform(block[counter++ % 4]!);
  };
}

/**
 * Standard normal numbers (Box–Muller) from a uniform stream.
 * @example
 * const normal = normalStream(uniformStream(1337));
 * console.log(Number.isFinite(normal())); // true
 */
export function normalStream(uniform: () => number): () => number {
  let spare: number | undefined;
  return () => {
    if (spare !== undefined) {
      const value = spare;
      spare = undefined;
      return value;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
    const angle = 2 * Math.PI * uniform();
    spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };
}
