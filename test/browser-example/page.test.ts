// The browser example in a real browser on a software GPU: a file is dropped, segmented as Node does it, painted, learned from,
// saved and opened again. With WGRAD_SCREENSHOTS=FOLDER the pictures of it are kept there.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { openDevice } from '../../engine/node.js';
import { buildPage } from '../../examples/browser/build.js';
import { encodeSafetensors, layoutOf, type NamedArray, toPyTorch, vnet } from '../../model/index.js';
import { loadCase } from '../../train/data/case-volume.js';
import { encodeNifti } from '../../train/data/nifti.js';
import { decodeNiftiFile, readNifti } from '../../train/data/nifti-file.js';
import { createPhantom } from '../../train/data/phantom.js';
import { restoreLabels, stackSamples } from '../../train/data/samples.js';
import { predictCase } from '../../train/evaluation/evaluate.js';
import { createPredictor } from '../../train/evaluation/predictor.js';
import { readSafetensors } from '../../train/run/checkpoint.js';
import { loadModel } from '../../train/run/trained-model.js';
import { type Browser, openBrowser, type Page } from '../browser/chromium.js';
import { patience } from '../patience.js';
import { unless } from '../unless.js';

const test = suite('browser example');
const root = mkdtempSync(join(tmpdir(), 'wgrad-example-'));
const keep = process.env.WGRAD_SCREENSHOTS;
if (keep) mkdirSync(keep, { recursive: true });
const seconds = (since: number) => ((performance.now() - since) / 1000).toFixed(1);

