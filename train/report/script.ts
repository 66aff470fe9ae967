// What the page does beyond being read: curves that answer to scale, smoothing, pointer and keys, sorting, light and dark. The
// build bundles this file and uPlot, which draws the curves, into one script; page.ts puts it into the page.
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { movingAverage, tickText } from '../pictures/curve-layout.js';
import { type Chart, type Line, lookOf } from './charts.js';

const all = <E extends Element>(selector: string, within: ParentNode = document) => [
  ...within.querySelectorAll<E>(selector),
];
const one = <E extends Element>(selector: string, within: ParentNode = document) => within.querySelector<E>(selector)!;

// Light and dark.
const root = document.documentElement;
const themeButton = one<HTMLButtonElement>('button.theme');
const prefersDark = matchMedia('(prefers-color-scheme: dark)');
const isDark = () => (root.dataset.theme ? root.dataset.theme === 'dark' : prefersDark.matches);

/** The theme that was chosen before; with an argument, the one chosen now. */
function rememberedTheme(theme?: string): string | null {
  try {
    if (theme) localStorage.setItem('wgrad-theme', theme);
    return localStorage.getItem('wgrad-theme');
  } catch {
    return null; // A page from a file may not be allowed to remember anything.
  }
}

function nameThemeButton(): void {
  themeButton.textContent = isDark() ? 'light' : 'dark';
  themeButton.setAttribute('aria-label', `show the page in ${isDark() ? 'light' : 'dark'} colours`);
}

const theme = rememberedTheme();
if (theme === 'dark' || theme === 'light') root.dataset.theme = theme;
nameThemeButton();
themeButton.addEventListener('click', () => {
  root.dataset.theme = isDark() ? 'light' : 'dark';
  rememberedTheme(root.dataset.theme);
  nameThemeButton();
  drawAll();
});
prefersDark.addEventListener('change', () => {
  nameThemeButton();
  drawAll();
});
root.classList.add('scripted');
for (const element of all<HTMLElement>('.scripted[hidden]')) element.hidden = false;

// Curves.
interface Drawn {
  figure: HTMLElement;
  chart: Chart;
  plot?: uPlot;
}

const log = one<HTMLInputElement>('#log');
const smoothing = one<HTMLInputElement>('#smoothing');
const charts = JSON.parse(one('#charts').textContent ?? '[]') as Chart[];
const drawn = all<HTMLElement>('figure.plot').map((figure, i): Drawn => ({ figure, chart: charts[i]! }));

