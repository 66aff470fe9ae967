// Slices side by side: the image, and beside it what was drawn, predicted or kept, in colour over the same image. Labels are
// enlarged pixel by pixel, so that what one sees is what was predicted; only the grey image is interpolated.

import { cardiacClasses, namesOfClasses } from '../data/class-names.js';
import { blend, type Color, createCanvas, drawText, fillRectangle, fitText, textHeight, textWidth } from './canvas.js';
import { type Picture, writePng } from './png.js';

export { drawCurves } from './curves.js';

/**
 * One picture in a row, [height, width]: class labels, pixels that differ from a `reference` marked; or a mask (1 = kept); or nothing over
 * the image. `image` is another image than the row's, in the same grey levels.
 */
export type Cell = { title: string; image?: Float32Array } & (
  | { labels: Uint8Array; reference?: Uint8Array }
  | { mask: Uint8Array }
  | { image: Float32Array }
);

type Sides = readonly [height: number, width: number];

export interface SliceRow {
  caption: string;
  /** Of its image; default 'image'. Rows of one picture have the same. */
  title?: string;
  /** Sides of the slice in pixels. */
  height: number;
  width: number;
  /** Size of a pixel, down and across: the slice is shown in its true proportions. Default: pixels are squares, enlarged a whole number of times. */
  spacing?: readonly [number, number];
  /** [height, width], any range: shown from its 1st to its 99.5th percentile. */
  image: Float32Array;
  cells: readonly Cell[];
}

/** Right ventricle blue, myocardium green, left ventricle red; more classes follow. */
export const classColors: readonly Color[] = [
  [66, 135, 245],
  [60, 190, 90],
  [235, 64, 64],
  [240, 170, 30],
  [170, 90, 220],
  [30, 190, 200],
];
const maskColor: Color = [255, 204, 0];
const errorColor: Color = [255, 40, 220];
const background: Color = [22, 23, 27];
const bright: Color = [235, 235, 235];
const dim: Color = [160, 163, 170];

const scale = 2; // of the text
const gap = 10;
const line = textHeight(scale) + 8;
const cellPixels = 240; // a slice is enlarged by a whole factor to about this

/** Rows of slices as one PNG: the image, then every cell over the image; classes are named below. */
export function drawSlices(path: string, rows: readonly SliceRow[], classes?: number): void {
  if (rows.length) writePng(path, slicePicture(rows, classes));
}

/** The picture that `drawSlices` writes. `classes`: how many there are; only those of the heart, four, have names. */
export function slicePicture(rows: readonly SliceRow[], classes: number = cardiacClasses.length): Picture {
  const shown = rows.map(shownSize);
  const widest = Math.max(...shown.map(({ width }) => width));
  const columns = 1 + Math.max(...rows.map(({ cells }) => cells.length));
  const width = gap + columns * (widest + gap);
  const legend = legendLines(legendOf(rows, classes), width - 2 * gap);
  const height = gap + line + rows.reduce((sum, _, r) => sum + line + shown[r]!.height + gap, 0) + legend.length * line;
  const canvas = createCanvas(width, height, background);
  const left = (column: number): number => gap + column * (widest + gap);

  const titles = rows.find(({ cells }) => cells.length === columns - 1)!.cells.map(({ title }) => title);
  [rows[0]!.title ?? 'image', ...titles].forEach((title, column) => {
    drawText(canvas, left(column), gap, fitText(title, widest, scale), bright, scale);
  });
  let top = gap + line;
  rows.forEach((row, r) => {
    drawText(canvas, gap, top, fitText(row.caption, width - 2 * gap, scale), dim, scale);
    top += line;
    const grey = enlarged(row, row.image);
    drawCell(canvas, left(0), top, row, grey);
    row.cells.forEach((cell, c) => {
      drawCell(canvas, left(c + 1), top, row, cell.image ? enlarged(row, cell.image) : grey, cell);
    });
    top += shown[r]!.height + gap;
  });
  for (const entries of legend) {
    let x = gap;
    for (const { name, color } of entries) {
      fillRectangle(canvas, x, top, 7 * scale, 7 * scale, color);
      drawText(canvas, x + 10 * scale, top, name, dim, scale);
      x += legendWidth(name);
    }
    top += line;
  }
  return canvas;
}

