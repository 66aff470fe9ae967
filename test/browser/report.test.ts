// The report in a real browser: sorting, themes, curves and how they answer, phone width, print, and without scripts.
// With WGRAD_SCREENSHOTS=FOLDER the pictures of it are kept there.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { decode } from 'fast-png';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { writeReport } from '../../train/report/page.js';
import { writeFakeRun } from '../train/fake-run.js';
import { unless } from '../unless.js';
import { type Browser, openBrowser, type Page } from './chromium.js';

const test = suite('report in a browser');
const root = mkdtempSync(join(tmpdir(), 'wgrad-report-page-'));
const keep = process.env.WGRAD_SCREENSHOTS;
if (keep) mkdirSync(keep, { recursive: true });

const cases = ['patient010', 'patient002', '<script>document.title = "taken over"</script>'];
writeFakeRun(join(root, 'lccs'), { cases });
writeFakeRun(join(root, 'supervised'), { method: 'supervised', shift: -0.05, config: { lr: 0.02 } });
writeReport([join(root, 'lccs')], join(root, 'one.html'));
writeReport([join(root, 'lccs'), join(root, 'supervised')], join(root, 'two.html'));
writeFakeRun(join(root, 'odd'));
const records = Array.from({ length: 2000 }, (_, iteration) => {
  const loss = iteration > 700 && iteration < 1300 ? null : 0.3 + 0.1 * (-1) ** iteration;
  return { iteration, loss, ce: 1, lr: -2 * iteration };
});
writeFileSync(join(root, 'odd/log.jsonl'), records.map((record) => `${JSON.stringify(record)}\n`).join(''));
writeReport([join(root, 'odd')], join(root, 'odd.html'));

let browser: Browser | undefined;
let unavailable = '';
try {
  browser = await openBrowser();
} catch (error) {
  unavailable = (error as Error).message.split('\n')[0]!;
}
test.after(async () => {
  await browser?.close();
  rmSync(root, { recursive: true, force: true });
});

test('a browser starts, or says why it does not', () => {
  assert.ok(browser ? !unavailable : unavailable.length > 10, unavailable);
});

const register = unless(browser ? undefined : `no browser starts: ${unavailable}`, test);
/** A test with a new page on a report; skipped, with the reason, where no browser starts. */
function inBrowser(name: string, work: (page: Page, url: string) => Promise<void>, file = 'one.html'): void {
  register(name, async () => {
    const page = await browser!.page();
    const url = pathToFileURL(join(root, file)).href;
    await work(page, url);
    assert.equal(page.errors, []);
    assert.equal([...new Set(page.requests.filter((address) => !address.startsWith('data:')))], [url]);
  });
}

const theme = (page: Page, value: 'light' | 'dark') =>
  page.send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value }] });
const size = (page: Page, width: number) =>
  page.send('Emulation.setDeviceMetricsOverride', { width, height: 800, deviceScaleFactor: 1, mobile: width < 600 });
const background = (page: Page) => page.evaluate<string>('getComputedStyle(document.body).backgroundColor');
const overflows = (page: Page) => page.evaluate<number>('document.documentElement.scrollWidth - innerWidth');
async function picture(page: Page, name: string, width: number): Promise<void> {
  const png = await page.screenshot(width);
  assert.is(decode(png).width, width);
  if (keep) writeFileSync(join(keep, `${name}.png`), png);
}

inBrowser('a click on a head sorts by it, another turns it round; what has no value stays last', async (page, url) => {
  await page.open(url);
  const column = (title: string) =>
    `[...document.querySelectorAll('table.cases thead th')].findIndex((th) => th.textContent === ${JSON.stringify(title)})`;
  const click = (title: string) =>
    page.evaluate(
      `document.querySelectorAll('table.cases thead th')[${column(title)}].querySelector('button').click()`,
    );
  const cells = (title: string) =>
    page.evaluate<string[]>(
      `[...document.querySelectorAll('table.cases tbody tr')].map((tr) => tr.cells[${column(title)}].textContent)`,
    );
  const sorted = (title: string) =>
    page.evaluate<string>(
      `document.querySelectorAll('table.cases thead th')[${column(title)}].getAttribute('aria-sort')`,
    );
  assert.is(await sorted('case'), 'none');
  await click('case');
  assert.equal(await cells('case'), [cases[2], 'patient002', 'patient010']);
  assert.is(await sorted('case'), 'ascending');
  await click('HD95 right ventricle');
  const up = await cells('HD95 right ventricle');
  assert.is(up.at(-1), '–');
  assert.ok(Number(up[0]) < Number(up[1]), up.join());
  assert.is(await sorted('case'), 'none');
  await click('HD95 right ventricle');
  assert.equal(await cells('HD95 right ventricle'), [up[1], up[0], '–']);
  assert.is(await sorted('HD95 right ventricle'), 'descending');
  // With the keyboard: focus and Enter.
  await page.evaluate(`document.querySelector('table.cases thead th button').focus()`);
  for (const type of ['keyDown', 'keyUp'])
    await page.send('Input.dispatchKeyEvent', {
      type,
      key: 'Enter',
      code: 'Enter',
      windowsVirtualKeyCode: 13,
      text: type === 'keyDown' ? '\r' : undefined,
    });
  assert.is(await sorted('case'), 'ascending');
});