const url = await buildPage(join(root, 'page'));
let browser: Browser | undefined;
let page: Page;
let unavailable = '';
try {
  browser = await openBrowser([
    '--enable-unsafe-webgpu',
    '--use-webgpu-adapter=swiftshader',
    '--enable-features=Vulkan',
  ]);
  page = await browser.page();
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

const inBrowser = unless(browser ? undefined : `no browser starts: ${unavailable}`, test);

// ---- What a user does.

const text = (id: string) => page.evaluate<string>(`document.getElementById('${id}').textContent`);
const click = (id: string) => page.evaluate(`document.getElementById('${id}').click()`);
const frame = () =>
  page.evaluate('new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))');
/** Waits for an expression in the page to be true; a notice in the meantime is an error. */
async function until(expression: string): Promise<void> {
  const end = performance.now() + patience;
  while (!(await page.evaluate<boolean>(expression))) {
    const notice = await page.evaluate<string>(
      `document.getElementById('notice').hidden ? '' : document.getElementById('notice-text').textContent`,
    );
    if (notice) throw new Error(`the page says: ${notice}`);
    if (performance.now() > end) throw new Error(`this never became true: ${expression}`);
    await sleep(50);
  }
}
async function drop(...files: { name: string; bytes: Uint8Array }[]): Promise<void> {
  const list = files.map(({ name, bytes }) => ({ name, base64: Buffer.from(bytes).toString('base64') }));
  await page.evaluate(`(() => {
    const data = new DataTransfer();
    for (const { name, base64 } of ${JSON.stringify(list)}) {
      data.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], name));
    }
    document.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
  })()`);
}
async function key(name: string, modifiers = 0): Promise<void> {
  const code = name.length === 1 ? `Key${name.toUpperCase()}` : name;
  for (const type of ['keyDown', 'keyUp'])
    await page.send('Input.dispatchKeyEvent', { type, key: name, code, modifiers });
}
const mouse = (type: string, x: number, y: number, more = {}) =>
  page.send('Input.dispatchMouseEvent', { type, x, y, button: 'left', ...more });
/** The point of the window where a pixel of the slice is; front is at the top, whatever the file has. */
async function pointOf(x: number, y: number): Promise<{ x: number; y: number }> {
  return page.evaluate(`(() => {
    const box = document.getElementById('picture').getBoundingClientRect();
    const { width, height, spacing, directions } = page.study;
    const down = directions[1] === 'A' ? -1 : 1;
    const scale = Math.min(box.width / (width * spacing[0]), box.height / (height * spacing[1]));
    return {
      x: box.x + box.width / 2 + (${x} - width / 2) * spacing[0] * scale,
      y: box.y + box.height / 2 + down * (${y} - height / 2) * spacing[1] * scale,
    };
  })()`);
}
const base64 = (expression: string) =>
  page.evaluate<string>(
    `(() => { let text = ''; for (const v of ${expression}) text += String.fromCharCode(v); return btoa(text); })()`,
  );
const voxels = async (expression: string) => new Uint8Array(Buffer.from(await base64(expression), 'base64'));
/** Presses a button that saves a file, and returns its bytes. */
async function saved(id: string): Promise<{ name: string; bytes: Buffer }> {
  const folder = mkdtempSync(join(root, 'saved-'));
  const { targetInfo } = (await page.send('Target.getTargetInfo')) as { targetInfo: { browserContextId: string } };
  const { browserContextId } = targetInfo;
  await page.send('Browser.setDownloadBehavior', { behavior: 'allow', downloadPath: folder, browserContextId });
  await click(id);
  for (const end = performance.now() + patience; performance.now() < end; ) {
    const name = readdirSync(folder).find((each) => !each.endsWith('.crdownload'));
    const bytes = name ? readFileSync(join(folder, name)) : Buffer.alloc(0);
    if (bytes.length) return { name: name!, bytes };
    await sleep(50);
  }
  throw new Error(`nothing was saved by '${id}'`);
}
async function picture(name: string, width: number, height?: number): Promise<void> {
  const png = await page.screenshot(width, height);
  if (keep) writeFileSync(join(keep, `${name}.png`), png);
}
const size = (width: number, height = 900) =>
  page.send('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: width < 600 });

// ---- A heart in a header that says more than its voxels: oblique, axes not in the page's order.

const heart = createPhantom({ size: 72, seed: 5, index: 3 });
const affine = [-2.9, 0.3, 0, 40, 0.3, 2.9, 0.4, -30, 0, 0.1, 9, 12, 0, 0, 0, 1];
const image = gzipSync(
  encodeNifti(
    { data: heart.diastole.image, dtype: 'int16', shape: heart.shape, spacing: heart.spacing, affine },
    'heart',
  ),
);
writeFileSync(join(root, 'heart.nii.gz'), image);
const [width, height, depth] = heart.shape;

inBrowser('a dropped volume is shown and turned by wheel, keys, slider and swipe', async () => {
  await size(1280);
  await page.open(url);
  await drop({ name: 'heart.nii.gz', bytes: image });
  await until('page.study !== undefined');
  assert.equal(await page.evaluate('[page.study.width, page.study.height, page.study.depth]'), [...heart.shape]);
  const z = () => page.evaluate<number>('page.view.z');
  const middle = Math.floor(depth / 2);
  assert.is(await z(), middle);
  const at = await pointOf(width / 2, height / 2);
  await mouse('mouseWheel', at.x, at.y, { deltaX: 0, deltaY: 100 });
  await until(`page.view.z === ${middle + 1}`);
  await key('ArrowLeft');
  await key('ArrowDown');
  assert.is(await z(), middle - 1);
  for (const [type, dy] of [
    ['touchStart', 0],
    ['touchMove', -30],
    ['touchEnd', -30],
  ] as const) {
    const touchPoints = type === 'touchEnd' ? [] : [{ x: at.x, y: at.y + dy }];
    await page.send('Input.dispatchTouchEvent', { type, touchPoints });
  }
  await until(`page.view.z === ${middle}`);
  // A drag: window and level; two fingers or Ctrl and the wheel: zoom; Home: back.
  await mouse('mousePressed', at.x, at.y, { clickCount: 1 });
  await mouse('mouseMoved', at.x - 60, at.y - 40, { buttons: 1 });
  await mouse('mouseReleased', at.x - 60, at.y - 40, { clickCount: 1 });
  assert.ok((await page.evaluate<number>('page.view.window')) < 1);
  assert.ok((await page.evaluate<number>('page.view.level')) < 0.5);
  await mouse('mouseWheel', at.x, at.y, { deltaX: 0, deltaY: -100, modifiers: 2 });
  await until('page.view.zoom > 1.2');
  await key('Home');
  assert.equal(await page.evaluate('[page.view.zoom, page.view.window, page.view.level]'), [1, 1, 0.5]);
  await frame();
  assert.is(await text('slice-text'), `${middle + 1} of ${depth}`);
});

inBrowser('three planes go through one voxel; right and left are where the convention has them', async () => {
  const focus = () => page.evaluate<number[]>('[page.view.z, page.view.y, page.view.x]');
  const middle = [depth, height, width].map((n) => Math.floor(n / 2));
  assert.equal(await focus(), middle);
  assert.is(await page.evaluate('page.study.directions'), 'LAS');
  const click = async ({ x, y }: { x: number; y: number }) => {
    await mouse('mousePressed', x, y, { clickCount: 1 });
    await mouse('mouseReleased', x, y, { clickCount: 1 });
  };
  await click(await pointOf(20.5, 30.5));
  assert.equal(await focus(), [middle[0], 30, 20]);
  const index = (middle[0]! * height + 30) * width + 20;
  const value = Number(heart.diastole.image[index]!.toPrecision(4));
  await frame();
  assert.is(await text('value'), `Column 21, row 31, slice ${middle[0]! + 1}: ${value}`);
  await key('ArrowUp');
  await frame();
  assert.match(
    await text('value'),
    new RegExp(`^Column 21, row 31, slice ${middle[0]! + 2}: `),
    'under the pointer now',
  );
  // In the middle of the sagittal plane, half a voxel off where sides are even.
  const box = await page.evaluate<{ x: number; y: number; width: number; height: number }>(
    `document.getElementById('sagittal').getBoundingClientRect().toJSON()`,
  );
  const perMm = Math.min(box.width / (height * 2.9), box.height / (depth * 9));
  const shifted = { x: box.x + box.width / 2 + 1, y: box.y + box.height / 2 - 9 * perMm * (2 - (depth % 2 ? 0 : 0.5)) };
  await click(shifted);
  const [z, y, x] = await focus();
  assert.is(x, 20);
  assert.ok(Math.abs(y! - height / 2) <= 1.5, `row ${y}`);
  assert.is(z, Math.floor((depth - 1) / 2 + 2), 'further up: the file’s last slices are at the top');
  await page.evaluate(`(() => {
    const convention = document.getElementById('convention');
    convention.value = 'neurological';
    convention.dispatchEvent(new Event('change'));
  })()`);
  const mirrored = await pointOf(width - 20.5, 30.5);
  await click(mirrored);
  assert.equal(await focus(), [z, 30, 20]);
  await page.evaluate(`(() => {
    const convention = document.getElementById('convention');
    convention.value = 'radiological';
    convention.dispatchEvent(new Event('change'));
    page.view.z = ${middle[0]};
  })()`);
  await frame();
});

inBrowser('the segmentation is Node’s, voxel by voxel', async () => {
  const started = performance.now();
  await key('s');
  await until('page.study.segmentation !== undefined');
  await frame();
  console.log(`  segmented in ${seconds(started)} s: ${await text('status')}`);
  const ours = await voxels('page.study.segmentation.labels');

  const gpu = await openDevice({
    adapter: 'swiftshader',
    quiet: true,
    flags: { tune: false }, // the page has nothing measured
  });
  const weights = join(root, 'page-weights.safetensors');
  writeFileSync(weights, (await saved('save-weights')).bytes);
  const { model, config } = loadModel(gpu, { weights });
  const path = join(root, 'heart.nii.gz');
  const loaded = loadCase({ id: 'heart', patient: 'heart', frame: undefined, image: path, label: undefined });
  const { labels } = await createPredictor(gpu, model, config.patch, { batch: 4 })(stackSamples(loaded, config));
  const theirs = restoreLabels(labels, config, loaded);
  gpu.close();
  const differ = ours.filter((k, i) => k !== theirs[i]).length;
  console.log(`  ${differ} of ${ours.length} voxels differ from Node's`);
  assert.is(differ, 0);
  assert.ok(new Set(ours).size === 4, 'a heart has all four classes');
  // Volumes in ml, by the header's spacing.
  const [x, y, along] = heart.spacing;
  const ml = (ours.filter((k) => k === 3).length * x * y * along) / 1000;
  const shown = await page.evaluate<string>(`document.querySelectorAll('#classes tr')[2].cells[3].textContent`);
  assert.is(shown, `${ml < 10 ? ml.toFixed(2) : ml.toFixed(1)} ml`);
});

inBrowser(
  'a brush paints; strokes are undone and redone; areas are filled; what was painted counts as labelled',
  async () => {
    const labels = () =>
      voxels(`page.study.labels.subarray(page.view.z * ${width * height}, (page.view.z + 1) * ${width * height})`);
    const count = async (k: number) => (await labels()).filter((v) => v === k).length;
    const stroke = async (...points: [number, number][]) => {
      const [first, ...rest] = await Promise.all(points.map(([x, y]) => pointOf(x, y)));
      await mouse('mousePressed', first!.x, first!.y, { clickCount: 1 });
      for (const { x, y } of rest) await mouse('mouseMoved', x, y, { buttons: 1 });
      await mouse('mouseReleased', rest.at(-1)?.x ?? first!.x, rest.at(-1)?.y ?? first!.y, { clickCount: 1 });
    };
    await key('b');
    await key('2');
    await page.evaluate(
      `document.getElementById('diameter').value = 3; document.getElementById('diameter').dispatchEvent(new Event('input'))`,
    );
    await stroke([20.5, 20.5], [40.5, 20.5], [40.5, 40.5], [20.5, 40.5], [20.5, 20.5]);
    await frame();
    const ring = await count(2);
    assert.ok(ring > 200 && ring < 300, `${ring} pixels painted`);
    assert.is(await page.evaluate('page.study.labelled[page.view.z]'), true);
    await key('f');
    await key('3');
    await stroke([30, 30]);
    const inside = await count(3);
    assert.ok(inside > 250 && inside < 400, `${inside} pixels filled`);
    await key('z', 2);
    assert.is(await count(3), 0);
    await key('z', 2);
    assert.is(await count(2), 0);
    assert.is(await page.evaluate('page.study.labelled[page.view.z]'), false);
    await key('z', 2 | 8);
    await key('z', 2 | 8);
    assert.equal([await count(2), await count(3)], [ring, inside]);
    await key('e');
    await stroke([20.5, 20.5], [40.5, 20.5]);
    assert.ok((await count(2)) < ring);
    await key('z', 2);
    await key('z', 2);
    await key('z', 2);
    // To learn from: the segmentation of two slices, taken over as labels.
    await key('p');
    await key('ArrowUp');
    await key('p');
    assert.equal(await page.evaluate('page.study.labelled.filter(Boolean).length'), 2);
    await key('v');
    await frame();
    await picture('light-desktop', 1280);
  },
);

inBrowser('ten steps of the method, without holding up the page', async () => {
  await page.evaluate(`(() => {
    for (const [id, value] of [['steps', 10], ['batch', 4]]) document.getElementById(id).value = value;
    window.tasks = []; window.frames = 0;
    new PerformanceObserver((list) => tasks.push(...list.getEntries().map((entry) => entry.duration))).observe({ type: 'longtask' });
    const count = () => { frames++; requestAnimationFrame(count); };
    count();
  })()`);
  const before = await voxels('page.study.segmentation.confidence');
  const started = performance.now();
  await click('train');
  await until(`page.session.busy === 'learning'`);
  await until(`page.session.busy === undefined`);
  await frame();
  const longest = await page.evaluate<number>('Math.max(0, ...tasks)');
  const frames = await page.evaluate<number>('frames');
  console.log(
    `  10 steps in ${seconds(started)} s, ${frames} frames drawn, longest task ${longest} ms. ${await text('learning')}`,
  );
  assert.ok(frames > 50, `only ${frames} frames were drawn while it learned`);
  assert.match(await text('learning'), /^Step 10 of 10\. /);
  const curves = await page.evaluate<string[][]>(
    `[...document.querySelectorAll('.curve')].map((curve) => curve.getAttribute('points').split(' ').map((point) => point.split(',')[1]))`,
  );
  assert.is(curves.length, 6);
  for (const heights of curves)
    assert.ok(heights.length === 10 && heights.every((y) => Number.isFinite(Number(y))), heights.join());
  const [loss] = curves.map((heights) => heights.map(Number)) as [number[]];
  assert.ok(new Set(loss).size > 5, 'the loss changes');
  const kept = await page.evaluate<string>(`document.querySelector('[data-key=kept]').textContent`);
  assert.ok(Number(kept) > 0 && Number(kept) < 1, `kept ${kept}`);
  assert.is.not(Buffer.compare(before, await voxels('page.study.segmentation.confidence')), 0, 'it was segmented anew');
  await key('c');
  await frame();
  await picture('light-learned', 1280);
  await key('c');
});

inBrowser('labels and weights are saved, and after a reload opened again as they were', async () => {
  const labels = await voxels('page.study.labels');
  const labelFile = await saved('save-labels');
  assert.is(labelFile.name, 'heart_labels.nii.gz');
  const path = join(root, labelFile.name);
  writeFileSync(path, labelFile.bytes);
  const [volume, original] = [readNifti(path), decodeNiftiFile(image, 'heart.nii.gz')];
  assert.equal(
    [volume.shape, volume.affine, volume.spacing, volume.dtype],
    [original.shape, original.affine, original.spacing, 'uint8'],
  );
  assert.ok(volume.data.every((k, i) => k === labels[i]));
  const weightFile = await saved('save-weights');
  const weightPath = join(root, 'learned.safetensors');
  writeFileSync(weightPath, weightFile.bytes);
  const { arrays } = readSafetensors(weightPath);
  const untrained = readSafetensors(join(root, 'page-weights.safetensors')).arrays;
  const name = 'decoder.out_conv.weight';
  assert.equal([...arrays.keys()], [...untrained.keys()]);
  assert.ok(
    arrays.get(name)!.data.some((w, i) => w !== untrained.get(name)!.data[i]),
    'the weights have learned',
  );
  const segmented = await voxels('page.study.segmentation.labels');

  await page.open(url);
  assert.is(await page.evaluate('page.studies.length'), 0);
  await drop(
    { name: labelFile.name, bytes: labelFile.bytes },
    { name: weightFile.name, bytes: weightFile.bytes },
    { name: 'heart.nii.gz', bytes: image },
  );
  await until('page.study?.labelled.some(Boolean)');
  assert.is(Buffer.compare(await voxels('page.study.labels'), labels), 0);
  assert.equal(await page.evaluate('page.study.labelled.filter(Boolean).length'), 2);
  assert.is(await page.evaluate('page.session.weights.name'), 'wgrad-page.safetensors');
  assert.is(Buffer.compare((await saved('save-weights')).bytes, weightFile.bytes), 0);
  await key('s');
  await until('page.study.segmentation !== undefined');
  assert.is(Buffer.compare(await voxels('page.study.segmentation.labels'), segmented), 0);
});

inBrowser('a lost device is said once; another one is opened with a click, and all is still there', async () => {
  const [labels, segmented] = [await voxels('page.study.labels'), await voxels('page.study.segmentation.labels')];
  await page.evaluate('page.session.gpu.device.destroy()');
  const notice = `document.getElementById('notice')`;
  while (await page.evaluate(`${notice}.hidden`)) await sleep(20);
  assert.match(await text('notice-text'), /GPU was lost.*labels.*are kept/);
  assert.is(await text('notice-action'), 'Open it again');
  await click('notice-action');
  await until('page.session.gpu !== undefined');
  await page.evaluate('page.study.segmentation = undefined');
  await key('s');
  await until('page.study.segmentation !== undefined');
  assert.is(Buffer.compare(await voxels('page.study.segmentation.labels'), segmented), 0);
  assert.is(Buffer.compare(await voxels('page.study.labels'), labels), 0);
});

inBrowser('a V-Net of volumes predicts the study by windows, as Node does', async () => {
  const gpu = await openDevice({ adapter: 'swiftshader', quiet: true, flags: { tune: false } });
  const net = vnet(gpu, { inChannels: 1, classes: 4, features: [2, 4], seed: 3 });
  const grid = { network: 'vnet', classes: 4, patch: [8, 16, 16], sample: 'patches' } as const;
  const config = JSON.stringify({ ...grid, intensity: 'zscore', features: [2, 4] });
  const arrays = new Map<string, NamedArray>();
  for (const [name, t] of net.state) {
    const array = { shape: t.shape, data: Float32Array.from(await t.read()) };
    arrays.set(name, toPyTorch(array, layoutOf(t)));
  }
  await drop({ name: 'solid.safetensors', bytes: encodeSafetensors(arrays, { format: 'pt', config }) });
  await until(`page.session.weights.name === 'solid.safetensors'`);
  await frame();
  assert.is(await page.evaluate(`document.getElementById('train').disabled`), true);
  await page.evaluate('page.study.segmentation = undefined');
  await key('s');
  await until('page.study.segmentation !== undefined');
  const path = join(root, 'heart.nii.gz');
  const heartCase = { id: 'heart', patient: 'heart', frame: undefined, image: path, label: undefined };
  const loaded = loadCase(heartCase, { intensity: 'zscore' });
  const theirs = await predictCase(createPredictor(gpu, net, grid.patch, { stride: [4, 8, 8] }), loaded, grid);
  gpu.close();
  assert.is(Buffer.compare(await voxels('page.study.segmentation.labels'), theirs), 0);
  assert.ok(new Set(theirs).size > 1);
  await frame();
  await picture('volume', 1280);
  await click('demonstration');
});

inBrowser('what cannot be opened is named, with the reason, and the rest is opened', async () => {
  const text16 = new TextEncoder().encode('this is a text, not a volume, and longer than a header would have to be');
  const four = encodeNifti({ data: new Uint8Array(2 * 2 * 2 * 2), dtype: 'uint8', shape: [2, 2, 2, 2] }, 'four');
  const far = encodeNifti({ data: new Uint8Array(8).fill(9), dtype: 'uint8', shape: [2, 2, 2] }, 'far');
  await drop(
    { name: 'cut.nii.gz', bytes: image.subarray(0, image.length / 2) },
    { name: 'text.nii', bytes: text16 },
    { name: 'four.nii', bytes: four },
    { name: 'empty.nii', bytes: new Uint8Array(0) },
    { name: 'far_gt.nii', bytes: far },
    { name: 'weights.safetensors', bytes: text16 },
    { name: 'whole.nii.gz', bytes: image },
  );
  while (await page.evaluate(`page.study.name !== 'whole.nii.gz'`)) await sleep(20);
  while (await page.evaluate(`document.getElementById('notice').hidden`)) await sleep(20);
  const lines = (await text('notice-text')).split('\n');
  for (const expected of [
    /cut\.nii\.gz: the gzip data are damaged or end early/,
    /text\.nii: this is not a NIfTI file/,
    /four\.nii has 4 axes/,
    /empty\.nii: the file is empty/,
    /far_gt\.nii holds labels, but no open image has its grid \[2, 2, 2\]/,
    /weights\.safetensors is no checkpoint/,
  ]) {
    assert.is(lines.filter((line) => expected.test(line)).length, 1, `${expected} in ${lines.join(' | ')}`);
  }
  assert.is(lines.length, 6);
  await click('notice-close');
  await frame();
});

inBrowser('nothing is wider than the window, in light and dark, on a desktop and a phone', async () => {
  for (const [name, wide, theme] of [
    ['light-390', 390, 'light'],
    ['dark-390', 390, 'dark'],
    ['dark-desktop', 1280, 'dark'],
  ] as const) {
    await page.send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: theme }] });
    await size(wide);
    await frame();
    const [inner, scroll, paper] = await page.evaluate<[number, number, string]>(
      '[innerWidth, document.documentElement.scrollWidth, getComputedStyle(document.body).backgroundColor]',
    );
    assert.is(inner, wide);
    assert.ok(scroll <= wide, `${name}: ${scroll} px wide`);
    assert.is(paper, theme === 'light' ? 'rgb(255, 255, 255)' : 'rgb(20, 23, 28)');
    await picture(name, wide);
  }
  await click('theme');
  assert.is(await page.evaluate('getComputedStyle(document.body).backgroundColor'), 'rgb(255, 255, 255)');
  const unnamed = await page.evaluate<string[]>(
    `[...document.querySelectorAll('button, input, select')].filter((control) => !control.hidden && !(control.textContent.trim() || control.ariaLabel || control.labels?.[0]?.textContent.trim())).map(({ id }) => id)`,
  );
  assert.equal(unnamed, [], 'every control has a name');
});

