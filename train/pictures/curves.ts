// Curves of a training log as PNG and as SVG, both of the shapes that curve-layout.ts places.
import { writeAtomically } from '../files/atomic-file.js';
import { type Color, createCanvas, drawLine, drawText, fillRectangle, textWidth } from './canvas.js';
import { type Curve, type Drawing, layOut, type Panel, type Point, textScale } from './curve-layout.js';
import { type Picture, writePng } from './png.js';

const paper: Color = [255, 255, 255];

/** Writes `base`.png and `base`.svg: a panel for each group of curves, over the same iterations. */
export function drawCurves(base: string, panels: readonly Panel[]): void {
  const shown = panels
    .map((one) => ({ ...one, lines: one.lines.map(withGaps) }))
    .filter(({ lines }) => lines.some(({ y }) => y.some(Number.isFinite)));
  if (!shown.length) return;
  const drawing = layOut(shown);
  writePng(`${base}.png`, toPicture(drawing));
  writeAtomically(`${base}.svg`, [new TextEncoder().encode(toSvg(drawing))]);
}

const withGaps = ({ name, x, y }: Curve): Curve => ({
  name,
  x,
  y: y.map((value) => (Number.isFinite(value) && value !== -1 ? value : Number.NaN)),
});

/** The drawing as pixels. */
export function toPicture({ width, height, shapes }: Drawing): Picture {
  const canvas = createCanvas(width, height, paper);
  for (const shape of shapes) {
    if (shape.kind === 'line') {
      const isGrid = shape.width === 1 && shape.points.length === 2;
      const [a, b] = shape.points;
      // Straight thin lines on whole pixels stay sharp.
      if (isGrid && a![1] === b![1]) {
        fillRectangle(canvas, Math.round(a![0]), Math.round(a![1]), Math.round(b![0] - a![0]), 1, shape.color);
      } else drawLine(canvas, shape.points, shape.color, shape.width);
    } else {
      const taken = textWidth(shape.text, textScale);
      const shift = shape.anchor === 'end' ? taken : shape.anchor === 'middle' ? taken / 2 : 0;
      drawText(canvas, Math.round(shape.x - shift), Math.round(shape.y), shape.text, shape.color, textScale);
    }
  }
  return canvas;
}

const escaped = (text: string): string => text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');

/** The drawing as SVG text. */
export function toSvg({ width, height, shapes }: Drawing): string {
  const rgb = (color: Color): string => `rgb(${color.join(',')})`;
  const body = shapes.flatMap((shape) => {
    if (shape.kind === 'text') {
      const { x, y, text, color, anchor } = shape;
      return `<text x="${x.toFixed(1)}" y="${(y + 14).toFixed(1)}" fill="${rgb(color)}" text-anchor="${anchor}">${escaped(text)}</text>`;
    }
    return pieces(shape.points).map((points) => {
      const dash = shape.dash && points.length > 1 ? ` stroke-dasharray="${shape.dash}"` : '';
      const style = `stroke="${rgb(shape.color)}" stroke-width="${shape.width}"${dash}`;
      const doubled = points.length === 1 ? [points[0]!, points[0]!] : points;
      return `<polyline points="${doubled.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(' ')}" ${style}/>`;
    });
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="16">`,
    `<rect width="${width}" height="${height}" fill="${rgb(paper)}"/>`,
    '<g fill="none" stroke-linejoin="round" stroke-linecap="round">',
    ...body.filter((element) => element.startsWith('<poly')),
    '</g>',
    ...body.filter((element) => element.startsWith('<text')),
    '</svg>',
    '',
  ].join('\n');
}

/** A line's stretches between points that are not finite. */
function pieces(points: readonly Point[]): Point[][] {
  const parts: Point[][] = [[]];
  for (const point of points) {
    if (point.every(Number.isFinite)) parts.at(-1)!.push(point);
    else if (parts.at(-1)!.length) parts.push([]);
  }
  return parts.filter((part) => part.length);
}