inBrowser('a case’s name is shown, not run', async (page, url) => {
  await page.open(url);
  assert.is(await page.evaluate('document.title'), 'wgrad: lccs');
  assert.ok(
    await page.evaluate(`document.querySelector('table.cases').textContent.includes('<script>document.title')`),
  );
});

inBrowser('light and dark: as the system says, until the button is pressed', async (page, url) => {
  await theme(page, 'dark');
  await page.open(url);
  const dark = await background(page);
  await theme(page, 'light');
  const light = await background(page);
  assert.is.not(dark, light);
  await page.evaluate(`document.querySelector('button.theme').click()`);
  assert.is(await background(page), dark);
  await page.evaluate(`document.querySelector('button.theme').click()`);
  assert.is(await background(page), light);
  // Text stands out from its background: WCAG's contrast of at least 4.5.
  for (const scheme of ['light', 'dark'] as const) {
    await theme(page, scheme);
    await page.evaluate(`document.documentElement.removeAttribute('data-theme')`);
    const least =
      await page.evaluate<number>(`Math.min(...['--ink', '--soft', '--accent', '--s0', '--s1', '--s2', '--s3', '--s4', '--s5'].map((name) => {
      const luminance = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + [0.2126, 0.7152, 0.0722][i] * c, 0);
      const of = (n) => luminance(getComputedStyle(document.documentElement).getPropertyValue(n).trim());
      const [a, b] = [of(name), of('--paper')].sort((x, y) => y - x);
      return (a + 0.05) / (b + 0.05);
    }))`);
    assert.ok(least >= 4.5, `${scheme}: ${least}`);
  }
});

interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}
/** The chart of this title, as an expression. */
const plot = (title: string) =>
  `[...document.querySelectorAll('figure.plot')].find((figure) => figure.querySelector('h4').firstChild.data.trim() === ${JSON.stringify(title)})`;
/** Where its curves are drawn, scrolled into view. */
const plotBox = (page: Page, title: string) =>
  page.evaluate<Box>(
    `(() => { ${plot(title)}.scrollIntoView(); const { x, y, width, height } = ${plot(title)}.querySelector('.u-over').getBoundingClientRect(); return { x, y, width, height }; })()`,
  );
/** Where a column of the plot has a line's colour: heights, as shares of the plot's, from its bottom. */
const heights = (page: Page, title: string, color: string, part: number) =>
  page.evaluate<number[]>(`(() => {
    const figure = ${plot(title)}, canvas = figure.querySelector('canvas');
    const [over, own] = [figure.querySelector('.u-over'), canvas].map((element) => element.getBoundingClientRect());
    const hex = getComputedStyle(document.documentElement).getPropertyValue('${color}').trim();
    const wanted = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
    const x = Math.round(over.x - own.x + ${part} * (over.width - 1)), top = Math.round(over.y - own.y);
    const { data } = canvas.getContext('2d').getImageData(x, top, 1, Math.round(over.height));
    return Array.from({ length: over.height }, (_, y) => y)
      .filter((y) => wanted.every((c, i) => Math.abs(c - data[4 * y + i]) < 24))
      .map((y) => 1 - (y + 0.5) / over.height);
  })()`);
const mean = (values: number[]) => values.reduce((sum, v) => sum + v, 0) / values.length;
const legend = (page: Page, title: string) =>
  page.evaluate<string[]>(`[...${plot(title)}.querySelectorAll('.legend output')].map(({ value }) => value)`);