inBrowser('no errors, and no request but the page’s own three files', async () => {
  assert.equal(page.errors, []);
  const own = ['index.html', 'page.css', 'page.js'].map((name) => new URL(name, url).href);
  const requests = page.requests.filter((address) => !/^(data|blob):/.test(address));
  assert.equal([...new Set(requests)].sort(), own);
  const refused = await page.evaluate<string>(
    `fetch('https://example.org/').then(() => 'went through', () => 'refused')`,
  );
  assert.is(refused, 'refused');
});

inBrowser('without WebGPU it says so in plain words, and volumes can be looked at and labelled', async () => {
  page = await browser!.page();
  await size(390);
  await page.send('Page.addScriptToEvaluateOnNewDocument', {
    source: `Object.defineProperty(Navigator.prototype, 'gpu', { get: () => undefined })`,
  });
  await page.open(url);
  while (await page.evaluate(`document.getElementById('notice').hidden`)) await sleep(20);
  assert.match(await text('notice-text'), /^This browser has no WebGPU.*Chrome.*Safari.*Firefox/);
  await click('phantom');
  await frame();
  await click('take-truth');
  await frame();
  assert.is(await page.evaluate('page.study.labelled.filter(Boolean).length'), 1);
  await picture('without-webgpu-390', 390, 900);
  assert.equal(page.errors, []);
});

test.run();
