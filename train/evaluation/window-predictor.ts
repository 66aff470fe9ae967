// Prediction of samples of any size by overlapping windows of the network's patch. The samples, the sums of the windows' class probabilities
// and their argmax stay on the GPU: what goes there is the samples and where the windows lie, what comes back is labels.

import { show, sizeOf } from '../../engine/custom.js';
import {
  addCrops,
  argmax,
  type Crop,
  capture,
  crop,
  cropTable,
  type Gpu,
  max,
  noGrad,
  ShapeError,
  type Step,
  softmax,
  type Tensor,
  tensor,
} from '../../engine/index.js';
import type { Segmenter } from '../../model/index.js';
import { batchFor, otherSides, type PredictorOptions, type PreparedPredictor, settleTies } from './prediction.js';
import { type Slab, slabsOf, totalsAlong, weightsAlong, windowPositions } from './windows.js';

/** Turns of crops (engine's `Crop`) that mirror a patch along its last axis, the one before, both, and with 8 the first of three. */
const mirrors = (rank: number): number[] => (rank === 2 ? [0, 4, 6, 2] : [0, 4, 6, 2, 8, 12, 14, 10]);

/** Tensors that hold so many voxels, and the steps that read and write them. */
interface Room {
  readonly voxels: number;
  readonly samples: Tensor;
  readonly sums: Tensor;
  readonly take: Step<void>;
  readonly give: Step<void>;
  readonly labels: Step<Tensor<'u8'>>;
  readonly most: Step<Tensor>;
}

/** What is predicted at once: a slab of one sample, which begins at voxel `start` of the room. */
interface Part extends Slab {
  readonly sample: number;
  readonly start: number;
}

/** At most this many voxels fit into what the GPU binds, with their sums. */
const mostVoxels = ({ limits }: Gpu, classes: number): number =>
  Math.floor(Math.min(limits.maxBufferSize, limits.maxStorageBufferBindingSize) / (4 * classes));

/** Voxels to make room for: not every size has buffers and kernels of its own. */
function roomFor(voxels: number, most: number): number {
  const step = 2 ** Math.max(4, Math.floor(Math.log2(voxels)) - 2);
  return Math.max(voxels, Math.min(Math.ceil(voxels / step) * step, most - (most % 4)));
}

/**
 * A predictor of samples of any size by windows of `patch`, `stride` voxels apart along each side: labels are the argmax of the windows'
 * summed probabilities. `flips` adds each window's mirror images. Sums are f32 and added in the windows' order, so that neither the batch nor
 * `most`, the voxels that are held at once, changes a bit of what the same probabilities give.
 */