const at = (page: Page, title: string) => page.evaluate<string>(`${plot(title)}.querySelector('.at').textContent`);
const set = (page: Page, selector: string, change: string) =>
  page.evaluate(
    `{ const input = document.querySelector('${selector}'); ${change}; input.dispatchEvent(new Event('input')); }`,
  );
const mouse = (page: Page, type: string, x: number, y: number, more = {}) =>
  page.send('Input.dispatchMouseEvent', { type, x, y, ...more });
const key = (page: Page, name: string) =>
  page.send('Input.dispatchKeyEvent', { type: 'keyDown', key: name, code: name, text: name === 'Enter' ? '\r' : '' });
/** The data of a line, as the page holds it. */
const lineOf = (page: Page, title: string, name: string) =>
  page.evaluate<{ x: number[]; y: number[] }>(
    `JSON.parse(document.querySelector('#charts').textContent).find(({ title }) => title === ${JSON.stringify(title)}).lines.find(({ name }) => name === ${JSON.stringify(name)})`,
  );
/** A moment for what uPlot does after the event. */
const settled = (page: Page) =>
  page.evaluate('new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))');

inBrowser('a line goes where its values are: linear, on a log scale, smoothed', async (page, url) => {
  await size(page, 1200);
  await page.open(url);
  await settled(page);
  await set(page, '#smoothing', 'input.value = 0');
  const dice = await lineOf(page, 'Dice', 'right ventricle');
  const height = async (title: string, color: string, part: number) => mean(await heights(page, title, color, part));
  assert.ok(Math.abs((await height('Dice', '--s1', 0.75)) - dice.y[5]!) < 0.02, 'iteration 300, from 0 to 1');
  const { y } = await lineOf(page, 'Learning rate', 'Learning rate');
  await set(page, '#log', 'input.checked = true');
  await settled(page);
  assert.ok(Math.abs((await height('Dice', '--s1', 0.75)) - dice.y[5]!) < 0.02, 'shares have no log scale');
  const decades =
    Math.ceil(Math.log10(Math.max(...y)) - 1e-9) - Math.floor(Math.log10(Math.min(...y.filter((v) => v > 0))));
  const expected = 1 + (Math.log10(y[200]!) - Math.ceil(Math.log10(Math.max(...y)) - 1e-9)) / decades;
  assert.ok(Math.abs((await height('Learning rate', '--s0', 0.5)) - expected) < 0.02, 'iteration 200, in decades');
  await set(page, '#log', 'input.checked = false');
  const picture = () =>
    page.evaluate<string>(`${plot('Supervised loss and total')}.querySelector('canvas').toDataURL()`);
  await settled(page);
  const before = await picture();
  await set(page, '#smoothing', 'input.value = 20');
  await settled(page);
  assert.is.not(await picture(), before);
  assert.is(await page.evaluate(`document.querySelector('#smoothing-value').textContent`), '20 %');
});

inBrowser(
  'values beside the names: under the pointer in every chart, under the arrow keys, said',
  async (page, url) => {
    await size(page, 1200);
    await page.open(url);
    await set(page, '#smoothing', 'input.value = 0');
    const title = 'Supervised loss and total';
    const box = await plotBox(page, title);
    await mouse(page, 'mouseMoved', box.x + box.width - 1, box.y + 60);
    await settled(page);
    assert.is(await at(page, title), 'iteration 399');
    const names = ['Total loss', 'Cross-entropy', 'Dice loss'];
    const lines = await Promise.all(names.map((name) => lineOf(page, title, name)));
    const said = (v: number) => String(Number(v.toPrecision(4)));
    assert.equal(
      await legend(page, title),
      lines.map(({ y }) => said(y.at(-1)!)),
    );
    assert.is(await at(page, 'Dice'), 'iteration 400', 'the nearest validation');
    assert.is((await legend(page, 'Dice'))[1], said((await lineOf(page, 'Dice', 'right ventricle')).y.at(-1)!));
    await mouse(page, 'mouseMoved', 2, 2);
    await settled(page);
    assert.equal([await at(page, title), ...(await legend(page, title))], ['', '', '', '']);
    await page.evaluate(`${plot(title)}.querySelector('.canvas').focus()`);
    await key(page, 'ArrowRight');
    await settled(page);
    assert.is(await at(page, title), 'iteration 4');
    assert.is(
      await page.evaluate(`${plot(title)}.querySelector('[role=status]').textContent.replace(/\\s+/g, ' ')`),
      ['iteration 4', ...names.map((name, i) => `${name} ${said(lines[i]!.y[4]!)}`)].join(', '),
    );
    await key(page, 'Escape');
    await settled(page);
    assert.is(await at(page, title), '');
  },
);