/** A slice [height, width] in grey, a pixel a pixel; `range` is black and white, where not given the least and greatest value. */
export function greyPicture(values: Float32Array, [height, width]: Sides, range?: readonly [number, number]): Picture {
  const [low, high] = range ?? [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
  const data = Uint8Array.from(values, (v) => (255 * (v - low)) / (high - low || 1));
  return { width, height, data };
}

/** Class labels [height, width] in their classes' colours, on black. */
export function labelPicture(labels: Uint8Array, [height, width]: Sides): Picture {
  const data = new Uint8Array(3 * labels.length);
  labels.forEach((k, i) => {
    if (k) data.set(colorOf(k), 3 * i);
  });
  return { width, height, data };
}

interface LegendEntry {
  name: string;
  color: Color;
}

const colorOf = (k: number): Color => classColors[(k - 1) % classColors.length]!;
const legendWidth = (name: string): number => 10 * scale + textWidth(name, scale) + 14 * scale;

/** What the colours mean: the classes that occur, the mask, and errors. */
function legendOf(rows: readonly SliceRow[], classes: number): LegendEntry[] {
  const cells = rows.flatMap((row) => row.cells);
  const most = Math.max(
    0,
    ...cells.map((cell) => ('labels' in cell ? cell.labels.reduce((a, b) => Math.max(a, b)) : 0)),
  );
  const names = namesOfClasses(Math.max(classes, most + 1));
  const entries: LegendEntry[] = Array.from({ length: most }, (_, i) => ({
    name: names[i + 1]!,
    color: colorOf(i + 1),
  }));
  if (cells.some((cell) => 'labels' in cell && cell.reference))
    entries.push({ name: 'wrong class', color: errorColor });
  if (cells.some((cell) => 'mask' in cell)) entries.push({ name: 'kept pixels', color: maskColor });
  return entries;
}

function legendLines(entries: readonly LegendEntry[], width: number): LegendEntry[][] {
  const lines: LegendEntry[][] = [];
  let room = 0;
  for (const entry of entries) {
    if (!lines.length || room < legendWidth(entry.name)) {
      lines.push([]);
      room = width;
    }
    lines.at(-1)!.push(entry);
    room -= legendWidth(entry.name);
  }
  return lines;
}

/** A slice's size as it is shown. */

function shownSize({ height, width, spacing }: SliceRow): { height: number; width: number } {
  if (!spacing) {
    const factor = Math.max(1, Math.round(cellPixels / Math.max(height, width)));
    return { height: height * factor, width: width * factor };
  }
  const scale = cellPixels / Math.max(height * spacing[0], width * spacing[1]);
  return {
    height: Math.max(1, Math.round(height * spacing[0] * scale)),
    width: Math.max(1, Math.round(width * spacing[1] * scale)),
  };
}

/** An image in the row's grey levels at its shown size, by bilinear interpolation between pixel centres. */
function enlarged(row: SliceRow, image: Float32Array): Uint8Array {
  const { height, width } = row;
  const shown = shownSize(row);
  const sorted = Float32Array.from(row.image).sort();
  const low = sorted[Math.floor(0.01 * (sorted.length - 1))]!;
  const high = sorted[Math.ceil(0.995 * (sorted.length - 1))]!;
  const range = high > low ? high - low : 1;
  const at = (i: number, size: number, length: number): readonly [number, number, number] => {
    const p = Math.min(size - 1, Math.max(0, (i + 0.5) / (length / size) - 0.5));
    const first = Math.floor(p);
    return [first, Math.min(first + 1, size - 1), p - first];
  };
  const grey = new Uint8Array(shown.height * shown.width);
  for (let y = 0; y < shown.height; y++) {
    const [y0, y1, v] = at(y, height, shown.height);
    for (let x = 0; x < shown.width; x++) {
      const [x0, x1, u] = at(x, width, shown.width);
      const upper = (1 - u) * image[y0 * width + x0]! + u * image[y0 * width + x1]!;
      const lower = (1 - u) * image[y1 * width + x0]! + u * image[y1 * width + x1]!;
      const value = ((1 - v) * upper + v * lower - low) / range;
      grey[y * shown.width + x] = 255 * Math.min(1, Math.max(0, value));
    }
  }
  return grey;
}

/** The grey image at (left, top), and over it a cell's labels (tinted, outlined, errors in a colour) or its mask. */
function drawCell(canvas: Picture, left: number, top: number, row: SliceRow, grey: Uint8Array, cell?: Cell): void {
  const { height, width } = shownSize(row);
  const labels = cell && 'labels' in cell ? cell.labels : undefined;
  const reference = cell && 'labels' in cell ? cell.reference : undefined;
  const mask = cell && 'mask' in cell ? cell.mask : undefined;
  const pixelAt = (x: number, y: number): number =>
    Math.floor((y * row.height) / height) * row.width + Math.floor((x * row.width) / width);
  const isClass = (k: number, x: number, y: number): boolean =>
    x >= 0 && y >= 0 && x < width && y < height && labels![pixelAt(x, y)] === k;
  const isInside = (k: number, x: number, y: number): boolean =>
    isClass(k, x - 1, y) && isClass(k, x + 1, y) && isClass(k, x, y - 1) && isClass(k, x, y + 1);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const level = grey[y * width + x]!;
      const at = 3 * ((top + y) * canvas.width + left + x);
      canvas.data.fill(level, at, at + 3);
      const pixel = pixelAt(x, y);
      const k = labels?.[pixel] ?? 0;
      if (mask?.[pixel]) blend(canvas, left + x, top + y, maskColor, 0.6);
      if (k && !isInside(k, x, y)) blend(canvas, left + x, top + y, colorOf(k));
      else if (reference && reference[pixel] !== k) blend(canvas, left + x, top + y, errorColor, 0.65);
      else if (k) blend(canvas, left + x, top + y, colorOf(k), 0.35);
    }
  }
}
