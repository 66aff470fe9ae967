// What the page does beyond being read: scale and smoothing of the curves, values under the pointer, sorting, light and dark.
// `startPage` is sent to the page as text, so it uses nothing but the page, and the functions of chart.ts that go with it.
import { type Chart, chartSvg, type Layout, layOutChart, type View } from './chart.js';
import { escapeText } from './html.js';

/** Runs in the browser, once the page is read. */
export function startPage(): void {
  const all = <E extends Element>(selector: string, within: ParentNode = document) => [
    ...within.querySelectorAll<E>(selector),
  ];
  const one = <E extends Element>(selector: string, within: ParentNode = document) => within.querySelector<E>(selector);

  // Light and dark.
  const root = document.documentElement;
  const button = one<HTMLButtonElement>('button.theme');
  const isDark = () =>
    root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  const remembered = (theme?: string): string | null => {
    try {
      if (theme) localStorage.setItem('wgrad-theme', theme);
      return localStorage.getItem('wgrad-theme');
    } catch {
      return null; // a page from a file may not be allowed to remember anything
    }
  };
  const name = () => {
    if (button) button.textContent = isDark() ? 'light' : 'dark';
    button?.setAttribute('aria-label', `show the page in ${isDark() ? 'light' : 'dark'} colours`);
  };
  const theme = remembered();
  if (theme === 'dark' || theme === 'light') root.dataset.theme = theme;
  name();
  button?.addEventListener('click', () => {
    root.dataset.theme = isDark() ? 'light' : 'dark';
    remembered(root.dataset.theme);
    name();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', name);
  for (const element of all<HTMLElement>('.scripted')) element.hidden = false;

  // Curves.
  const charts = JSON.parse(one('#charts')?.textContent ?? '[]') as Chart[];
  const log = one<HTMLInputElement>('#log');
  const smoothing = one<HTMLInputElement>('#smoothing');
  const shown = one('#smoothing-value');
  const figures = all<HTMLElement>('figure.plot').map((figure, i) => ({
    figure,
    chart: charts[i]!,
    layout: undefined as Layout | undefined,
    width: 0,
  }));
  const draw = (entry: (typeof figures)[number]) => {
    const { figure, chart } = entry;
    const width = Math.max(220, Math.round(figure.clientWidth));
    const view: View = {
      width,
      height: Math.round(Math.min(300, Math.max(190, 0.5 * width))),
      log: log?.checked ?? false,
      smoothing: Number(smoothing?.value ?? 0) / 100,
    };
    entry.width = width;
    entry.layout = layOutChart(chart, view);
    const svg = one('svg.chart', figure);
    if (svg) svg.outerHTML = chartSvg(chart, view);
  };
  const drawAll = () => {
    if (shown && smoothing) shown.textContent = `${smoothing.value} %`;
    for (const entry of figures) draw(entry);
  };
  log?.addEventListener('input', drawAll);
  smoothing?.addEventListener('input', drawAll);
  addEventListener('resize', () => {
    for (const entry of figures) if (Math.round(entry.figure.clientWidth) !== entry.width) draw(entry);
  });
  drawAll();

  // Values under the pointer, or under a cursor that the arrow keys move.
  const text = (value: number): string => {
    if (value === 0) return '0';
    return Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5
      ? value.toExponential(2)
      : String(Number(value.toPrecision(4)));
  };
  const hide = (figure: HTMLElement) => {
    one('.tip', figure)?.remove();
    one('.cursor', figure)?.remove();
  };
  const show = ({ figure, chart, layout }: (typeof figures)[number], iteration: number) => {
    hide(figure);
    const svg = one<SVGSVGElement>('svg.chart', figure);
    if (!layout || !svg) return;
    const rows: string[] = [];
    let at: number | undefined;
    chart.lines.forEach(({ name: label, style, x }, n) => {
      let nearest = -1;
      x.forEach((candidate, i) => {
        if (layout.shown[n]![i] === null) return;
        if (nearest < 0 || Math.abs(candidate - iteration) < Math.abs(x[nearest]! - iteration)) nearest = i;
      });
      if (nearest < 0) return;
      at ??= x[nearest]!;
      const value = text(layout.shown[n]![nearest]!);
      const swatch = `<svg class="swatch" viewBox="0 0 30 12"><path class="line s${style}" d="M1 6H29"/></svg>`;
      rows.push(`<div>${swatch}<span>${escapeText(label)}</span><b>${value}</b></div>`);
    });
    if (at === undefined) return;
    const x = layout.xAt(at);
    const line = document.createElementNS('http://www.w3.org/2000/svg', 'path');
    line.setAttribute('class', 'cursor');
    line.setAttribute('d', `M${x} ${layout.top}V${layout.bottom}`);
    svg.append(line);
    const tip = document.createElement('div');
    tip.className = 'tip';
    tip.innerHTML = `<div>iteration ${at}</div>${rows.join('')}`;
    figure.append(tip);
    const left = x + 12 + tip.offsetWidth > figure.clientWidth ? x - 12 - tip.offsetWidth : x + 12;
    tip.style.left = `${Math.max(0, Math.min(left, figure.clientWidth - tip.offsetWidth))}px`;
    tip.style.top = `${svg.getBoundingClientRect().top - figure.getBoundingClientRect().top + 10}px`;
  };
  for (const entry of figures) {
    const { figure, chart } = entry;
    let cursor: number | undefined;
    figure.addEventListener('pointermove', (event) => {
      const svg = one<SVGSVGElement>('svg.chart', figure);
      if (!entry.layout || !svg) return;
      const box = svg.getBoundingClientRect();
      const inside = event.clientY >= box.top && event.clientY <= box.bottom;
      if (!inside) return hide(figure);
      const { left, right } = entry.layout;
      cursor = ((event.clientX - box.left - left) / (right - left)) * chart.last;
      show(entry, cursor);
    });
    figure.addEventListener('pointerleave', () => {
      cursor = undefined;
      hide(figure);
    });
    figure.addEventListener('blur', () => hide(figure));
    figure.tabIndex = 0;
    figure.addEventListener('keydown', (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
      if (event.key === 'Escape') hide(figure);
      if (!move) return;
      event.preventDefault();
      cursor = Math.min(chart.last, Math.max(0, (cursor ?? 0) + (move * chart.last) / 100));
      show(entry, cursor);
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
        const ascending = head.getAttribute('aria-sort') === 'none' || head.getAttribute('aria-sort') === 'descending';
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
}
