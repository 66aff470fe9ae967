// Coarser volumes: a voxel is the mean of a block of the fine one's, its label the one that most of the block's voxels have. Where a side is
// no multiple of the block's, the last block is cut off.
import type { Triple } from './orientation.js';

/** Voxels along a side after blocks of `factor` became one. */
export const coarseSide = (side: number, factor: number): number => Math.ceil(side / factor);

/** Calls `block(to, indices, count)` for every block of a volume [D, H, W]: the voxels of the block are the first `count` of `indices`. */
function everyBlock(
  [depth, height, width]: Triple,
  [planes, rows, columns]: Triple,
  block: (to: number, indices: Int32Array, count: number) => void,
): void {
  const indices = new Int32Array(planes * rows * columns);
  let to = 0;
  for (let z0 = 0; z0 < depth; z0 += planes) {
    for (let y0 = 0; y0 < height; y0 += rows) {
      for (let x0 = 0; x0 < width; x0 += columns) {
        let count = 0;
        for (let z = z0; z < Math.min(depth, z0 + planes); z++) {
          for (let y = y0; y < Math.min(height, y0 + rows); y++) {
            for (let x = x0; x < Math.min(width, x0 + columns); x++) indices[count++] = (z * height + y) * width + x;
          }
        }
        block(to++, indices, count);
      }
    }
  }
}

const coarseVoxels = (shape: Triple, factors: Triple): number =>
  shape.reduce((product, side, axis) => product * coarseSide(side, factors[axis]!), 1);

/** The means of blocks of `factors` voxels of an image [D, H, W]. */
export function coarseImage(image: Float32Array, shape: Triple, factors: Triple): Float32Array {
  const result = new Float32Array(coarseVoxels(shape, factors));
  everyBlock(shape, factors, (to, indices, count) => {
    let sum = 0;
    for (let i = 0; i < count; i++) sum += image[indices[i]!]!;
    result[to] = sum / count;
  });
  return result;
}

/** The commonest label of each block; of equally common ones the greatest, so that half a block of foreground is foreground. */
export function coarseLabels(label: Uint8Array, shape: Triple, factors: Triple): Uint8Array {
  const result = new Uint8Array(coarseVoxels(shape, factors));
  everyBlock(shape, factors, (to, indices, count) => {
    let [best, most] = [0, 0];
    for (let i = 0; i < count; i++) {
      const k = label[indices[i]!]!;
      let times = 0;
      for (let j = 0; j < count; j++) if (label[indices[j]!] === k) times++;
      if (times > most || (times === most && k > best)) [best, most] = [k, times];
    }
    result[to] = best;
  });
  return result;
}
