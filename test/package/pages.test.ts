// The pages of examples/pages in a real browser, beside the package as npm installs it: no build, no bundler, nothing from elsewhere.
import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { decode } from 'fast-png';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Browser, openBrowser, type Page } from '../browser/chromium.js';
import { serve } from '../browser/serve.js';
import { patience } from '../patience.js';
import { unless } from '../unless.js';
import { Consumer, repository } from './consumer.js';

const test = suite('pages');
const consumer = new Consumer();
let browser: Browser | undefined;
let unavailable: string | undefined;
try {
  browser = await openBrowser(['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'], { presents: true });
} catch (error) {
  unavailable = `no browser starts: ${(error as Error).message.split('\n')[0]}`;
}
const inBrowser = unless(unavailable, test);
if (browser) test.before(() => consumer.install());
test.after(async () => {
  await browser?.close();
  consumer.remove();
});

/** Opens a page beside node_modules/ and gives it, with the loss that it ends with, to `look`. */
async function finish(name: string, look: (page: Page, loss: number) => unknown): Promise<void> {
  copyFileSync(join(repository, 'examples/pages', name), join(consumer.folder, name));
  const server = await serve(consumer.folder);
  try {
    const page = await browser!.page();
    await page.open(server.url + name);
    let status = '';
    for (const end = performance.now() + patience; !/, done$|^(?!step|starting)/.test(status || 'step'); ) {
      await sleep(50);
      status = await page.evaluate<string>(`document.getElementById('status').textContent`);
      assert.ok(performance.now() < end, `the page says for ever: ${status}`);
    }
    const loss = /^step \d+, loss ([\d.]+), done$/.exec(status)?.[1];
    assert.ok(loss, status);
    await look(page, Number(loss));
    assert.equal(page.errors, []);
    assert.ok(page.requests.length > 50, 'the modules are files of their own');
    assert.equal(
      page.requests.filter((url) => !url.startsWith(server.url)),
      [],
    );
  } finally {
    server.close();
  }
}

for (const name of ['no-build.html', 'shared-device.html']) {
  test(`${name} is below 120 lines`, () => {
    assert.ok(readFileSync(join(repository, 'examples/pages', name), 'utf8').split('\n').length <= 120);
  });
}

inBrowser('a page without a build imports the packed files and learns', () =>
  finish('no-build.html', (_, loss) => assert.ok(loss < 0.02, `loss ${loss}`)),
);

inBrowser('a renderer on the same device shows what the network has in its buffer', () =>
  finish('shared-device.html', async (page, loss) => {
    assert.ok(loss < 0.02, `loss ${loss}`);
    const { data, width, channels } = decode(await page.screenshot(300, 300));
    const colour = (x: number, y: number) => Array.from(data.slice((y * width + x) * channels).slice(0, 3));
    const far = (a: number[], b: number[]) => Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));
    const [disc, corner] = [colour(8 + 128, 8 + 128), colour(8 + 12, 8 + 12)];
    assert.ok(far(disc, [255, 128, 26]) < 60, `the disc is ${disc}`);
    assert.ok(far(corner, [26, 51, 153]) < 60, `the corner is ${corner}`);
  }),
);

test.run();
