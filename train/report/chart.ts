// One chart as SVG text: the same functions draw it here, for a page without scripts, and in the page, when its scale, its
// smoothing or its width changes. So they are plain functions that use nothing but each other (page.ts lists them). Colours
// and dashes are the style sheet's: a line says only which of them it has.
import { movingAverage, niceTicks, tickText } from '../pictures/curves.js';
import { escapeText } from './html.js';

export interface Line {
  name: string;
  /** Which colour, dash and marker. */
  style: number;
  x: readonly number[];
  /** Values, or means of what was measured around x; null leaves a gap. */
  y: readonly (number | null)[];
  /** Least and greatest around x, where several values were joined. */
  low?: readonly (number | null)[];
  high?: readonly (number | null)[];
}

export interface Chart {
  title: string;
  lines: Line[];
  /** The end of the horizontal axis. */
  last: number;
  /** share: from 0, to 1 if it comes near; positive: may be shown on a log scale. */
  range: 'share' | 'positive' | 'any';
}

export interface View {
  width: number;
  height: number;
  log: boolean;
  /** Share of a line's points that an average is taken of. */
  smoothing: number;
}

export interface Layout {
  left: number;
  right: number;
  top: number;
  bottom: number;
  ticks: number[];
  xAt(value: number): number;
  /** NaN where there is nothing to show. */
  yAt(value: number | null): number;
  /** The lines as they are shown: smoothed, or as they are. */
  shown: (number | null)[][];
}

/** Where everything of a chart goes. */
export function layOutChart(chart: Chart, view: View): Layout {
  const log = view.log && chart.range === 'positive';
  const shown = chart.lines.map(({ y }) =>
    view.smoothing > 0 && y.length > 60
      ? movingAverage(y, Math.max(1, Math.floor((view.smoothing * y.length) / 2)))
      : [...y],
  );
  const isShown = (v: number | null): v is number => v !== null && Number.isFinite(v) && (!log || v > 0);
  const strong = shown.flat().filter(isShown);
  const raw = chart.lines.flatMap(({ y, low, high }) => [...y, ...(low ?? []), ...(high ?? [])]).filter(isShown);
  raw.sort((a, b) => a - b);
  // Single spikes of what is drawn pale may leave the plot; strong lines may not.
  let low = strong.reduce((a, b) => Math.min(a, b), raw[Math.ceil(0.01 * (raw.length - 1))] ?? 0);
  let high = strong.reduce((a, b) => Math.max(a, b), raw[Math.floor(0.99 * (raw.length - 1))] ?? 1);
  let ticks: number[];
  if (log && raw.length) {
    const [from, to] = [Math.floor(Math.log10(low) + 1e-9), Math.ceil(Math.log10(high) - 1e-9)];
    low = 10 ** from;
    high = 10 ** Math.max(to, from + 1);
    const step = Math.max(1, Math.ceil((to - from) / 5));
    ticks = [];
    for (let power = from; power <= Math.max(to, from + 1); power += step) ticks.push(10 ** power);
  } else {
    if (chart.range !== 'any' && low > 0) low = 0;
    if (chart.range === 'share' && high > 0.6) high = 1;
    if (!(high > low)) [low, high] = [low - (low === 0 ? 0 : Math.abs(low) / 2), high + (Math.abs(high) / 2 || 1)];
    const around = niceTicks(low, high, 5);
    const step = around[1]! - around[0]!;
    low = Math.floor(low / step + 1e-9) * step;
    high = Math.ceil(high / step - 1e-9) * step;
    ticks = niceTicks(low, high, 5, step);
  }
  const widest = ticks.map((tick) => tickText(tick).length).reduce((a, b) => Math.max(a, b), 1);
  const [left, right, top, bottom] = [14 + 7 * widest, view.width - 14, 8, view.height - 24];
  const part = (v: number) => (log ? Math.log10(v / low) / Math.log10(high / low) : (v - low) / (high - low));
  return {
    left,
    right,
    top,
    bottom,
    ticks,
    shown,
    xAt: (value) => left + (value / Math.max(1, chart.last)) * (right - left),
    yAt: (value) =>
      isShown(value) ? bottom - Math.min(1.02, Math.max(-0.02, part(value))) * (bottom - top) : Number.NaN,
  };
}

