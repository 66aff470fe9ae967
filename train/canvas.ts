// An RGB picture to draw on: rectangles, anti-aliased lines, bitmap text. Coordinates are pixels from the top left; pixel
// (x, y) covers [x, x + 1) × [y, y + 1).
import { glyphHeight, glyphOf, glyphWidth } from './font.js';
import type { Picture } from './png.js';

export type Color = readonly [red: number, green: number, blue: number];

/** An RGB picture of one colour. */
export function createCanvas(width: number, height: number, [r, g, b]: Color): Picture {
  const data = new Uint8Array(3 * width * height);
  for (let i = 0; i < data.length; i += 3) {
    data[i] = r;
    data[i + 1] = g;
    data[i + 2] = b;
  }
  return { width, height, data };
}

/** Mixes a colour into a pixel; outside of the picture nothing happens. */
export function blend({ width, height, data }: Picture, x: number, y: number, color: Color, alpha = 1): void {
  if (x < 0 || y < 0 || x >= width || y >= height) return;
  const i = 3 * (y * width + x);
  for (let c = 0; c < 3; c++) data[i + c] = Math.round(data[i + c]! + alpha * (color[c]! - data[i + c]!));
}

/** Fills whole pixels from (x, y) on. */
export function fillRectangle(
  canvas: Picture,
  x: number,
  y: number,
  width: number,
  height: number,
  color: Color,
  alpha = 1,
): void {
  for (let j = y; j < y + height; j++) for (let i = x; i < x + width; i++) blend(canvas, i, j, color, alpha);
}

/** A line through points, `width` pixels thick, smooth; a point that is not finite interrupts it. */
export function drawLine(
  canvas: Picture,
  points: readonly (readonly [x: number, y: number])[],
  color: Color,
  width = 1,
): void {
  // Coverage of the whole line first, so that joints are not mixed twice.
  const coverage = new Map<number, number>();
  const reach = width / 2 + 1;
  for (let n = 0; n < points.length; n++) {
    const [x1, y1] = points[n]!;
    const before = points[n - 1] ?? points[n]!;
    if (!Number.isFinite(x1) || !Number.isFinite(y1)) continue;
    const [x0, y0] = Number.isFinite(before[0]) && Number.isFinite(before[1]) ? before : points[n]!;
    const [dx, dy] = [x1 - x0, y1 - y0];
    const squared = dx * dx + dy * dy;
    const lowY = Math.max(0, Math.floor(Math.min(y0, y1) - reach));
    const highY = Math.min(canvas.height - 1, Math.ceil(Math.max(y0, y1) + reach));
    const lowX = Math.max(0, Math.floor(Math.min(x0, x1) - reach));
    const highX = Math.min(canvas.width - 1, Math.ceil(Math.max(x0, x1) + reach));
    for (let y = lowY; y <= highY; y++) {
      for (let x = lowX; x <= highX; x++) {
        const [px, py] = [x + 0.5 - x0, y + 0.5 - y0];
        const along = squared ? Math.min(1, Math.max(0, (px * dx + py * dy) / squared)) : 0;
        const covered = width / 2 + 0.5 - Math.hypot(px - along * dx, py - along * dy);
        const at = y * canvas.width + x;
        if (covered > (coverage.get(at) ?? 0)) coverage.set(at, Math.min(1, covered));
      }
    }
  }
  for (const [at, alpha] of coverage) blend(canvas, at % canvas.width, Math.floor(at / canvas.width), color, alpha);
}

/** Pixels that text takes; characters stand one column apart. */
export const textWidth = (text: string, scale = 1): number =>
  Math.max(0, [...text].length * (glyphWidth + 1) - 1) * scale;

export const textHeight = (scale = 1): number => glyphHeight * scale;

/** Text with its top left corner at (x, y). */
export function drawText(canvas: Picture, x: number, y: number, text: string, color: Color, scale = 1): void {
  [...text].forEach((character, n) => {
    glyphOf(character).forEach((row, j) => {
      for (let i = 0; i < glyphWidth; i++) {
        if (row[i] !== '#') continue;
        fillRectangle(canvas, x + (n * (glyphWidth + 1) + i) * scale, y + j * scale, scale, scale, color);
      }
    });
  });
}

/** As much of the text as fits, its end replaced by dots where it does not. */
export function fitText(text: string, width: number, scale = 1): string {
  if (textWidth(text, scale) <= width) return text;
  const room = Math.max(0, Math.floor((width / scale + 1) / (glyphWidth + 1)) - 2);
  return `${[...text].slice(0, room).join('')}..`;
}
