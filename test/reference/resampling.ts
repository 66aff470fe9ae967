// Pooling, upsampling by a whole factor and resizing of [N, …, C], by plain loops.
import { at, fromIndex, type NdArray, ndArray } from './nd-array.js';

/** All corners of a cube of that many axes, the last axis fastest: [0, 0], [0, 1], … */
const corners = (axes: number): number[][] =>
  Array.from({ length: 2 ** axes }, (_, i) => Array.from({ length: axes }, (_, axis) => (i >> (axes - 1 - axis)) & 1));

const scaled = ({ shape }: NdArray, scale: (n: number) => number): number[] => [
  shape[0]!,
  ...shape.slice(1, -1).map(scale),
  shape.at(-1)!,
];

const windowOf = (x: NdArray, [item, ...rest]: readonly number[]): number[] => {
  const channel = rest.pop()!;
  return corners(rest.length).map((corner) => at(x, [item!, ...rest.map((n, i) => 2 * n + corner[i]!), channel]));
};

export const maxPool = (x: NdArray): NdArray =>
  fromIndex(
    scaled(x, (n) => Math.floor(n / 2)),
    (index) => Math.max(...windowOf(x, index)),
  );

export const averagePool = (x: NdArray): NdArray =>
  fromIndex(
    scaled(x, (n) => Math.floor(n / 2)),
    (index) => windowOf(x, index).reduce((sum, v, _, all) => sum + v / all.length, 0),
  );

export interface Windows {
  window: readonly number[];
  stride: readonly number[];
  padding: readonly (readonly [number, number])[];
  dilation: readonly number[];
  ceil?: boolean;
  countPadding?: boolean;
}

/**
 * The windows of pooling as PyTorch defines it, one for each output: places of its pixels in x, and how many there are with the padding.
 * Windows that begin beyond the image are left out, and what `ceil` adds never counts.
 */
export function windowsOf(
  xShape: readonly number[],
  of: Windows,
): { shape: number[]; windows: { members: number[]; count: number }[] } {
  const sides = xShape.slice(1, -1);
  const channels = xShape.at(-1)!;
  const outputs = sides.map((n, k) => {
    const [before, after] = of.padding[k]!;
    for (let count = 0; ; count++) {
      const begin = count * of.stride[k]! - before;
      const last = begin + (of.window[k]! - 1) * of.dilation[k]!;
      const isWanted = count === 0 || last - of.stride[k]! < n + after - 1;
      if (last >= n + after && !(of.ceil && begin < n && isWanted)) return count;
    }
  });
  const shape = [xShape[0]!, ...outputs, channels];
  const windows: { members: number[]; count: number }[] = [];
  fromIndex(shape, ([item, ...rest]) => {
    const channel = rest.pop()!;
    const members: number[] = [];
    let count = 0;
    const walk = (k: number, pixel: number, isInside: boolean): void => {
      if (k === sides.length) {
        if (isInside) members.push(pixel * channels + channel);
        count++;
        return;
      }
      for (let t = 0; t < of.window[k]!; t++) {
        const p = rest[k]! * of.stride[k]! + t * of.dilation[k]! - of.padding[k]![0];
        if (p < sides[k]! + of.padding[k]![1]) walk(k + 1, pixel * sides[k]! + p, isInside && p >= 0 && p < sides[k]!);
      }
    };
    walk(0, item!, true);
    return windows.push({ members, count });
  });
  return { shape, windows };
}

/** Pooling as PyTorch defines it. */
export function windowPool(x: NdArray, kind: 'max' | 'average', of: Windows): NdArray {
  const { shape, windows } = windowsOf(x.shape, of);
  const y = windows.map(({ members, count }) => {
    const values = members.map((i) => x.data[i]!);
    if (kind === 'max') return Math.max(...values);
    return values.reduce((sum, v) => sum + v, 0) / (of.countPadding ? count : values.length);
  });
  return ndArray(shape, y);
}

/** Linear interpolation on an axis of `size` inputs and factor·size outputs with aligned corners. */
const position = (out: number, size: number, factor: number): [low: number, high: number, fraction: number] => {
  const exact = (out * (size - 1)) / (factor * size - 1);
  const low = Math.min(size - 1, Math.floor(exact + 1e-12));
  return [low, Math.min(size - 1, low + 1), exact - low];
};

export const upsample = (x: NdArray, factor = 2, mode: 'linear' | 'nearest' = 'linear'): NdArray =>
  fromIndex(
    scaled(x, (n) => factor * n),
    ([item, ...rest]) => {
      const channel = rest.pop()!;
      if (mode === 'nearest') return at(x, [item!, ...rest.map((out) => Math.floor(out / factor)), channel]);
      const places = rest.map((out, axis) => position(out, x.shape[axis + 1]!, factor));
      return corners(rest.length).reduce((sum, corner) => {
        const weight = places.reduce((w, [, , fraction], i) => w * (corner[i] ? fraction : 1 - fraction), 1);
        return sum + weight * at(x, [item!, ...places.map((place, i) => place[corner[i]!]!), channel]);
      }, 0);
    },
  );

/** Weight of the input `distance` away from a position. */
const kernels = {
  linear: (distance: number): number => Math.max(0, 1 - Math.abs(distance)),
  cubic: (distance: number): number => {
    const [a, t] = [-0.75, Math.abs(distance)];
    if (t >= 2) return 0;
    return t <= 1 ? (a + 2) * t ** 3 - (a + 3) * t ** 2 + 1 : a * t ** 3 - 5 * a * t ** 2 + 8 * a * t - 4 * a;
  },
};

/** What `size` inputs weigh in each of `outputs` along an axis, as PyTorch defines it; `scale` is undefined where sizes were given. */
export const resizeWeights = (
  size: number,
  outputs: number,
  scale: number | undefined,
  mode: 'linear' | 'cubic' | 'nearest',
  alignCorners: boolean,
): Float64Array[] =>
  Array.from({ length: outputs }, (_, i) => {
    const step = scale === undefined ? size / outputs : 1 / scale;
    const aligned = outputs > 1 ? (i * (size - 1)) / (outputs - 1) : 0;
    const weights = new Float64Array(size);
    if (mode === 'nearest') {
      weights[Math.min(Math.floor(alignCorners ? aligned + 0.5 : (i + 0.5) * step), size - 1)] = 1;
      return weights;
    }
    const position = alignCorners ? aligned : (i + 0.5) * step - 0.5;
    for (let place = Math.floor(position) - 2; place <= position + 3; place++) {
      weights[Math.min(Math.max(place, 0), size - 1)]! += kernels[mode](position - place);
    }
    return weights;
  });

/** Resizing as PyTorch defines it; `scale` is undefined where sizes were given. */
export function resize(
  x: NdArray,
  sides: readonly number[],
  scale: readonly number[] | undefined,
  mode: 'linear' | 'cubic' | 'nearest',
  alignCorners: boolean,
): NdArray {
  const inputs = x.shape.slice(1, -1);
  const weights = inputs.map((n, axis) => resizeWeights(n, sides[axis]!, scale?.[axis], mode, alignCorners));
  return fromIndex([x.shape[0]!, ...sides, x.shape.at(-1)!], ([item, ...rest]) => {
    const channel = rest.pop()!;
    const walk = (place: number[]): number => {
      const axis = place.length;
      if (axis === inputs.length) return at(x, [item!, ...place, channel]);
      return weights[axis]![rest[axis]!]!.reduce((sum, w, i) => (w ? sum + w * walk([...place, i]) : sum), 0);
    };
    return walk([]);
  });
}
