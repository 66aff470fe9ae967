// The UNet as ONNX, run by onnxruntime (its WebAssembly build, the one that pages use): the same logits as ours, on phantoms and on
// real slices; and what `wgrad export` says to what it cannot use.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-web/wasm';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Gpu, noGrad, ShapeError, tensor, uniformStream } from '../../engine/index.js';
import { openDevice } from '../../engine/node.js';
import { type NamedArray, type Segmenter, toPyTorch, unet, unetOnnx, unetSizes } from '../../model/index.js';
import { command, run as exportCommand } from '../../train/commands/export.js';
import { type CaseVolume, loadCase } from '../../train/data/case-volume.js';
import { openDataset } from '../../train/data/datasets.js';
import { minMaxScaled } from '../../train/data/intensity.js';
import { createPhantom } from '../../train/data/phantom.js';
import { stackSamples } from '../../train/data/samples.js';
import { predictCase } from '../../train/evaluation/evaluate.js';
import { createPredictor } from '../../train/evaluation/predictor.js';
import { FileError } from '../../train/files/atomic-file.js';
import { UsageError } from '../../train/files/usage-error.js';
import { CheckpointError, readSafetensors, saveTensors, writeSafetensors } from '../../train/run/checkpoint.js';
import { version } from '../../train/run/environment.js';
import { runFiles } from '../../train/run/run-folder.js';
import { loadModel, readWeights } from '../../train/run/trained-model.js';
import { type NdArray, ndArray } from '../reference/nd-array.js';
import { unet as referenceUnet } from '../reference/unet.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';
import { acdcFolder, withoutAcdc } from './acdc.js';

const test = suite('export');
const folder = mkdtempSync(join(tmpdir(), 'wgrad-export-'));
let gpu: Gpu;
test.before(async () => {
  ort.env.wasm.numThreads = 1;
  gpu = await openDevice();
});
test.after(() => {
  gpu.close();
  rmSync(folder, { recursive: true, force: true });
});

interface Sizes {
  features: number[];
  classes?: number;
  seed?: number;
}

/** A network whose statistics and scales are not those that it starts with, and whose logits follow the image: a wrong node shows. */
async function network({
  features,
  classes = 4,
  seed = 5,
}: Sizes): Promise<{ model: Segmenter; arrays: Map<string, NamedArray> }> {
  const model = unet(gpu, { inChannels: 1, classes, features, seed });
  const uniform = uniformStream(seed, 2);
  for (const [name, t] of model.state) {
    if (t.shape.length > 1) continue;
    const [least, range] = /running_var$/.test(name) ? [0.02, 0.1] : /weight$/.test(name) ? [0.5, 1] : [-0.2, 0.4];
    t.write(Float32Array.from({ length: t.size }, () => least + range * uniform()));
  }
  const arrays = new Map<string, NamedArray>();
  for (const [name, t] of model.state) {
    arrays.set(name, toPyTorch({ shape: t.shape, data: Float32Array.from(await t.read()) }));
  }
  return { model, arrays };
}

type Images = { data: Float32Array; shape: readonly [number, number, number, number] };
type Outputs = { logits: Float32Array; probabilities: Float32Array; labels: Uint8Array };

/** What onnxruntime makes of a file; logits and probabilities channels last, as ours are. */
async function runtime(file: Uint8Array, { data, shape: [n, h, w, c] }: Images): Promise<Outputs> {
  assert.is(c, 1); // so that channels last and first are the same
  const session = await ort.InferenceSession.create(file);
  const { logits, probabilities, labels } = await session.run({ image: new ort.Tensor('float32', data, [n, 1, h, w]) });
  const last = ({ data: values, dims }: ort.Tensor): Float32Array => {
    const [batch, classes, ...sides] = dims as [number, number, number, number];
    assert.equal([batch, ...sides], [n, h, w]);
    const moved = new Float32Array(values.length);
    for (let i = 0; i < n; i++)
      for (let k = 0; k < classes; k++)
        for (let p = 0; p < h * w; p++)
          moved[(i * h * w + p) * classes + k] = (values as Float32Array)[(i * classes + k) * h * w + p]!;
    return moved;
  };
  assert.equal(labels!.dims, [n, h, w]);
  const result = {
    logits: last(logits!),
    probabilities: last(probabilities!),
    labels: Uint8Array.from(labels!.data as Uint8Array),
  };
  await session.release();
  return result;
}

