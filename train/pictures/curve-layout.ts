// Where everything of a training log's curves goes: a list of shapes, of which curves.ts makes pixels and SVG. Long noisy series are
// shown twice: pale as they are, strong as their moving average. Knows no Node: the report's page runs parts of it.
import { type Color, textWidth } from './canvas.js';

export interface Curve {
  name: string;
  /** Iterations, ascending. */
  x: readonly number[];
  /** A value that is not finite, or −1 (a share of no pixels, in a training log), leaves a gap. */
  y: readonly number[];
}

export interface Panel {
  title: string;
  lines: readonly Curve[];
  /** Shares and scores from 0 to 1: never on a log scale. */
  isShare?: boolean;
}

export type Point = readonly [x: number, y: number];

export type Shape =
  | { kind: 'line'; points: readonly Point[]; color: Color; width: number; dash?: string }
  | { kind: 'text'; x: number; y: number; text: string; color: Color; anchor: 'start' | 'middle' | 'end' };

export interface Drawing {
  width: number;
  height: number;
  shapes: Shape[];
}

/** Told apart with any colour vision; after Okabe & Ito (2008), darker. */
const colors: readonly Color[] = [
  [0, 103, 173],
  [179, 89, 0],
  [0, 122, 85],
  [179, 48, 127],
  [107, 63, 184],
  [74, 79, 87],
];
/** Dashes of the same lines in SVG, so that colour is not the only cue there. */
const dashes: readonly string[] = ['', '10 4', '3 4', '12 4 3 4', '18 5', '6 3'];
const ink: Color = [40, 42, 48];
const faint: Color = [110, 114, 122];
const grid: Color = [228, 229, 232];

export const textScale = 2;
const panel = { width: 640, height: 400, left: 92, right: 40, top: 72, bottom: 58 };
const legendLine = 22;
const legendMark = 18;

/** Places the panels, two in a row. */
export function layOut(panels: readonly Panel[]): Drawing {
  const columns = Math.min(2, panels.length);
  // Iterations count from 0, so that a run of 30000 ends at 29999: the axis ends at 30000.
  const last = 1 + Math.max(0, ...panels.flatMap(({ lines }) => lines.map(({ x }) => x.at(-1) ?? 0)));
  const shapes = panels.flatMap((one, i) =>
    panelShapes(one, last, (i % columns) * panel.width, Math.floor(i / columns) * panel.height),
  );
  return { width: columns * panel.width, height: Math.ceil(panels.length / columns) * panel.height, shapes };
}

function panelShapes({ title, lines, isShare = false }: Panel, last: number, left: number, top: number): Shape[] {
  const shapes: Shape[] = [];
  const plot = {
    left: left + panel.left,
    right: left + panel.width - panel.right,
    top: top + panel.top,
    bottom: top + panel.height - panel.bottom,
  };
  const legend = legendPlaces(lines, plot.right - plot.left);
  plot.top += legendLine * Math.max(0, ...legend.map(({ row }) => row));
  const series = lines.map((curve) => ({ curve, smooth: smoothed(curve) }));
  const scale = verticalScale(
    series.map(({ smooth }) => smooth.y),
    series.map(({ curve }) => curve.y),
    isShare,
  );
  const xAt = (value: number): number => plot.left + (value / last) * (plot.right - plot.left);
  const yAt = (value: number): number => {
    const part = scale.place(value);
    return plot.bottom - Math.min(1, Math.max(0, part)) * (plot.bottom - plot.top);
  };
  const write = (x: number, y: number, text: string, color: Color, anchor: 'start' | 'middle' | 'end' = 'start') =>
    shapes.push({ kind: 'text', x, y, text, color, anchor });
  const stroke = (points: Point[], color: Color, width: number, dash?: string) =>
    shapes.push({ kind: 'line', points, color, width, ...(dash && { dash }) });

  write(plot.left, top + 12, scale.logarithmic ? `${title} (log scale)` : title, ink);
  lines.forEach(({ name }, i) => {
    const { x, row } = legend[i]!;
    const [from, y] = [plot.left + x, top + 48 + row * legendLine];
    stroke(
      [
        [from, y],
        [from + legendMark, y],
      ],
      colorOf(i),
      4,
      dashOf(i),
    );
    write(from + legendMark + 8, y - 7, name, faint);
  });
  for (const tick of scale.ticks) {
    const y = yAt(tick);
    stroke(
      [
        [plot.left, y],
        [plot.right, y],
      ],
      grid,
      1,
    );
    write(plot.left - 10, y - 7, tickText(tick), faint, 'end');
  }
  for (const tick of niceTicks(0, last, 4)) {
    stroke(
      [
        [xAt(tick), plot.bottom],
        [xAt(tick), plot.bottom + 6],
      ],
      faint,
      1,
    );
    write(xAt(tick), plot.bottom + 12, tickText(tick), faint, 'middle');
  }
  write(plot.right, plot.bottom + 34, 'iteration', faint, 'end');
  stroke(
    [
      [plot.left, plot.top],
      [plot.left, plot.bottom],
      [plot.right, plot.bottom],
    ],
    faint,
    1,
  );
  const placed = ({ x, y }: Pick<Curve, 'x' | 'y'>): Point[] => x.map((at, i) => [xAt(at), yAt(y[i]!)]);
  series.forEach(({ curve, smooth }, i) => {
    if (smooth !== curve) stroke(placed(thinned(curve, plot.right - plot.left)), pale(colorOf(i)), 1);
  });
  series.forEach(({ curve, smooth }, i) => {
    stroke(placed(smooth === curve ? thinned(curve, 300) : decimated(smooth, 300)), colorOf(i), 2.5, dashOf(i));
    if (curve.x.length <= 60) for (const point of placed(curve)) stroke([point], colorOf(i), 6);
  });
  return shapes;
}