inBrowser(
  'a name’s button hides its line, with the keyboard, too; redrawn charts leave it hidden',
  async (page, url) => {
    await size(page, 1200);
    await page.open(url);
    const isDrawn = async () => {
      await settled(page);
      return (await heights(page, 'Dice', '--s1', 0.75)).length > 0;
    };
    const button = `${plot('Dice')}.querySelectorAll('.legend button')[1]`;
    assert.ok(await isDrawn());
    await page.evaluate(`${button}.click()`);
    assert.is(await page.evaluate(`${button}.getAttribute('aria-pressed')`), 'false');
    assert.not(await isDrawn());
    await set(page, '#smoothing', 'input.value = 10');
    assert.not(await isDrawn());
    await page.evaluate(`${button}.focus()`);
    await key(page, 'Enter');
    assert.ok(await isDrawn());
  },
);

inBrowser('a stretch is enlarged by dragging, in every chart, until a double click', async (page, url) => {
  await size(page, 1200);
  await page.open(url);
  await set(page, '#smoothing', 'input.value = 0');
  const title = 'Supervised loss and total';
  const box = await plotBox(page, title);
  const [middle, y] = [box.x + box.width / 2, box.y + 40];
  const iterationAt = async (part: number) => {
    const now = await plotBox(page, title); // the vertical axis changes its width with its numbers
    await mouse(page, 'mouseMoved', now.x + part * now.width, y);
    await settled(page);
    return [await at(page, title), await at(page, 'Mean confidence')];
  };
  await mouse(page, 'mouseMoved', middle, y);
  await mouse(page, 'mousePressed', middle, y, { button: 'left', clickCount: 1 });
  await mouse(page, 'mouseMoved', box.x + box.width - 1, y, { button: 'left', buttons: 1 });
  await mouse(page, 'mouseReleased', box.x + box.width - 1, y, { button: 'left', clickCount: 1 });
  await settled(page);
  for (const shown of await iterationAt(0.5)) assert.match(shown, /^iteration (29[89]|30[0-2])$/);
  await set(page, '#log', 'input.checked = true');
  for (const shown of await iterationAt(0.5)) assert.match(shown, /^iteration (29[89]|30[0-2])$/, 'drawn anew');
  await set(page, '#log', 'input.checked = false');
  const now = await plotBox(page, title);
  for (const clickCount of [1, 2]) {
    await mouse(page, 'mousePressed', now.x + 5, y, { button: 'left', clickCount });
    await mouse(page, 'mouseReleased', now.x + 5, y, { button: 'left', clickCount });
  }
  for (const shown of await iterationAt(0.5)) assert.match(shown, /^iteration (199|20[0-2])$/);
});

inBrowser(
  'gaps stay open, bands lie around their lines, what is not positive has no place on a log scale',
  async (page, url) => {
    await size(page, 1200);
    await page.open(url);
    await set(page, '#smoothing', 'input.value = 0');
    await settled(page);
    const at = (color: string, part: number) => heights(page, 'Supervised loss and total', color, part);
    const line = await at('--s0', 0.25);
    assert.equal([line.length > 0, (await at('--s0', 0.5)).length], [true, 0]);
    // The band from 0.2 to 0.4 around the line at 0.3 is a fifth of the line's colour.
    const band = await page.evaluate<number>(`(() => {
      const figure = document.querySelector('figure.plot'), canvas = figure.querySelector('canvas');
      const [over, own] = [figure.querySelector('.u-over'), canvas].map((element) => element.getBoundingClientRect());
      const { data } = canvas.getContext('2d').getImageData(Math.round(over.x - own.x + 0.25 * over.width), Math.round(over.y - own.y), 1, over.height);
      return Array.from({ length: over.height }, (_, y) => data[4 * y + 2] > data[4 * y] + 20).filter(Boolean).length / over.height;
    })()`);
    assert.ok(Math.abs(band - mean(line) * (0.2 / 0.3)) < 0.03, `${band} around ${mean(line)}`);
    await set(page, '#log', 'input.checked = true');
    await settled(page);
    assert.ok((await at('--s0', 0.25)).length > 0);
    assert.is((await heights(page, 'Learning rate', '--s0', 0.5)).length, 0);
  },
  'odd.html',
);

