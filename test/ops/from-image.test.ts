// Pictures become tensors: ImageData everywhere, and in a real browser bitmaps and canvases. (A copy of a VideoFrame,
// made of a canvas or of bytes, ends the software GPU of that browser, whoever asks for it.)
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { capture, fromImage, GpuError, ShapeError, sum } from '../../engine/index.js';
import { type Browser, openBrowser } from '../browser/chromium.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('fromImage');
const gpu = await testGpu();

/** ImageData, which Node does not have. */
const picture = (width: number, height: number) => ({
  width,
  height,
  data: Uint8ClampedArray.from({ length: 4 * width * height }, (_, i) => (i * 73 + 5) % 256),
});
const channel = (data: ArrayLike<number>, pixel: number, c: number, channels: number): number => {
  const [r, g, b] = [0, 1, 2].map((k) => data[4 * pixel + k]!);
  return channels === 1 ? (299 * r! + 587 * g! + 114 * b!) / 1000 : data[4 * pixel + c]!;
};
const expected = ({ data }: { data: Uint8ClampedArray }, channels: number): number[] =>
  Array.from({ length: (data.length / 4) * channels }, (_, i) =>
    channel(data, Math.floor(i / channels), i % channels, channels),
  );

for (const [width, height] of [
  [1, 1],
  [3, 5],
  [64, 2],
  [65, 3],
] as const) {
  test(`${width}×${height}, every number of channels, f32 and u8`, async () => {
    const source = picture(width, height);
    for (const channels of [1, 3, 4] as const) {
      const x = fromImage(gpu, source, { channels });
      assert.equal(x.shape, [height, width, channels]);
      closeTo(
        await x.read(),
        expected(source, channels).map((v) => v / 255),
        { rtol: 3e-7 },
      );
      const bytes = await fromImage(gpu, source, { channels, dtype: 'u8' }).read();
      assert.equal(
        [...bytes],
        expected(source, channels).map((v) => Math.floor(v + 0.5)),
      );
    }
  });
}

test('normalised, by one number or one for each channel', async () => {
  const source = picture(4, 2);
  const [mean, std] = [
    [0.485, 0.456, 0.406],
    [0.229, 0.224, 0.225],
  ];
  const y = await fromImage(gpu, source, { mean, std }).read();
  const by = (m: readonly number[], s: readonly number[]) =>
    expected(source, 3).map((v, i) => (v / 255 - m[i % 3]!) / s[i % 3]!);
  closeTo(y, by(mean, std), { rtol: 2e-6, atol: 1e-6 });
  closeTo(await fromImage(gpu, source, { mean: 0.5, std: 0.5 }).read(), by([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]), {
    rtol: 2e-6,
    atol: 1e-6,
  });
});

test('is the argument of a step, and not made inside one', async () => {
  const step = capture(gpu, (x) => sum(x));
  const total = (source: { data: Uint8ClampedArray }) => expected(source, 3).reduce((a, b) => a + b) / 255;
  for (const source of [picture(5, 5), { ...picture(5, 5), data: new Uint8ClampedArray(100).fill(51) }]) {
    closeTo(await step(fromImage(gpu, source)).read(), [total(source)], { rtol: 1e-5 });
  }
  const inside = capture(gpu, () => sum(fromImage(gpu, picture(2, 2))));
  await refuses(inside, GpuError, /fromImage inside a captured step would freeze the picture/);
});

test('what is no picture', async () => {
  const source = picture(2, 2);
  const shape = (work: () => unknown, says: RegExp) => refuses(work, ShapeError, says);
  await shape(() => fromImage(gpu, null as never), /fromImage: got null — expected an ImageBitmap/);
  await shape(() => fromImage(gpu, new Float32Array(4) as never), /got Float32Array of 16 bytes/);
  await shape(() => fromImage(gpu, source, { channels: 2 as never }), /channels is 2/);
  await shape(() => fromImage(gpu, source, { dtype: 'f16' as never }), /dtype is 'f16'.*Use cast/);
  await shape(() => fromImage(gpu, source, { std: [1, 0, 1] }), /std is \[1, 0, 1\]/);
  await shape(
    () => fromImage(gpu, source, { mean: [1, 2] }),
    /mean is \[1, 2\] — expected a finite number, or 3 of them/,
  );
  await shape(() => fromImage(gpu, source, { dtype: 'u8', mean: 0.5 }), /mean and std are for f32/);
  await refuses(() => fromImage(gpu, { ...source, width: 0 }), GpuError, /no pixels yet/);
});

// ---- In a browser.

const root = mkdtempSync(join(tmpdir(), 'wgrad-image-'));
let browser: Browser | undefined;
let unavailable = '';
try {
  browser = await openBrowser([
    ...['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan'],
  ]);
} catch (error) {
  unavailable = (error as Error).message.split('\n')[0]!;
}
test.after(async () => {
  await browser?.close();
  rmSync(root, { recursive: true, force: true });
});

unless(browser ? undefined : `no browser starts: ${unavailable}`, test)('bitmap and canvas in a browser', async () => {
  const engine = fileURLToPath(new URL('../../engine/index.js', import.meta.url));
  const script = await build({
    stdin: {
      contents: `export { fromImage, openDevice } from ${JSON.stringify(engine)};`,
      resolveDir: root,
      loader: 'ts',
    },
    ...{ bundle: true, format: 'iife', globalName: 'wgrad', platform: 'browser', target: 'es2022', write: false },
  });
  const page = await browser!.page();
  writeFileSync(join(root, 'page.html'), '<!doctype html><title>pictures</title>'); // about:blank is not trusted with a GPU
  await page.open(pathToFileURL(join(root, 'page.html')).href);
  await page.evaluate(`${script.outputFiles[0]!.text}; globalThis.wgrad = wgrad; 0`);
  const found = await page.evaluate<Record<string, number[]>>(`(async () => {
    const gpu = await wgrad.openDevice();
    const canvas = new OffscreenCanvas(70, 3);
    const context = canvas.getContext('2d');
    for (let x = 0; x < 70; x++) for (let y = 0; y < 3; y++) {
      context.fillStyle = 'rgb(' + [3 * x, 80 * y, 255 - x].join() + ')';
      context.fillRect(x, y, 1, 1);
    }
    const image = context.getImageData(0, 0, 70, 3);
    const sources = {
      ImageData: image,
      OffscreenCanvas: canvas,
      ImageBitmap: await createImageBitmap(canvas),
    };
    const found = {};
    for (const [name, source] of Object.entries(sources)) {
      const x = wgrad.fromImage(gpu, source, { dtype: 'u8' });
      found[name] = [...x.shape, ...await x.read()];
    }
    const closed = await createImageBitmap(canvas);
    closed.close();
    found.closed = await Promise.resolve().then(() => wgrad.fromImage(gpu, closed)).catch((error) => [error.name, error.message]);
    return found;
  })()`);
  const wanted = [3, 70, 3];
  for (let y = 0; y < 3; y++) for (let x = 0; x < 70; x++) wanted.push(3 * x, 80 * y, 255 - x);
  for (const name of ['ImageData', 'OffscreenCanvas', 'ImageBitmap']) {
    assert.equal(found[name], wanted, name);
  }
  assert.is(found.closed![0], 'GpuError');
});

test.run();
