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
  const finite = points.filter((point) => point.every(Number.isFinite));
  if (!finite.length) return;
  const reach = width / 2 + 1;
  const [lowX, highX] = range(finite, 0, reach, canvas.width);
  const [lowY, highY] = range(finite, 1, reach, canvas.height);
  if (highX < lowX || highY < lowY) return;
  const stride = highX - lowX + 1;
  // How much of a pixel the whole line covers, so that joints are not mixed twice.
  const coverage = new Float32Array(stride * (highY - lowY + 1));
  for (let n = 0; n < points.length; n++) {
    const end = points[n]!;
    if (!end.every(Number.isFinite)) continue;
    const before = points[n - 1];
    const start = before?.every(Number.isFinite) ? before : end;
    const [dx, dy] = [end[0] - start[0], end[1] - start[1]];
    const squared = dx * dx + dy * dy;
    const [x0, x1] = range([start, end], 0, reach, canvas.width);
    const [y0, y1] = range([start, end], 1, reach, canvas.height);
    for (let y = y0; y <= y1; y++) {
      for (let x = x0; x <= x1; x++) {
        const px = x + 0.5 - start[0];
        const py = y + 0.5 - start[1];
        const along = squared ? Math.min(1, Math.max(0, (px * dx + py * dy) / squared)) : 0;
        const covered = width / 2 + 0.5 - Math.hypot(px - along * dx, py - along * dy);
        const at = (y - lowY) * stride + (x - lowX);
        if (covered > coverage[at]!) coverage[at] = Math.min(1, covered);
      }
    }
  }
  for (let y = lowY, at = 0; y <= highY; y++) {
    for (let x = lowX; x <= highX; x++, at++) if (coverage[at]) blend(canvas, x, y, color, coverage[at]);
  }
}

/** First and last pixel along an axis that points with a rim of `reach` touch, cut to the picture. */
function range(
  points: readonly (readonly [number, number])[],
  axis: 0 | 1,
  reach: number,
  size: number,
): [number, number] {
  let [low, high] = [size, -1];
  for (const point of points) {
    low = Math.min(low, Math.floor(point[axis] - reach));
    high = Math.max(high, Math.ceil(point[axis] + reach));
  }
  return [Math.max(0, low), Math.min(size - 1, high)];
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