inBrowser('curves have the colours of the theme', async (page, url) => {
  await theme(page, 'light');
  await size(page, 1200);
  await page.open(url);
  await settled(page);
  const [light] = await heights(page, 'Dice', '--s1', 0.75);
  await page.evaluate(`document.querySelector('button.theme').click()`);
  await settled(page);
  const [dark] = await heights(page, 'Dice', '--s1', 0.75);
  assert.is(await page.evaluate(`document.documentElement.dataset.theme`), 'dark');
  assert.ok(light !== undefined && light === dark, `${light} ${dark}`);
});

inBrowser('nothing is wider than the page: desktop, tablet, phone; light and dark', async (page, url) => {
  for (const [width, scheme] of [
    [1200, 'light'],
    [1200, 'dark'],
    [768, 'light'],
    [390, 'light'],
    [390, 'dark'],
  ] as const) {
    await theme(page, scheme);
    await size(page, width);
    await page.open(url);
    assert.ok((await overflows(page)) <= 0, `${width} px: ${await overflows(page)} too wide`);
    await picture(page, `one-${scheme}-${width}`, width);
  }
});

inBrowser(
  'several runs: overlaid curves, nothing too wide',
  async (page, url) => {
    for (const [width, scheme] of [
      [1200, 'light'],
      [1200, 'dark'],
      [390, 'light'],
    ] as const) {
      await theme(page, scheme);
      await size(page, width);
      await page.open(url);
      assert.ok((await overflows(page)) <= 0, `${width} px: ${await overflows(page)} too wide`);
      await picture(page, `two-${scheme}-${width}`, width);
    }
    const names = await page.evaluate<string[]>(
      `[...document.querySelectorAll('figure.plot')[0].querySelectorAll('.legend li')].map((li) => li.textContent.trim())`,
    );
    assert.equal(names, ['lccs', 'supervised']);
  },
  'two.html',
);

inBrowser('without scripts: charts and tables are there, and no dead buttons', async (page, url) => {
  await page.send('Emulation.setScriptExecutionDisabled', { value: true });
  await size(page, 390);
  await page.open(url);
  await picture(page, 'one-without-scripts', 390);
  await page.send('Emulation.setScriptExecutionDisabled', { value: false });
  // What the page is before its script runs, read through the protocol.
  const { root: document } = (await page.send('DOM.getDocument', { depth: -1 })) as { root: { nodeId: number } };
  const count = async (selector: string) =>
    ((await page.send('DOM.querySelectorAll', { nodeId: document.nodeId, selector })) as { nodeIds: number[] }).nodeIds
      .length;
  assert.ok((await count('figure.plot > .static > svg polyline[stroke-width="2.5"]')) >= 9);
  assert.is(await count('.scripted:not([hidden])'), 0);
  assert.is(await count('button:not([hidden], [hidden] *), th button, .tools:not([hidden])'), 0);
  assert.is(await count('table.cases tbody tr'), 3);
});

inBrowser('printed: light, without tools, charts as pictures', async (page, url) => {
  await page.open(url);
  await page.evaluate(`document.documentElement.dataset.theme = 'dark'`);
  const width = () => page.evaluate<number>(`document.querySelector('.canvas canvas').width`);
  const before = await width();
  await page.send('Emulation.setEmulatedMedia', { media: 'print' });
  await page.evaluate(`dispatchEvent(new Event('resize'))`);
  assert.is(await background(page), 'rgb(255, 255, 255)');
  const display = (selector: string) =>
    page.evaluate(`getComputedStyle(document.querySelector('${selector}')).display`);
  assert.equal(
    [await display('.tools'), await display('.plot > .scripted'), await display('.plot > .static')],
    ['none', 'none', 'block'],
  );
  const { data } = await page.send('Page.printToPDF', { preferCSSPageSize: false });
  assert.ok(
    Buffer.from(data as string, 'base64')
      .subarray(0, 5)
      .toString() === '%PDF-',
  );
  if (keep) writeFileSync(join(keep, 'one.pdf'), Buffer.from(data as string, 'base64'));
  await page.send('Emulation.setEmulatedMedia', { media: 'screen' });
  await settled(page);
  assert.is(await width(), before, 'printing leaves the charts as they were');
});

test.run();