export function createWindowPredictor(
  gpu: Gpu,
  model: Segmenter,
  patch: readonly number[],
  options: PredictorOptions,
  most: number = mostVoxels(gpu, model.classes),
): PreparedPredictor {
  const { batch = batchFor(patch), flips = false, probabilities: withProbabilities = false } = options;
  const { stride = patch, weights = 'uniform' } = options;
  const { classes } = model;
  if (stride.length !== patch.length || !stride.every((n, i) => Number.isInteger(n) && n >= 1 && n <= patch[i]!)) {
    throw new ShapeError(
      `predictor: the stride is ${show(stride)}, expected a whole number from 1 to the side for each of ${show(patch)}.`,
    );
  }
  const rowSize = cropTable([{ sides: patch, first: patch }]).length;
  const image = tensor(gpu, 0, [batch, ...patch, 1], { label: 'windows' });
  const at = tensor(gpu, 0, [batch, rowSize], { dtype: 'i32', label: 'places of windows' });
  const step = capture(gpu, () => noGrad(gpu, () => softmax(model(image, { mode: 'eval' }))));
  const alongAxes = patch.map((side) => weightsAlong(side, weights));
  const turns = flips ? mirrors(patch.length) : [0];

  let room: Room | undefined;
  let said: Tensor; // the probabilities of a batch of windows
  const makeRoom = (voxels: number): Room => {
    if (room && room.voxels >= voxels) return room;
    const count = roomFor(voxels, most);
    const samples = tensor(gpu, 0, [count, 1], { label: 'samples' });
    const sums = tensor(gpu, 0, [count, classes], { label: "sums of windows' probabilities" });
    room = {
      ...{ voxels: count, samples, sums },
      take: capture(gpu, () => void crop(samples, at, patch, { into: image })),
      give: capture(gpu, () => addCrops(sums, said, at, { weights: alongAxes })),
      labels: capture(gpu, () => argmax(sums) as Tensor<'u8'>), // at most 256 classes
      most: capture(gpu, () => max(sums, -1)),
    };
    return room;
  };

  /** The sums of all windows of parts that fit into one room. */
  const addUp = (data: Float32Array, parts: readonly Part[], sides: readonly number[]): Room => {
    const inPlane = sizeOf(sides.slice(1));
    const last = parts.at(-1)!;
    const held = makeRoom(last.start + (last.end - last.first) * inPlane);
    const stacked = new Float32Array(held.voxels);
    const crops: Crop[] = [];
    for (const { sample, start, first, end, positions } of parts) {
      const from = (sample * sides[0]! + first) * inPlane;
      stacked.set(data.subarray(from, from + (end - first) * inPlane), start);
      const corners = sides
        .map((side, axis) =>
          axis === 0 ? positions.map((p) => p - first) : windowPositions(side, patch[axis]!, stride[axis]!),
        )
        .reduce<number[][]>((all, along) => all.flatMap((corner) => along.map((p) => [...corner, p])), [[]]);
      const own = [end - first, ...sides.slice(1)];
      for (const corner of corners) for (const turn of turns) crops.push({ start, sides: own, first: corner, turn });
    }
    held.samples.write(stacked);
    held.sums.write(new Float32Array(held.voxels * classes));
    const rows = cropTable(crops);
    for (let first = 0; first < crops.length; first += batch) {
      const padded = new Int32Array(batch * rowSize); // rows of zeros are empty
      padded.set(rows.subarray(first * rowSize, (first + batch) * rowSize));
      at.write(padded);
      held.take();
      said = step();
      held.give();
    }
    return held;
  };

  const predict = async (data: Float32Array, withConfidence = false, sides: readonly number[] = patch) => {
    const voxels = sizeOf(sides);
    if (sides.length !== patch.length || !(voxels > 0) || data.length % voxels !== 0) {
      throw new ShapeError(
        `predictor: got ${data.length} numbers as samples of ${show(sides)}, expected whole samples with ${patch.length} sides.`,
      );
    }
    if (!options.stride && `${sides}` !== `${patch}`) throw otherSides(sides, patch);
    const inPlane = sizeOf(sides.slice(1));
    const positions = windowPositions(sides[0]!, patch[0]!, stride[0]!);
    const slabs = slabsOf(sides[0]!, patch[0]!, positions, Math.floor(most / inPlane));
    const totals = sides.map((side, axis) =>
      totalsAlong(side, windowPositions(side, patch[axis]!, stride[axis]!), alongAxes[axis]!),
    );
    const labels = new Uint8Array(data.length);
    const confidence = withConfidence ? new Float32Array(data.length) : undefined;
    const probabilities = withProbabilities ? new Float32Array(data.length * classes) : undefined;
    /** Divides sums, so many a voxel, by the weights of the windows over their voxel; `first` is the first voxel of the sample. */
    const divided = (sums: Float32Array, first: number, each: number): Float32Array => {
      const result = new Float32Array(sums.length);
      for (let voxel = 0; voxel < sums.length / each; voxel++) {
        let total = turns.length;
        for (let axis = sides.length - 1, rest = first + voxel; axis >= 0; axis--) {
          total *= totals[axis]![rest % sides[axis]!]!;
          rest = Math.floor(rest / sides[axis]!);
        }
        for (let i = voxel * each; i < (voxel + 1) * each; i++) result[i] = sums[i]! / total;
      }
      return result;
    };
    const work = async (parts: readonly Part[]): Promise<void> => {
      const held = addUp(data, parts, sides);
      // All copies are in the queue before anything is awaited: a call that comes meanwhile changes none of them.
      const [found, greatest, sums] = (await Promise.all([
        held.labels().read(),
        confidence && held.most().read(),
        probabilities && held.sums.read(),
      ])) as [Uint8Array, Float32Array | undefined, Float32Array | undefined];
      for (const { sample, start, first, firstWhole, endWhole } of parts) {
        const [from, to] = [firstWhole, endWhole].map((plane) => start + (plane - first) * inPlane) as [number, number];
        const target = sample * voxels + firstWhole * inPlane;
        labels.set(found.subarray(from, to), target);
        confidence?.set(divided(greatest!.subarray(from, to), firstWhole * inPlane, 1), target);
        const ofClasses = sums?.subarray(from * classes, to * classes);
        probabilities?.set(divided(ofClasses!, firstWhole * inPlane, classes), target * classes);
      }
    };
    let [parts, start] = [[] as Part[], 0];
    for (let sample = 0; sample < data.length / voxels; sample++) {
      for (const slab of slabs) {
        const size = (slab.end - slab.first) * inPlane;
        if (parts.length && start + size > most) {
          await work(parts);
          [parts, start] = [[], 0];
        }
        parts.push({ ...slab, sample, start });
        start += size;
      }
    }
    if (parts.length) await work(parts);
    if (!probabilities) return { labels, confidence };
    settleTies(probabilities, labels);
    return { labels, confidence, probabilities };
  };
  return Object.assign(predict, { prepare: step.prepare });
}