function valueText(value: number): string {
  if (value === 0) return '0';
  const isFar = Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5;
  return isFar ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

const isLog = (chart: Chart): boolean => log?.checked && chart.range === 'positive';

function sizeOf(figure: HTMLElement): { width: number; height: number } {
  const width = Math.max(220, Math.round(one('.canvas', figure).clientWidth));
  return { width, height: Math.round(Math.min(300, Math.max(190, 0.5 * width))) };
}

type Values = (number | null)[];

/** A line as it is drawn strong, and what is drawn pale behind it: least and greatest, or the line before it was smoothed. */
function columnsOf({ x, y, low, high }: Line, chart: Chart): { x: number[]; strong: Values; pale: Values[] } {
  const shown = (values: Values): Values =>
    isLog(chart) ? values.map((v) => (v !== null && v > 0 ? v : null)) : values;
  const reach = Math.floor((Number(smoothing.value) / 200) * y.length);
  const isSmoothed = reach > 0 && y.length > 60;
  const strong = isSmoothed ? movingAverage(y, reach) : y;
  const pale = low && high ? [low, high] : isSmoothed ? [y] : [];
  return { x: [...x], strong: shown([...strong]), pale: pale.map((values) => shown([...values])) };
}

/** Draws a chart anew; it keeps which lines are hidden, and the iterations that it shows. */
function draw(entry: Drawn): void {
  const { figure, chart, plot: former } = entry;
  const colors = getComputedStyle(root);
  const color = (name: string) => colors.getPropertyValue(name).trim();
  const buttons = all<HTMLButtonElement>('.legend button', figure);
  const isShown = (i: number) => buttons[i]!.getAttribute('aria-pressed') === 'true';
  const columns = chart.lines.map((line) => columnsOf(line, chart));
  const strokes = chart.lines.map(({ style }) => color(`--s${lookOf(style).color}`));
  const series: uPlot.Series[] = [{}];
  const bands: uPlot.Band[] = [];
  const tables: uPlot.AlignedData[] = [[[0, chart.last]]];
  /** The series of each line. */
  const own: number[][] = columns.map(() => []);
  const add = (i: number, more: uPlot.Series) =>
    own[i]!.push(series.push({ show: isShown(i), stroke: strokes[i]!, ...more }) - 1);
  // Pale series do not count for the scale: single spikes may leave the plot.
  const pale: uPlot.Series = { auto: false, points: { show: false } };
  columns.forEach((column, i) => {
    tables.push([column.x, ...column.pale]);
    const isBand = column.pale.length === 2;
    if (isBand) bands.push({ series: [series.length + 1, series.length], fill: `${strokes[i]}33` });
    for (const _ of column.pale) add(i, { ...pale, ...(isBand ? { width: 0 } : { width: 1, alpha: 0.28 }) });
  });
  const first = series.length;
  columns.forEach(({ x, strong }, i) => {
    tables.push([x, strong]);
    const points = x.length > 60 ? { show: false } : { show: true, size: 6, fill: strokes[i]! };
    add(i, { width: 2, dash: lookOf(chart.lines[i]!.style).dash, points });
  });
  const axis: uPlot.Axis = {
    stroke: color('--soft'),
    font: '12px system-ui, sans-serif',
    grid: { stroke: color('--rule'), width: 1 },
    ticks: { stroke: color('--rule'), width: 1, size: 4 },
    values: (_, ticks) => ticks.map((tick) => (tick === null ? '' : tickText(tick))),
  };
  const plot = new uPlot(
    {
      ...sizeOf(figure),
      series,
      bands,
      axes: [
        { ...axis, space: 60, size: 30 },
        { ...axis, size: (_, ticks) => 16 + 7 * Math.max(1, ...(ticks ?? []).map((tick) => tick?.length ?? 0)) },
      ],
      scales: {
        x: { time: false },
        y: { distr: isLog(chart) ? 3 : 1, range: (_, least, greatest) => rangeOf(chart, least, greatest) },
      },
      legend: { show: false },
      cursor: { y: false, points: { show: false }, sync: { key: 'iterations', setSeries: false } },
      hooks: { setCursor: [(u) => showValues(figure, u, first)] },
    },
    uPlot.join(tables),
    one<HTMLElement>('.canvas', figure),
  );
  const { min, max } = former?.scales.x ?? {};
  if (min !== undefined && max !== undefined) plot.setScale('x', { min, max });
  former?.destroy();
  entry.plot = plot;
  buttons.forEach((button, i) => {
    button.onclick = () => {
      button.setAttribute('aria-pressed', String(!isShown(i)));
      for (const index of own[i]!) plot.setSeries(index, { show: isShown(i) });
    };
  });
}

/** Shares end at 1 if they come near, and what cannot be negative starts at 0. */
function rangeOf(chart: Chart, least: number | null, greatest: number | null): uPlot.Range.MinMax {
  if (least === null || greatest === null) return [null, null];
  if (isLog(chart)) return uPlot.rangeLog(least, greatest, 10, true);
  const low = chart.range === 'any' ? least : Math.min(0, least);
  if (chart.range === 'share' && greatest > 0.6 && greatest <= 1) return [low, 1];
  if (low === 0 && greatest === 0) return [0, 1];
  return uPlot.rangeNum(low, greatest, 0.1, true);
}

/** Writes the values under the cursor beside the lines' names; nothing where there is no cursor. */
function showValues(figure: HTMLElement, { cursor, data }: uPlot, first: number): void {
  const indices = cursor.idxs?.slice(first) ?? [];
  const at = cursor.idx === null ? undefined : indices.find((index) => typeof index === 'number');
  one('.at', figure).textContent = typeof at === 'number' ? `iteration ${data[0][at]}` : '';
  all('.legend output', figure).forEach((output, i) => {
    const index = indices[i];
    const value = cursor.idx === null || typeof index !== 'number' ? null : data[first + i]![index];
    output.textContent = typeof value === 'number' ? valueText(value) : '';
  });
}

function drawAll(): void {
  for (const entry of drawn) draw(entry);
}
smoothing?.addEventListener('input', () => {
  one('#smoothing-value').textContent = `${smoothing.value} %`;
  drawAll();
});
log?.addEventListener('input', drawAll);
addEventListener('resize', () => {
  for (const { figure, plot } of drawn) {
    const isVisible = one('.canvas', figure).clientWidth > 0; // not while the page is printed
    if (isVisible && plot?.width !== sizeOf(figure).width) plot?.setSize(sizeOf(figure));
  }
});
drawAll();

// The arrow keys move the cursor; a screen reader says the values.
for (const entry of drawn) {
  const canvas = one<HTMLElement>('.canvas', entry.figure);
  const leave = () => entry.plot!.setCursor({ left: -10, top: -10 });
  let iteration = 0;
  canvas.addEventListener('blur', leave);
  canvas.addEventListener('keydown', (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (event.key === 'Escape') leave();
    if (!steps) return;
    event.preventDefault();
    const { last } = entry.chart;
    iteration = Math.min(last, Math.max(0, iteration + (steps * last) / 100));
    entry.plot!.setCursor({ left: entry.plot!.valToPos(iteration, 'x'), top: 0 });
    one('.said', entry.figure).textContent = [one('.at', entry.figure), ...all('.legend button', entry.figure)]
      .map(({ textContent }) => textContent)
      .join(', ');
  });
}

// Sorting. Cells without a value stay last, whatever the order.
for (const table of all<HTMLTableElement>('table.sortable')) {
  const heads = all<HTMLTableCellElement>('thead th', table);
  const body = table.tBodies[0]!;
  heads.forEach((head, column) => {
    const control = document.createElement('button');
    control.type = 'button';
    control.textContent = head.textContent;
    head.replaceChildren(control);
    head.setAttribute('aria-sort', 'none');
    control.addEventListener('click', () => {
      const ascending = head.getAttribute('aria-sort') !== 'ascending';
      for (const other of heads) other.setAttribute('aria-sort', 'none');
      head.setAttribute('aria-sort', ascending ? 'ascending' : 'descending');
      const rows = [...body.rows].map((row) => {
        const { dataset, textContent } = row.cells[column]!;
        const isNumber = dataset.value !== undefined;
        return {
          row,
          isNumber,
          number: dataset.value === '' ? Number.NaN : Number(dataset.value),
          text: textContent ?? '',
        };
      });
      rows.sort((a, b) => {
        if (!a.isNumber) return (ascending ? 1 : -1) * a.text.localeCompare(b.text, 'en', { numeric: true });
        if (Number.isNaN(a.number) || Number.isNaN(b.number))
          return Number(Number.isNaN(a.number)) - Number(Number.isNaN(b.number));
        return (ascending ? 1 : -1) * (a.number - b.number);
      });
      body.append(...rows.map(({ row }) => row));
    });
  });
}