/** The chart's SVG element. */
export function chartSvg(chart: Chart, view: View): string {
  const layout = layOutChart(chart, view);
  const { left, right, top, bottom, ticks, xAt, yAt, shown } = layout;
  const parts = [
    `<svg class="chart" viewBox="0 0 ${view.width} ${view.height}" role="img" aria-label="${escapeText(chart.title)}">`,
  ];
  for (const tick of ticks) {
    const y = yAt(tick).toFixed(1);
    parts.push(`<line class="grid" x1="${left}" x2="${right}" y1="${y}" y2="${y}"/>`);
    parts.push(`<text class="end" x="${left - 6}" y="${(yAt(tick) + 4).toFixed(1)}">${tickText(tick)}</text>`);
  }
  for (const tick of niceTicks(0, chart.last, Math.max(3, Math.floor((right - left) / 70)))) {
    if (tick > chart.last) continue;
    const x = xAt(tick).toFixed(1);
    parts.push(`<line class="axis" x1="${x}" x2="${x}" y1="${bottom}" y2="${bottom + 4}"/>`);
    parts.push(`<text class="middle" x="${x}" y="${bottom + 17}">${tickText(tick)}</text>`);
  }
  parts.push(`<path class="axis" d="M${left} ${top}V${bottom}H${right}"/>`);
  chart.lines.forEach(({ x, y, low, high, style }, i) => {
    const isSmooth = shown[i]!.some((value, j) => value !== y[j]);
    if (low && high) parts.push(`<path class="band s${style}" d="${bandPath(x, low, high, layout)}"/>`);
    else if (isSmooth) parts.push(`<path class="pale s${style}" d="${linePath(x, y, layout)}"/>`);
  });
  chart.lines.forEach(({ x, style }, i) => {
    parts.push(`<path class="line s${style}" d="${linePath(x, shown[i]!, layout)}"/>`);
    // Few points are all marked; of many, some, at places that differ from line to line.
    const every = x.length > 60 ? x.length / 7 : 1;
    const marks = x.map((at, j) => {
      const isMarked =
        every === 1 || Math.floor((j + (i * every) / 4) / every) !== Math.floor((j - 1 + (i * every) / 4) / every);
      return isMarked ? markerPath(style, xAt(at), yAt(shown[i]![j]!)) : '';
    });
    parts.push(`<path class="mark s${style}" d="${marks.join('')}"/>`);
  });
  parts.push('</svg>');
  return parts.join('');
}

/** Path of a line; what cannot be shown interrupts it. */
export function linePath(x: readonly number[], y: readonly (number | null)[], { xAt, yAt }: Layout): string {
  let path = '';
  let isDrawing = false;
  x.forEach((at, i) => {
    const height = yAt(y[i]!);
    if (Number.isFinite(height)) path += `${isDrawing ? 'L' : 'M'}${xAt(at).toFixed(1)} ${height.toFixed(1)}`;
    isDrawing = Number.isFinite(height);
  });
  return path;
}

/** Path around all that lies between two lines; where one of them has a gap, so has the band. */
export function bandPath(
  x: readonly number[],
  low: readonly (number | null)[],
  high: readonly (number | null)[],
  { xAt, yAt }: Layout,
): string {
  let path = '';
  for (let start = 0; start < x.length; start++) {
    let end = start;
    while (end < x.length && Number.isFinite(yAt(low[end]!)) && Number.isFinite(yAt(high[end]!))) end++;
    if (end === start) continue;
    const point = (i: number, y: number) => `${xAt(x[i]!).toFixed(1)} ${y.toFixed(1)}`;
    const upper = [];
    const lower = [];
    for (let i = start; i < end; i++) {
      upper.push(point(i, yAt(high[i]!)));
      lower.push(point(i, yAt(low[i]!)));
    }
    path += `M${upper.join('L')}L${lower.reverse().join('L')}Z`;
    start = end;
  }
  return path;
}

/** A small closed shape around a point: disc, square, triangle, diamond, triangle on its tip, bar. */
export function markerPath(style: number, x: number, y: number): string {
  if (!Number.isFinite(y)) return '';
  const shapes = [
    'm-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0z',
    'm-2.7-2.7h5.4v5.4h-5.4z',
    'm0-3.6l3.4 6h-6.8z',
    'm0-3.9l3.4 3.9l-3.4 3.9l-3.4-3.9z',
    'm0 3.6l3.4-6h-6.8z',
    'm-4-1.5h8v3h-8z',
  ];
  // The second six lines have the colours of the first, and other markers.
  const shape = shapes[(style + 2 * Math.floor(style / shapes.length)) % shapes.length];
  return `M${x.toFixed(1)} ${y.toFixed(1)}${shape}`;
}
