// Views of a batch's items, pixel by pixel in float64: nested arrays of planes are turned as wholes, and boxes are copied.
import type { View } from '../../engine/method.js';
import { at, fromIndex, type NdArray } from './nd-array.js';

/** Where the turned plane [height, width] shows its pixel (row, column): the turn applied to a plane of places. */
export function turnedPlaces(turn: number, height: number, width: number): [number, number][][] {
  const places = Array.from({ length: height }, (_, r) =>
    Array.from({ length: width }, (_, c): [number, number] => [r, c]),
  );
  let plane = places;
  const quarters = height === width ? turn & 3 : turn & 2;
  for (let i = 0; i < quarters; i++) {
    const [rows, columns] = [plane.length, plane[0]!.length];
    const before = plane; // a quarter turn counter-clockwise: the last column becomes the first row
    plane = Array.from({ length: columns }, (_, r) =>
      Array.from({ length: rows }, (_, c) => before[c]![columns - 1 - r]!),
    );
  }
  return turn >= 4 ? plane.map((row) => [...row].reverse()) : plane;
}

/** For each output pixel [item, (plane,) row, column]: the item that it shows, and the place in it. */
export function sourceOf(views: readonly View[], index: readonly number[], shape: readonly number[]): number[] {
  const [item, ...place] = index as [number, ...number[]];
  const [plane, row, column] = place.length === 2 ? [0, ...place] : place;
  const v = views[item]!;
  const inside =
    plane! >= (v.firstPlane ?? 0) &&
    plane! < (v.endPlane ?? 1) &&
    row! >= (v.firstRow ?? 0) &&
    row! < (v.endRow ?? 0) &&
    column! >= (v.firstColumn ?? 0) &&
    column! < (v.endColumn ?? 0);
  const from = inside ? item + (v.partner ?? 0) : item;
  const [height, width] = [shape.at(-2)!, shape.at(-1)!];
  const [r, c] = turnedPlaces(views[from]!.turn ?? 0, height, width)[row!]![column!]!;
  return place.length === 2 ? [from, r, c] : [from, plane!, r, c];
}

/** mixItems of x [N, (D,) H, W, C]. */
export const mixItems = (x: NdArray, views: readonly View[]): NdArray =>
  fromIndex(x.shape, (index) => {
    const pixel = index.slice(0, -1);
    return at(x, [...sourceOf(views, pixel, x.shape.slice(0, -1)), index.at(-1)!]);
  });

/** The strong views of x [N, (D,) H, W, C]; `normal(i)` is the number that noise of deviation 1 adds to element i. */
export function strongViews(x: NdArray, views: readonly View[], normal: (i: number) => number): NdArray {
  const sides = x.shape.slice(0, -1);
  const perItem = x.data.length / x.shape[0]!;
  const means = views.map((_, item) => {
    let sum = 0;
    for (let i = 0; i < perItem; i++) sum += x.data[item * perItem + i]!;
    return sum / perItem;
  });
  let element = 0;
  return fromIndex(x.shape, (index) => {
    const source = sourceOf(views, index.slice(0, -1), sides);
    const channel = index.at(-1)!;
    const { gamma = 1, contrast = 1, brightness = 0, blur = 0, noise = 0 } = views[source[0]!]!;
    let v = at(x, [...source, channel]);
    if (blur) v = blurred(x, source, channel, blur);
    v = Math.sign(v) * Math.abs(v) ** gamma;
    const m = means[source[0]!]!;
    return m + contrast * (v - m) + brightness + noise * normal(element++);
  });
}

function blurred(x: NdArray, source: readonly number[], channel: number, deviation: number): number {
  const [row, column] = [source.at(-2)!, source.at(-1)!];
  const [height, width] = [x.shape.at(-3)!, x.shape.at(-2)!];
  let [sum, weights] = [0, 0];
  for (let r = row - 3; r <= row + 3; r++) {
    for (let c = column - 3; c <= column + 3; c++) {
      if (r < 0 || c < 0 || r >= height || c >= width) continue;
      const weight = Math.exp(-((r - row) ** 2 + (c - column) ** 2) / (2 * deviation ** 2));
      sum += weight * at(x, [...source.slice(0, -2), r, c, channel]);
      weights += weight;
    }
  }
  return sum / weights;
}
