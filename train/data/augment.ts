// The protocol's augmentation of a slice and its label: half of the time a quarter-turn rotation and a flip, else a
// rotation by up to ±20°. A transform is drawn from counters, so it depends on (seed, iteration, index in batch) alone.
import { philox4x32, toUniform } from '../../engine/index.js';

/** What is done to a slice; the same for image and label. */
export type Transform =
  | { readonly kind: 'identity' }
  /** `turns` quarter turns counter-clockwise, then a flip: axis 0 upside down, axis 1 left to right. */
  | { readonly kind: 'turnAndFlip'; readonly turns: 0 | 1 | 2 | 3; readonly flip: 0 | 1 }
  /** Counter-clockwise about the centre. */
  | { readonly kind: 'rotate'; readonly degrees: number };

const AUGMENT_STREAM = 0xa06; // keeps these numbers apart from others of the same seed

/** The transform of one item of one iteration's batch. */
export function drawTransform(seed: number, iteration: number, index: number): Transform {
  const [choice, turns, flip, angle] = philox4x32([index, iteration, 0, 0], [seed, AUGMENT_STREAM]);
  if (toUniform(choice) >= 0.5) return { kind: 'rotate', degrees: toUniform(angle) * 40 - 20 };
  return { kind: 'turnAndFlip', turns: (turns & 3) as 0 | 1 | 2 | 3, flip: (flip & 1) as 0 | 1 };
}

/** A transformed copy of a square picture [size, size], row-major; nearest neighbour, 0 where it looks outside. */
export function applyTransform<A extends Float32Array | Uint8Array>(source: A, size: number, transform: Transform): A {
  if (transform.kind === 'identity') return source.slice() as A;
  const result = new (source.constructor as new (length: number) => A)(size * size);
  if (transform.kind === 'turnAndFlip') turnAndFlip(source, result, size, transform.turns, transform.flip);
  else rotate(source, result, size, transform.degrees);
  return result;
}

function turnAndFlip(
  source: Float32Array | Uint8Array,
  result: Float32Array | Uint8Array,
  size: number,
  turns: 0 | 1 | 2 | 3,
  flip: 0 | 1,
): void {
  // Where turned[y, x] comes from, as first index + y·down + x·right in the source.
  const last = size - 1;
  const [first, down, right] = [
    [0, size, 1],
    [last, -1, size],
    [last * size + last, -size, -1],
    [last * size, 1, -size],
  ][turns] as [number, number, number];
  for (let y = 0; y < size; y++) {
    const row = (flip === 0 ? last - y : y) * size;
    for (let x = 0; x < size; x++) {
      result[row + (flip === 1 ? last - x : x)] = source[first + y * down + x * right]!;
    }
  }
}

function rotate(
  source: Float32Array | Uint8Array,
  result: Float32Array | Uint8Array,
  size: number,
  degrees: number,
): void {
  const cosine = Math.cos((degrees * Math.PI) / 180);
  const sine = Math.sin((degrees * Math.PI) / 180);
  const centre = (size - 1) / 2;
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      // The inverse rotation says where this pixel was; outside begins at the outermost pixel centres, as in scipy.
      const fromY = cosine * (y - centre) + sine * (x - centre) + centre;
      const fromX = cosine * (x - centre) - sine * (y - centre) + centre;
      if (fromY >= 0 && fromY <= size - 1 && fromX >= 0 && fromX <= size - 1) {
        result[y * size + x] = source[Math.floor(fromY + 0.5) * size + Math.floor(fromX + 0.5)]!;
      }
    }
  }
}
