// The report in a real browser: sorting, themes, curves, values under the pointer, phone width, print, and without scripts.
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

inBrowser('curves answer to scale, smoothing and pointer', async (page, url) => {
  await size(page, 1200);
  await page.open(url);
  const line = () =>
    page.evaluate<string>(
      `document.querySelector('figure.plot path.line.s0[d^="M"]:not(.swatch *)').getAttribute('d')`,
    );
  const ticks = () =>
    page.evaluate<string[]>(
      `[...document.querySelectorAll('figure.plot svg.chart')[0].querySelectorAll('text.end')].map((t) => t.textContent)`,
    );
  const set = (selector: string, change: string) =>
    page.evaluate(
      `{ const input = document.querySelector('${selector}'); ${change}; input.dispatchEvent(new Event('input')); }`,
    );
  const before = await line();
  await set('#smoothing', 'input.value = 20');
  assert.is.not(await line(), before);
  assert.is(await page.evaluate(`document.querySelector('#smoothing-value').textContent`), '20 %');
  const linear = await ticks();
  await set('#log', 'input.checked = true');
  assert.is(linear[0], '0');
  assert.ok((await ticks()).includes('0.1'), (await ticks()).join());
  await set('#log', 'input.checked = false');
  await set('#smoothing', 'input.value = 0');
  const box = await page.evaluate<{ x: number; y: number; width: number }>(
    `(() => { const figure = document.querySelector('figure.plot'); figure.scrollIntoView(); const { x, y, width } = figure.querySelector('svg.chart').getBoundingClientRect(); return { x, y, width }; })()`,
  );
  await page.send('Input.dispatchMouseEvent', { type: 'mouseMoved', x: box.x + box.width - 14, y: box.y + 60 });
  const tip = await page.evaluate<string>(`document.querySelector('.tip').innerText`);
  const last = await page.evaluate<number>(
    `JSON.parse(document.querySelector('#charts').textContent)[0].lines[0].y.at(-1)`,
  );
  assert.match(tip, /iteration 399/);
  assert.ok(tip.includes(String(Number(last.toPrecision(4)))), `${tip} does not say ${last}`);
  await page.send('Input.dispatchMouseEvent', { type: 'mouseMoved', x: 2, y: 2 });
  assert.is(await page.evaluate(`document.querySelectorAll('.tip').length`), 0);
  // With the keyboard.
  await page.evaluate(`document.querySelector('figure.plot').focus()`);
  await page.send('Input.dispatchKeyEvent', { type: 'keyDown', key: 'ArrowRight', code: 'ArrowRight' });
  assert.match(await page.evaluate<string>(`document.querySelector('.tip').innerText`), /^iteration 4\b/);
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
    const legend = await page.evaluate<string[]>(
      `[...document.querySelectorAll('figure.plot')[0].querySelectorAll('.legend li')].map((li) => li.textContent)`,
    );
    assert.equal(legend, ['lccs', 'supervised']);
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
  assert.ok((await count('figure.plot > svg.chart path.line')) >= 9);
  assert.is(await count('button:not([hidden]), th button, .tools:not([hidden])'), 0);
  assert.is(await count('table.cases tbody tr'), 3);
});

inBrowser('printed: light, without tools', async (page, url) => {
  await page.open(url);
  await page.evaluate(`document.documentElement.dataset.theme = 'dark'`);
  await page.send('Emulation.setEmulatedMedia', { media: 'print' });
  assert.is(await background(page), 'rgb(255, 255, 255)');
  assert.is(await page.evaluate(`getComputedStyle(document.querySelector('.tools')).display`), 'none');
  const { data } = await page.send('Page.printToPDF', { preferCSSPageSize: false });
  assert.ok(
    Buffer.from(data as string, 'base64')
      .subarray(0, 5)
      .toString() === '%PDF-',
  );
  if (keep) writeFileSync(join(keep, 'one.pdf'), Buffer.from(data as string, 'base64'));
});

test.run();
