// Connected components of labelled volumes: a network's stray islands are not part of the heart.

/**
 * Keeps of each class 1 … classes − 1 its largest component (26-connected: voxels that touch at a face, an edge or a corner); the
 * others become background. Of equally large ones the first in memory stays. Labels [D, H, W], changed in place.
 */
export function keepLargestComponents(
  labels: Uint8Array,
  [depth, height, width]: readonly [number, number, number],
  classes: number,
): void {
  const component = new Int32Array(labels.length);
  const largest = new Int32Array(classes);
  const sizes: number[] = [0];
  const stack: number[] = [];
  for (let seed = 0; seed < labels.length; seed++) {
    const k = labels[seed]!;
    if (k === 0 || component[seed] !== 0) continue;
    const id = sizes.length;
    let size = 0;
    component[seed] = id;
    stack.push(seed);
    while (stack.length) {
      const i = stack.pop()!;
      size++;
      const [z, y, x] = [Math.floor(i / (height * width)), Math.floor(i / width) % height, i % width];
      for (let nz = Math.max(0, z - 1); nz <= Math.min(depth - 1, z + 1); nz++) {
        for (let ny = Math.max(0, y - 1); ny <= Math.min(height - 1, y + 1); ny++) {
          for (let nx = Math.max(0, x - 1); nx <= Math.min(width - 1, x + 1); nx++) {
            const n = (nz * height + ny) * width + nx;
            if (labels[n] !== k || component[n] !== 0) continue;
            component[n] = id;
            stack.push(n);
          }
        }
      }
    }
    sizes.push(size);
    if (k < classes && size > sizes[largest[k]!]!) largest[k] = id;
  }
  for (let i = 0; i < labels.length; i++) {
    const k = labels[i]!;
    if (k > 0 && k < classes && component[i] !== largest[k]) labels[i] = 0;
  }
}