/** Where the curves' names stand above a plot of this width, in as many rows as they need. */
function legendPlaces(lines: readonly Curve[], width: number): { x: number; row: number }[] {
  let [x, row] = [0, 0];
  return lines.map(({ name }) => {
    const taken = legendMark + 8 + textWidth(name, textScale);
    if (x > 0 && x + taken > width) [x, row] = [0, row + 1];
    const place = { x, row };
    x += taken + 18;
    return place;
  });
}

const colorOf = (i: number): Color => colors[i % colors.length]!;
const dashOf = (i: number): string => dashes[(i + 2 * Math.floor(i / dashes.length)) % dashes.length]!;
const pale = (color: Color): Color => color.map((c) => Math.round(c + 0.7 * (255 - c))) as unknown as Color;

/** Moving average over a 40th of a series; short ones, and those that hardly turn (a schedule), stay as they are. */
function smoothed(curve: Curve): Curve {
  const { name, x, y } = curve;
  const finite = y.filter(Number.isFinite);
  const travelled = finite.reduce((sum, value, i) => sum + Math.abs(value - finite[Math.max(0, i - 1)]!), 0);
  const [low, high] = extent(finite);
  if (y.length < 120 || travelled < 4 * (high - low)) return curve;
  const half = Math.max(1, Math.floor(y.length / 80));
  return { name, x, y: movingAverage(y, half).map((value) => value ?? Number.NaN) };
}

/**
 * The mean of each value and of `half` neighbours on both sides; null and what is not finite do not count, and where nothing
 * counts the result is null.
 */
export function movingAverage(y: readonly (number | null)[], half: number): (number | null)[] {
  const sums = new Float64Array(y.length + 1);
  const counts = new Int32Array(y.length + 1);
  y.forEach((value, i) => {
    const isKnown = value !== null && Number.isFinite(value);
    sums[i + 1] = sums[i]! + (isKnown ? value : 0);
    counts[i + 1] = counts[i]! + (isKnown ? 1 : 0);
  });
  return y.map((_, i) => {
    // Symmetric at the start, where losses fall steeply; one-sided at the end, where a single value must not stand alone.
    const reach = Math.min(half, i);
    const end = Math.min(i + reach + 1, y.length);
    const count = counts[end]! - counts[i - reach]!;
    return count ? (sums[end]! - sums[i - reach]!) / count : null;
  });
}

