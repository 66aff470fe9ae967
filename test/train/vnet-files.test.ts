// A V-Net's weights in files: PyTorch's layout of transposed convolutions, names of other programs, and ONNX, run by onnxruntime; also
// that of a UNet of volumes.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { noGrad, ShapeError, tensor, uniformStream } from '../../engine/index.js';
import {
  fromPyTorch,
  type NamedArray,
  type Segmenter,
  toPyTorch,
  unet,
  vnet,
  vnetOnnx,
  vnetSizes,
} from '../../model/index.js';
import { run as exportCommand } from '../../train/commands/export.js';
import { loadTensors, readSafetensors, saveTensors, writeSafetensors } from '../../train/run/checkpoint.js';
import { loadModel } from '../../train/run/trained-model.js';
import { resolveConfig } from '../../train/settings/settings.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';
import { lackingSources, unless } from '../unless.js';

const test = suite('files of a V-Net');
const folder = mkdtempSync(join(tmpdir(), 'wgrad-vnet-'));
// 14 MB of WebAssembly that the kit leaves out.
const ort = lackingSources ? undefined : await import('onnxruntime-web/wasm');
const testRuntime = unless(ort ? undefined : 'the kit carries no onnxruntime', test);
if (ort) ort.env.wasm.numThreads = 1;
test.after(() => rmSync(folder, { recursive: true, force: true }));

async function network(features: number[], rank: 2 | 3, build: typeof vnet | typeof unet = vnet): Promise<Segmenter> {
  const model = build(await testGpu(), { inChannels: 1, classes: 3, features, seed: 5, rank });
  const uniform = uniformStream(4, 2);
  for (const [name, t] of model.state) {
    if (t.shape.length > 1) continue;
    const [least, range] = /running_var$/.test(name) ? [0.02, 0.1] : /weight$/.test(name) ? [0.5, 1] : [-0.2, 0.4];
    t.write(Float32Array.from({ length: t.size }, () => least + range * uniform()));
  }
  return model;
}

test('transposed weights are [I, O, …kernel] in files, and come back bit for bit', async () => {
  const model = await network([2, 3, 5], 3);
  const path = join(folder, 'own.safetensors');
  await saveTensors(path, model.state);
  const { arrays } = readSafetensors(path);
  assert.equal(arrays.get('block_three_up.conv.0.weight')!.shape, [5, 3, 2, 2, 2]);
  assert.equal(arrays.get('block_two_dw.conv.0.weight')!.shape, [5, 3, 2, 2, 2]);
  const other = vnet(model.gpu, { inChannels: 1, classes: 3, features: [2, 3, 5], seed: 6 });
  loadTensors(path, other.state);
  for (const [name, t] of model.state) assert.equal(await other.state.get(name)!.read(), await t.read(), name);
});

test('a hand-made transposed weight lands where it belongs', () => {
  const [inputs, outputs, taps] = [2, 3, 8];
  // PyTorch's [I, O, 2, 2, 2]: the number says where it stands.
  const theirs: NamedArray = {
    shape: [inputs, outputs, 2, 2, 2],
    data: Float32Array.from({ length: inputs * outputs * taps }, (_, at) => {
      const [i, o, t] = [Math.floor(at / (outputs * taps)), Math.floor(at / taps) % outputs, at % taps];
      return 100 * i + 10 * o + t;
    }),
  };
  const ours = fromPyTorch(theirs, { transposed: true });
  assert.equal(ours.shape, [outputs, 2, 2, 2, inputs]);
  ours.data.forEach((v, at) => {
    const [o, t, i] = [Math.floor(at / (taps * inputs)), Math.floor(at / inputs) % taps, at % inputs];
    assert.is(v, 100 * i + 10 * o + t);
  });
  assert.equal(toPyTorch(ours, { transposed: true }), theirs);
});

