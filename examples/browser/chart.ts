// Live curves as SVG: a few series over the step, each with its name, colour and last value.

export interface Series {
  readonly key: string;
  readonly name: string;
}

export interface Chart {
  /** Adds a value of every series; drawn with the next frame. */
  add(values: Record<string, number>): void;
  clear(): void;
}

const [width, height, left, bottom, top] = [320, 120, 40, 18, 6];
const svg = 'http://www.w3.org/2000/svg';

/** A chart in `place`; the style sheet colours the series line-0, line-1 … */
export function createChart(place: HTMLElement, title: string, series: readonly Series[]): Chart {
  const values = series.map(() => [] as number[]);
  const picture = document.createElementNS(svg, 'svg');
  picture.setAttribute('viewBox', `0 0 ${width} ${height}`);
  picture.setAttribute('role', 'img');
  const legend = document.createElement('ul');
  legend.className = 'legend';
  const heading = document.createElement('h3');
  heading.textContent = title;
  place.replaceChildren(heading, picture, legend);
  const numbers = series.map(({ name }, i) => {
    const item = document.createElement('li');
    item.className = `line-${i}`;
    const number = document.createElement('b');
    item.append(`${name} `, number);
    legend.append(item);
    return number;
  });
  const element = (name: string, attributes: Record<string, string | number>, text = '') => {
    const node = document.createElementNS(svg, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
    node.textContent = text;
    return node;
  };

  const redraw = (): void => {
    waiting = false;
    const steps = Math.max(...values.map((list) => list.length));
    const most = Math.max(1e-6, ...values.flat());
    const x = (step: number) => left + ((width - left - 4) * step) / Math.max(1, steps - 1);
    const y = (value: number) => height - bottom - ((height - bottom - top) * value) / most;
    const short = (value: number) => (value === 0 ? '0' : Number(value.toPrecision(2)).toString());
    picture.replaceChildren(
      ...[0, most / 2, most].flatMap((value) => [
        element('line', { class: 'grid', x1: left, x2: width - 4, y1: y(value), y2: y(value) }),
        element('text', { class: 'end', x: left - 5, y: y(value) + 4 }, short(value)),
      ]),
      element('text', { x: left, y: height - 4 }, '1'),
      element('text', { class: 'end', x: width - 4, y: height - 4 }, `step ${steps}`),
      ...values.map((list, i) => {
        const points = list.map((value, step) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(' ');
        return element('polyline', { class: `curve line-${i}`, points });
      }),
    );
    series.forEach(({ key }, i) => {
      const last = values[i]!.at(-1);
      numbers[i]!.textContent = last === undefined ? '' : last.toPrecision(3);
      numbers[i]!.dataset.key = key;
    });
    const said = series.map(({ name }, i) => `${name} ${values[i]!.at(-1)?.toPrecision(3) ?? 'none'}`).join(', ');
    picture.setAttribute('aria-label', `${title} after ${steps} steps: ${said}`);
  };
  let waiting = false;
  const soon = () => {
    if (!waiting) requestAnimationFrame(redraw);
    waiting = true;
  };
  return {
    add(given) {
      series.forEach(({ key }, i) => {
        const value = given[key];
        if (value !== undefined && Number.isFinite(value)) values[i]!.push(value);
      });
      soon();
    },
    clear() {
      for (const list of values) list.length = 0;
      soon();
    },
  };
}