/** At most `count` points, evenly taken, with the last one. */
function decimated({ name, x, y }: Curve, count: number): Curve {
  const step = Math.max(1, Math.ceil(x.length / count));
  const keep = (_: number, i: number): boolean => i % step === 0 || i === x.length - 1;
  return { name, x: x.filter(keep), y: y.filter(keep) };
}

/** The least and greatest value in each column of pixels: looks the same as all points. */
function thinned({ name, x, y }: Curve, columns: number): Curve {
  if (x.length <= 2 * columns) return { name, x, y };
  const bin = Math.ceil(x.length / columns);
  const kept: number[] = [];
  for (let start = 0; start < x.length; start += bin) {
    let [low, high] = [start, start];
    for (let i = start; i < Math.min(start + bin, x.length); i++) {
      if (y[i]! < y[low]! || Number.isNaN(y[low]!)) low = i;
      if (y[i]! > y[high]! || Number.isNaN(y[high]!)) high = i;
    }
    kept.push(...(low === high ? [low] : low < high ? [low, high] : [high, low]));
  }
  return { name, x: kept.map((i) => x[i]!), y: kept.map((i) => y[i]!) };
}

interface Scale {
  logarithmic: boolean;
  ticks: number[];
  /** Where a value lies between the bottom (0) and the top (1); NaN where it cannot be shown. */
  place(value: number): number;
}

/** Least and greatest; a loop, because logs are longer than a call's arguments may be. */
const extent = (values: readonly number[]): [number, number] =>
  values.reduce(
    ([low, high], v) => [Math.min(low, v), Math.max(high, v)],
    [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
  );

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;

/** Shares and scores from 0 to 1; curves of very different size on a log scale; all else from 0 or its least value. */
function verticalScale(
  smooth: readonly (readonly number[])[],
  raw: readonly (readonly number[])[],
  isShare: boolean,
): Scale {
  const all = smooth.flat().filter(Number.isFinite);
  const spread = raw
    .flat()
    .filter(Number.isFinite)
    .sort((a, b) => a - b);
  // Single spikes of a noisy series may leave the plot; its average may not.
  const [lowest, highest] = extent(all);
  let top = Math.max(highest, spread[Math.floor(0.99 * (spread.length - 1))]!);
  let bottom = Math.min(lowest, spread[Math.ceil(0.01 * (spread.length - 1))]!);

  const middles = smooth.map((y) => y.filter((v) => v > 0)).filter((y) => y.length);
  const typical = middles.map(median);
  if (!isShare && bottom >= 0 && typical.length > 1 && Math.max(...typical) > 20 * Math.min(...typical)) {
    const least = Math.max(extent(all.filter((v) => v > 0))[0], top / 1e6);
    const [low, high] = [Math.floor(Math.log10(least)), Math.ceil(Math.log10(top))];
    const ticks = Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i));
    return {
      logarithmic: true,
      ticks,
      place: (value) => (value > 0 ? (Math.log10(value) - low) / Math.max(1, high - low) : Number.NaN),
    };
  }
  if (bottom >= 0) bottom = 0;
  if (bottom === 0 && top > 0.6 && spread.at(-1)! <= 1) top = 1;
  if (top === bottom) top = bottom + 1;
  const ticks = niceTicks(bottom, top, 5);
  const step = ticks[1]! - ticks[0]!;
  const [low, high] = [Math.floor(bottom / step + 1e-9) * step, Math.ceil(top / step - 1e-9) * step];
  return { logarithmic: false, ticks: niceTicks(low, high, 5, step), place: (value) => (value - low) / (high - low) };
}

/** Round numbers between two values, about `count` of them: steps of 1, 2 or 5 times a power of ten. */
export function niceTicks(low: number, high: number, count: number, fixedStep?: number): number[] {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = fixedStep ?? power * ([1, 2, 5, 10].find((m) => m * power >= rough * (1 - 1e-9)) ?? 10);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: Math.max(2, last - first + 1) }, (_, i) => (first + i) * step);
}

/** A tick without the noise of binary fractions. */
export function tickText(value: number): string {
  const clean = Number(value.toPrecision(10));
  return clean !== 0 && (Math.abs(clean) < 1e-3 || Math.abs(clean) >= 1e6)
    ? clean.toExponential().replace('e+', 'e')
    : String(clean);
}