for (const prefix of ['', 'encoder/decoder', 'module']) {
  test(`weights of other programs are read${prefix && `, names with ${prefix}`}`, async () => {
    const model = await network([2, 3, 5], 3);
    const path = join(folder, 'plain.safetensors');
    await saveTensors(path, model.state);
    const renamed = new Map(
      [...readSafetensors(path).arrays].map(([name, array]) => {
        if (prefix === 'module') return [`module.${name}`, array];
        const isDown = /^block_(one|two|three)(_dw)?\./.test(name);
        return [prefix ? `${isDown ? 'encoder' : 'decoder'}.${name}` : name, array];
      }),
    );
    const theirs = join(folder, 'theirs.safetensors');
    writeSafetensors(theirs, renamed, {});
    const { model: read, config } = loadModel(model.gpu, { weights: theirs });
    assert.equal([config.network, config.classes, config.features], ['vnet', 3, [2, 3, 5]]);
    assert.equal([config.patch, config.sample], [[80, 112, 112], 'patches']);
    for (const [name, t] of model.state) assert.equal(await read.state.get(name)!.read(), await t.read(), name);
  });
}

for (const [name, features, sides, fold] of [
  ['vnet', [4, 8, 12], [8, 4, 12], false],
  ['vnet', [3, 5], [4, 6, 2], true],
  ['vnet', [3, 5, 4, 6], [16, 24], false],
  ['unet', [3, 5, 4], [8, 4, 12], false],
  ['unet', [4, 6], [4, 2, 6], true],
] as ['vnet' | 'unet', number[], number[], boolean][]) {
  testRuntime(
    `onnxruntime computes the same logits: ${name} ${features}, [${sides}]${fold ? ', folded' : ''}`,
    async () => {
      const [batch, classes, rank] = [2, 3, sides.length as 2 | 3];
      const model = await network(features, rank, { vnet, unet }[name]);
      const path = join(folder, 'export.safetensors');
      const config = resolveConfig({ network: name, features, classes, patch: sides });
      await saveTensors(path, model.state, { config: JSON.stringify(config) });
      const out = join(folder, 'network.onnx');
      assert.is(await exportCommand(['--weights', path, '--onnx', out, '--force', ...(fold ? ['--fold'] : [])]), 0);

      const uniform = uniformStream(8);
      const pixels = sides.reduce((a, b) => a * b, 1);
      const data = Float32Array.from({ length: batch * pixels }, uniform);
      const logits = await noGrad(model.gpu, () => model(tensor(model.gpu, data, [batch, ...sides, 1]))).read();
      const session = await ort!.InferenceSession.create(readFileSync(out));
      const image = new ort!.Tensor('float32', data, [batch, 1, ...sides]);
      const theirs = await session.run({ image });
      assert.equal(theirs.logits!.dims, [batch, classes, ...sides]);
      assert.equal(theirs.labels!.dims, [batch, ...sides]);
      const ours = Float32Array.from(logits, (_, at) => {
        const [n, k, p] = [Math.floor(at / (classes * pixels)), Math.floor(at / pixels) % classes, at % pixels];
        return logits[(n * pixels + p) * classes + k]!;
      });
      const scale = ours.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
      closeTo(theirs.logits!.data as Float32Array, ours, { atol: 1e-4 * scale, rtol: 0 });
      await session.release();
    },
  );
}

test('weights that are no V-Net, or not all of one, are refused', async () => {
  const model = await network([2, 3], 3);
  const path = join(folder, 'part.safetensors');
  await saveTensors(path, model.state);
  const { arrays } = readSafetensors(path);
  assert.equal(vnetSizes(arrays), { inChannels: 1, classes: 3, features: [2, 3], multiple: 2, rank: 3 });
  await refuses(() => vnetSizes(new Map()), ShapeError, /no V-Net/);
  const lacking = new Map([...arrays].filter(([name]) => name !== 'block_two_up.conv.0.weight'));
  await refuses(() => vnetOnnx(lacking), ShapeError, /'block_two_up.conv.0.weight' is missing/);
});

test.run();
