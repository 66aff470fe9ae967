// The three planes of a volume: which voxel each pixel shows, in which proportions, and the picture of a validation in 3-D.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decode } from 'fast-png';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { CaseVolume } from '../../train/data/case-volume.js';
import { casesToEvaluate, openDataset } from '../../train/data/datasets.js';
import { ignored } from '../../train/data/labels.js';
import { writePhantoms } from '../../train/data/phantom-dataset.js';
import { axisAcross, middleOf, planeNames, planeThrough } from '../../train/data/planes.js';
import { spacingOn } from '../../train/data/samples.js';
import { slicePicture } from '../../train/pictures/slice-picture.js';
import { resolveConfig } from '../../train/settings/settings.js';
import { drawValidation, keptBy } from '../../train/training/run-pictures.js';

const test = suite('planes');
const root = mkdtempSync(join(tmpdir(), 'wgrad-planes-'));
test.after(() => rmSync(root, { recursive: true, force: true }));

const shape = [3, 4, 5] as const;
const spacing = [8, 2, 1.5] as const;
const indexOf = (z: number, y: number, x: number) => (z * 4 + y) * 5 + x;

test('axial as it is stored; coronal and sagittal with the last plane at the top', () => {
  const [axial, coronal, sagittal] = planeNames.map((name) => planeThrough(name, [1, 2, 3], shape, spacing));
  assert.equal([axial!.height, axial!.width, ...axial!.spacing], [4, 5, 2, 1.5]);
  assert.equal([coronal!.height, coronal!.width, ...coronal!.spacing], [3, 5, 8, 1.5]);
  assert.equal([sagittal!.height, sagittal!.width, ...sagittal!.spacing], [3, 4, 8, 2]);
  for (let a = 0; a < 3; a++) {
    for (let x = 0; x < 5; x++) assert.is(coronal!.voxels[a * 5 + x], indexOf(2 - a, 2, x));
    for (let y = 0; y < 4; y++) assert.is(sagittal!.voxels[a * 4 + y], indexOf(2 - a, y, 3));
  }
  for (let y = 0; y < 4; y++) for (let x = 0; x < 5; x++) assert.is(axial!.voxels[y * 5 + x], indexOf(1, y, x));
  assert.equal(planeNames.map(axisAcross), [0, 1, 2]);
});

test('the middle of what is labelled, whatever is ignored; of the volume where nothing is', () => {
  const labels = new Uint8Array(60);
  assert.equal(middleOf(labels, shape), [1, 2, 2]);
  assert.equal(middleOf(undefined, shape), [1, 2, 2]);
  labels[indexOf(0, 0, 0)] = ignored;
  assert.equal(middleOf(labels, shape), [1, 2, 2]);
  labels[indexOf(2, 3, 1)] = 1;
  assert.equal(middleOf(labels, shape), [2, 3, 1]);
  labels[indexOf(2, 1, 4)] = 3;
  assert.equal(middleOf(labels, shape), [2, 2, 3]); // 2.5 rounds up
});

test('spacing on the grid: what is asked for, or what resizing makes of it', () => {
  const volume = { depth: 6, height: 20, width: 30, spacing: [1, 2, 8] } as unknown as CaseVolume;
  assert.equal(spacingOn(volume, { patch: [4, 8, 8], spacing: [1.5, 1.5, 5] }), [5, 1.5, 1.5]);
  assert.equal(spacingOn(volume, { patch: [12, 10, 10] }), [4, 4, 3]);
  assert.equal(spacingOn(volume, { patch: [10, 10], spacing: [0, 0] }), [1, 4, 3]);
  const halved = { patch: [3, 10, 15], spacing: [0, 0, 0], sample: 'patches', downsample: 2 } as const;
  assert.equal(spacingOn(volume, halved), [16, 4, 2]);
});

test('a picture in true proportions: as large as a square one, pixel by pixel the same labels', () => {
  const labels = Uint8Array.from({ length: 12 }, (_, i) => (i === 5 ? 1 : 0));
  const row = { caption: '', height: 3, width: 4, image: new Float32Array(12).fill(1), cells: [{ title: '', labels }] };
  const tall = slicePicture([{ ...row, spacing: [8, 2] }]); // 24 × 8 mm
  assert.equal([tall.width, tall.height], [10 + 2 * (80 + 10), 10 + 24 + 24 + 240 + 10 + 24]);
  let [count, sumX, sumY] = [0, 0, 0];
  for (let y = 0; y < 240; y++)
    for (let x = 0; x < 80; x++) {
      const at = 3 * ((58 + y) * tall.width + 100 + x);
      if (tall.data[at] === tall.data[at + 1]) continue; // grey
      count++;
      sumX += x;
      sumY += y;
    }
  assert.is(count, 20 * 80);
  assert.equal([sumX / count, sumY / count], [29.5, 119.5]);
});

test('a validation in 3-D: three planes of two cases, each predicted once, by windows where there are any', async () => {
  const data = join(root, 'phantoms');
  writePhantoms(data, { patients: 10, size: 32 });
  const cases = casesToEvaluate(await openDataset(data), 'val');
  const kept = keptBy(resolveConfig({}), {});
  const sizes: string[] = [];
  const predictor = async (x: Float32Array, _?: boolean, sides?: readonly number[]) => {
    sizes.push(`${sides}`);
    assert.is(
      x.length,
      sides!.reduce((a, b) => a * b, 1),
    );
    return { labels: new Uint8Array(x.length), confidence: new Float32Array(x.length).fill(0.5) };
  };
  const shown = async (grid: Record<string, readonly number[]>) => {
    const config = { ...resolveConfig({}), ...grid } as Parameters<typeof drawValidation>[2];
    await drawValidation(root, 7, config, kept, predictor, cases);
    return decode(readFileSync(join(root, '000007.png')));
  };
  const resized = await shown({ patch: [8, 16, 16], spacing: [0, 0, 0] });
  assert.equal(sizes.splice(0), ['8,16,16', '8,16,16']);
  assert.is(resized.width, 10 + 4 * 250);
  await shown({ patch: [8, 16, 16], spacing: [4, 4, 8], stride: [4, 8, 8] });
  assert.is(sizes.length, 2);
  for (const sides of sizes) assert.ok(Number(sides.split(',')[1]) > 16, sides);
});

test.run();