const ours = (model: Segmenter, { data, shape }: Images): Promise<ArrayLike<number>> =>
  noGrad(gpu, () => model.forward(tensor(gpu, data, shape), { mode: 'eval' }).logits).read();

/** The same in float64, by the plain loops of the reference. */
async function exact(model: Segmenter, { data, shape }: Images, levels: number): Promise<ArrayLike<number>> {
  const weights = new Map<string, NdArray>();
  for (const [name, t] of model.state) weights.set(name, ndArray(t.shape, await t.read()));
  return referenceUnet(ndArray(shape, data), weights, levels, 'eval').data;
}

/** Compares what onnxruntime makes of a file with our logits. */
async function agrees(what: string, model: Segmenter, file: Uint8Array, images: Images): Promise<void> {
  compare(what, await runtime(file, images), await ours(model, images));
}

/** The largest range of one class's logits: what does not change over the image is no scale. */
function rangeOf(logits: ArrayLike<number>, classes: number): number {
  const ranges = Array.from({ length: classes }, (_, k) => {
    const [least, most] = Array.from(logits).reduce(
      ([a, b], x, i) => (i % classes === k ? [Math.min(a, x), Math.max(b, x)] : [a, b]),
      [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
    );
    return most - least;
  });
  return Math.max(...ranges);
}

/** Compares logits to 1e-4 of their range, probabilities with their softmax, labels with their argmax. */
function compare(what: string, theirs: Outputs, logits: ArrayLike<number>): void {
  assert.is(theirs.logits.length, logits.length);
  const classes = logits.length / theirs.labels.length;
  const scale = rangeOf(logits, classes);
  let [worst, ties, differing] = [0, 0, 0];
  for (let p = 0; p < theirs.labels.length; p++) {
    const at = Array.from({ length: classes }, (_, k) => logits[p * classes + k]!);
    const exponentials = at.map((x) => Math.exp(x - Math.max(...at)));
    const sum = exponentials.reduce((a, b) => a + b);
    for (let k = 0; k < classes; k++) {
      worst = Math.max(worst, Math.abs(theirs.logits[p * classes + k]! - at[k]!) / scale);
      const off = Math.abs(theirs.probabilities[p * classes + k]! - exponentials[k]! / sum);
      assert.ok(off < 1e-4, `${what}: probability off by ${off}`);
    }
    if (theirs.labels[p] !== at.indexOf(Math.max(...at))) {
      const [first, second] = [...at].sort((a, b) => b - a) as [number, number];
      if (first - second < 2e-4 * scale) ties++;
      else differing++;
    }
  }
  console.log(
    `  ${what}: logits differ by ${worst.toExponential(1)} of ${scale.toFixed(1)}, ${ties} ties decided otherwise`,
  );
  assert.ok(worst < 1e-4, `${what}: logits differ by ${worst}`);
  assert.is(differing, 0, what);
}

function phantomSlices(n: number, height: number, width: number): Images {
  const size = Math.max(height, width);
  const { image } = createPhantom({ seed: 3, size, index: 0 }).diastole;
  const greatest = image.reduce((most, value) => Math.max(most, value), 0);
  const rows = Array.from({ length: n * height }, (_, row) => {
    const from = (Math.floor(row / height) * size + (row % height)) * size;
    return Array.from(image.subarray(from, from + width), (value) => value / greatest);
  });
  return { data: Float32Array.from(rows.flat()), shape: [n, height, width, 1] };
}

for (const [features, classes, images, fold] of [
  [[4, 8], 2, [1, 64, 64], false],
  [[4, 8, 12], 4, [3, 32, 48], false],
  [[4, 8, 12, 16], 3, [3, 32, 48], true],
  [[4, 8, 12, 16, 20], 5, [1, 96, 128], true],
  [[3, 4, 5, 6, 7], 4, [3, 16, 16], false], // one pixel at the deepest level
] as [number[], number, [number, number, number], boolean][]) {
  const what = `${features.join('-')} features, ${classes} classes, [${images}]${fold ? ', folded' : ''}`;
  test(what, async () => {
    const { model, arrays } = await network({ features, classes });
    assert.equal(unetSizes(arrays), {
      inChannels: 1,
      classes,
      features,
      multiple: 2 ** (features.length - 1),
      rank: 2,
    });
    const slices = phantomSlices(...images);
    const theirs = await runtime(unetOnnx(arrays, { fold }), slices);
    compare(what, theirs, await ours(model, slices));
    compare(`${what}, float64`, theirs, await exact(model, slices, features.length));
  });
}

test('sides that the levels do not divide are refused by the runtime, not stretched', async () => {
  const { arrays } = await network({ features: [4, 8, 12] });
  let failed = false;
  try {
    await runtime(unetOnnx(arrays), phantomSlices(1, 34, 32));
  } catch {
    failed = true;
  }
  assert.ok(failed);
});

/** Weights that were trained (the browser example's), whose logits are far from each other. */
const trained = new URL('../../../examples/browser/demonstration.safetensors', import.meta.url).pathname;

test('trained weights on a phantom', async () => {
  const { model } = loadModel(gpu, { weights: trained });
  const file = unetOnnx(readWeights({ weights: trained }).arrays);
  await agrees('trained, phantom 256²', model, file, phantomSlices(1, 256, 256));
});

test('the code that the help gives for a page makes the labels that wgrad predict makes', async () => {
  const { model, config } = loadModel(gpu, { weights: trained });
  const { shape, diastole } = createPhantom({ seed: 4, size: 50, index: 0 });
  const [[width, height], slices] = [shape, 3];
  const voxels = Float32Array.from(diastole.image.subarray(0, slices * height * width));
  const code = command.help.slice(command.help.indexOf('  const session = await'));
  const AsyncFunction = (async () => {}).constructor as new (...code: string[]) => unknown;
  const page = new AsyncFunction(
    ...['ort', 'OUT', 'voxels', 'slices', 'height', 'width', 'size'],
    `${code}\nawait session.release();\nreturn labels;`,
  ) as (...values: unknown[]) => Promise<Float32Array>;
  const file = unetOnnx(readWeights({ weights: trained }).arrays);
  const labels = await page(ort, file, voxels, slices, height, width, config.patch[0]);

  const volume = { depth: slices, height, width, image: minMaxScaled(voxels), label: undefined };
  const described = { ...volume, case: { id: 'phantom' }, spacing: [1, 1, 1] } as unknown as CaseVolume;
  const expected = await predictCase(createPredictor(gpu, model, config.patch, { batch: slices }), described, config);
  assert.ok(new Set(expected).size > 1, 'the network finds something');
  const differing = expected.reduce((n, k, i) => n + Number(k !== labels[i]), 0);
  assert.is(labels.length, expected.length);
  assert.ok(differing <= expected.length * 1e-4, `${differing} of ${expected.length} labels differ`); // ties
});

unless(withoutAcdc, test)('trained weights on real slices, at their size and at 256×256', async () => {
  const { model, config } = loadModel(gpu, { weights: trained });
  const file = unetOnnx(readWeights({ weights: trained }).arrays);
  const { cases } = await openDataset(acdcFolder);
  const volume = loadCase(cases[0]!, { classes: 4 });
  for (const [n, size] of [
    [3, config.patch[0]],
    [1, 256],
  ] as [number, number][]) {
    const images = stackSamples(volume, { patch: [size, size] });
    const from = Math.floor(volume.depth / 2) * size ** 2;
    await agrees(`trained, ACDC ${size}²`, model, file, {
      data: images.slice(from, from + n * size ** 2),
      shape: [n, size, size, 1],
    });
  }
});

test('the command: from a checkpoint, ours or somebody else’s; the file says how it is used', async () => {
  const { model, arrays } = await network({ features: [4, 8] });
  const [own, foreign] = [join(folder, 'own.safetensors'), join(folder, 'foreign.safetensors')];
  await saveTensors(own, model.state, { config: JSON.stringify({ features: [4, 8], dropout: [0, 0], size: 32 }) });
  writeSafetensors(foreign, new Map([...arrays].map(([name, array]) => [`module.${name}`, array])));
  const files = [join(folder, 'own.onnx'), join(folder, 'foreign.onnx')];
  assert.is(await exportCommand(['--onnx', files[0]!, '--weights', own]), 0);
  writeFileSync(files[1]!, 'what was there before');
  assert.is(await exportCommand(['--onnx', files[1]!, '--weights', foreign, '--fold', '--force']), 0);
  for (const file of files) await agrees(file, model, readFileSync(file), phantomSlices(1, 32, 32));
  const text = readFileSync(files[0]!).toString('latin1');
  const names = 'background,right ventricle,myocardium,left ventricle';
  for (const part of ['preprocessing', 'minus its minimum', names, 'wgrad', version()])
    assert.ok(text.includes(part), part);
  assert.not.ok(text.includes('student'), 'whose method nobody knows');
});

test('the command: a run’s student is its best checkpoint, its teacher that of the last state', async () => {
  const [student, teacher] = [await network({ features: [4, 8] }), await network({ features: [4, 8], seed: 6 })];
  const run = join(folder, 'run');
  mkdirSync(join(run, 'state'), { recursive: true });
  const config = JSON.stringify({ features: [4, 8], dropout: [0, 0], size: 32, method: 'mt', orient: 'canonical' });
  await saveTensors(join(run, runFiles.best), student.model.state, { config });
  const named = [...teacher.arrays].map(([name, array]) => [`teacher.${name}`, array] as const);
  writeSafetensors(join(run, runFiles.state), new Map(named));
  for (const [role, { model }] of Object.entries({ student, teacher })) {
    const file = join(folder, `${role}.onnx`);
    assert.is(await exportCommand(['--onnx', file, '--run', run, '--model', role]), 0);
    await agrees(role, model, readFileSync(file), phantomSlices(1, 32, 32));
    const text = readFileSync(file).toString('latin1');
    for (const part of [`mt, ${role}`, 'flipped to RAS']) assert.ok(text.includes(part), part);
  }
});

test('what cannot be exported is refused in words', async () => {
  const { arrays } = await network({ features: [4, 8] });
  const without = new Map(arrays);
  without.delete('decoder.up1.conv.conv_conv.1.running_var');
  await refuses(() => unetOnnx(without), ShapeError, /'decoder\.up1\.conv\.conv_conv\.1\.running_var' is missing/);
  const more = new Map(arrays).set('decoder.more', { shape: [1], data: new Float32Array(1) });
  await refuses(() => unetOnnx(more), ShapeError, /'decoder\.more' is unknown/);
  await refuses(() => unetOnnx(new Map()), ShapeError, /no UNet/);

  const file = join(folder, 'small.safetensors');
  writeSafetensors(file, arrays);
  const out = join(folder, 'new.onnx');
  const cut = join(folder, 'cut.safetensors');
  writeFileSync(cut, readFileSync(file).subarray(0, 3000));
  const other = join(folder, 'other.safetensors');
  writeSafetensors(other, new Map([['weight', { shape: [1], data: new Float32Array(1) }]]));
  for (const [args, kind, message] of [
    [[], UsageError, /--onnx is required/],
    [['--onnx', out], UsageError, /--run RUN or --weights FILE/],
    [['--onnx', out, '--weights', file, '--run', folder], UsageError, /--run and --weights cannot be combined/],
    [['--onnx', join(folder, 'x.pb'), '--weights', file], UsageError, /\.onnx/],
    [['--onnx', join(folder, 'own.onnx'), '--weights', file], UsageError, /exists.*--force/],
    [['--onnx', out, '--weights', file, '--folded'], UsageError, /unknown flag --folded.*--fold/],
    [['--onnx', out, '--weights', join(folder, 'nowhere')], CheckpointError, /cannot read/],
    [['--onnx', out, '--weights', cut], CheckpointError, /is not a readable safetensors file/],
    [['--onnx', out, '--weights', other], CheckpointError, /SSL4MIS/],
    [['--onnx', out, '--run', folder], UsageError, /is not a run folder: it has no config/],
    [['--onnx', out, '--weights', file, '--model', 'teacher'], UsageError, /only a run folder holds a teacher/],
    [['--onnx', out, '--weights', file, '--model', 'both'], UsageError, /student or teacher/],
    [['--onnx', join(folder, 'none', 'new.onnx'), '--weights', file], FileError, /cannot write/],
  ] as [string[], typeof UsageError | typeof CheckpointError | typeof FileError, RegExp][]) {
    await refuses(() => exportCommand(args), kind, message);
  }
  assert.not.ok(existsSync(out));
  assert.ok(readSafetensors(file).arrays.size === arrays.size);
});

test.run();
