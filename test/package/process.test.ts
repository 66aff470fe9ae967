// wgrad in processes and threads of others: Node ends by itself after close(), opening and closing again and again does
// not grow, a worker thread has a device of its own. Each case is a process.
import { spawn } from 'node:child_process';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { unless } from '../unless.js';

const test = suite('process');
const dist = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const url = (file: string) => JSON.stringify(pathToFileURL(join(dist, 'engine', file)).href);
const imports = `
import { add, capture, fromDevice, mul, tensor } from ${url('index.js')};
import { openDevice } from ${url('node.js')};`;

import { patience } from '../patience.js';

/** Runs a module to its own end; kills it, and rejects, when it does not. */
function ends(body: string, flags: string[] = []): Promise<string[]> {
  return new Promise((done, fail) => {
    const child = spawn(process.execPath, [...flags, '--input-type=module', '-'], { stdio: ['pipe', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (text) => (stdout += text));
    child.stderr.on('data', (text) => (stderr += text));
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      fail(new Error(`does not end: ${body}\n${stdout}${stderr}`));
    }, patience);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      if (code === 0) done(stdout.trim().split('\n'));
      else fail(new Error(`ended with ${code ?? signal}: ${body}\n${stdout}${stderr}`));
    });
    child.stdin.end(imports + body);
  });
}

test('Node ends by itself after close(), and with a read under way', async () => {
  const lines = await ends(`
    const gpu = await openDevice({ quiet: true });
    const x = tensor(gpu, [1, 2]);
    const step = capture(gpu, () => ({ y: mul(x, 2) }));
    console.log((await step().y.read()).join());
    const late = add(x, 1).read().then(() => 'read', (error) => error.message);
    gpu.close();
    console.log(await late);`);
  assert.is(lines[0], '2,4');
  assert.match(lines[1]!, /^(read|device: this Gpu was closed)/);
});

test('an embedder that closes wgrad and then destroys its device ends, too', async () => {
  const lines = await ends(`
    const host = await openDevice({ quiet: true });
    const gpu = fromDevice(host.device);
    console.log((await mul(tensor(gpu, [1, 2]), 2).read()).join());
    gpu.close();
    host.device.destroy();`);
  assert.equal(lines, ['2,4']);
});

test('fifty devices, one after the other, take the memory of one', async () => {
  const lines = await ends(
    `
    const resident = [];
    for (let i = 0; i < 60; i++) {
      const gpu = await openDevice({ quiet: true });
      await mul(tensor(gpu, new Float32Array(2 ** 20)), 2).read();
      gpu.close();
      await new Promise((done) => setTimeout(done, 5)); // what was dropped is finalised between two turns
      globalThis.gc();
      resident.push(process.memoryUsage().rss / 2 ** 20);
    }
    console.log(resident.map(Math.round).join());`,
    ['--expose-gc'],
  );
  const resident = lines[0]!.split(',').map(Number);
  const growth = resident[59]! - resident[9]!;
  assert.ok(growth < 60, `grew by ${growth} MiB over 50 devices, each of which held 8: ${resident}`);
});

test("an embedder's device with WebGPU's default limits and no features is enough", async () => {
  const lines = await ends(`
    import { backward, createRandom, createSgd, crossEntropy, pack } from ${url('index.js')};
    import { unet } from ${JSON.stringify(pathToFileURL(join(dist, 'model/index.js')).href)};
    import { create } from ${JSON.stringify(import.meta.resolve('webgpu'))};
    const dawn = create(['backend=null']); // it validates everything, and computes nothing
    const device = await (await dawn.requestAdapter()).requestDevice();
    let uncaptured = 0;
    device.addEventListener('uncapturederror', () => uncaptured++);
    const gpu = fromDevice(device);
    const model = unet(gpu, { inChannels: 1, classes: 4, features: [8, 16] });
    pack(model.parameters);
    const [x, y] = [tensor(gpu, 0, [2, 16, 16, 1]), tensor(gpu, 0, [2, 16, 16], { dtype: 'u8' })];
    const [lr, random] = [tensor(gpu, 0.1), createRandom(gpu, 1)];
    const optimizer = createSgd(model.parameters, { momentum: 0.9 });
    const step = capture(gpu, () => {
      const loss = crossEntropy(model(x, { mode: 'train', random }), y);
      optimizer.step(backward(loss), lr);
      return { loss };
    });
    step();
    await gpu.settled();
    console.log(gpu.limits.maxStorageBuffersPerShaderStage, step.info.launches > 20, uncaptured);
    gpu.close();
    device.destroy();`);
  assert.equal(lines, ['8 true 0']);
});

test('an embedder that opens and closes wgrad again and again on one device keeps none of it', async () => {
  const lines = await ends(
    `
    const host = await openDevice({ quiet: true });
    const opened = [];
    const once = async () => {
      const gpu = fromDevice(host.device);
      opened.push(new WeakRef(gpu));
      const x = tensor(gpu, [1, 2]);
      await capture(gpu, () => ({ y: mul(x, 2) }))().y.read();
      gpu.close();
    };
    for (let i = 0; i < 10; i++) {
      await once();
      await new Promise((done) => setTimeout(done, 5));
      globalThis.gc();
    }
    console.log(opened.filter((gpu) => gpu.deref()).length);
    host.close();`,
    ['--expose-gc'],
  );
  assert.ok(Number(lines[0]) <= 2, `${lines[0]} of 10 are still there`);
});

const worker = (options: string, body: string) => `
  import { Worker, SHARE_ENV } from 'node:worker_threads';
  const file = 'data:text/javascript,' + encodeURIComponent(${JSON.stringify(`${imports}
    import { parentPort } from 'node:worker_threads';
    try {
      const gpu = await openDevice({ quiet: true${body} });
      parentPort.postMessage((await mul(tensor(gpu, [1, 2]), 2).read()).join());
      gpu.close();
    } catch (error) {
      parentPort.postMessage(error.constructor.name + ' ' + error.message);
    }`)});
  const work = (options) => new Promise((done, fail) => {
    const worker = new Worker(new URL(file), options);
    let message = 'nothing';
    worker.on('message', (text) => (message = text));
    worker.on('error', fail);
    worker.on('exit', (code) => done(message + ' ' + code));
  });
  ${options}`;

test('a worker thread has a device of its own, beside one of the main thread', async () => {
  const lines = await ends(
    worker(
      `console.log(await work({ env: SHARE_ENV }));
      const gpu = await openDevice({ quiet: true });
      const both = await Promise.all([work({ env: SHARE_ENV }), mul(tensor(gpu, [3]), 5).item()]);
      console.log(both.join(' '));
      gpu.close();`,
      '',
    ),
  );
  assert.equal(lines, ['2,4 0', '2,4 0 15']);
});

const carried = process.platform === 'linux' && process.arch === 'x64';
unless(carried ? undefined : 'the carried SwiftShader runs on Linux x64 only', test)(
  'a worker whose environment is a copy says what to do',
  async () => {
    const lines = await ends(worker('console.log(await work({}));', ", adapter: 'swiftshader'"));
    assert.match(lines[0]!, /^GpuError device: SwiftShader does not start\..* start it with \{ env: SHARE_ENV \}\. 0$/);
  },
);

test.run();
