// The frame of a kernel with one thread per element: its index, and the test that it has an element. For ops of one's own.
import { flatIndex, wgsl } from './wgsl.js';

/**
 * WGSL of an entry point `name` that runs `body` once for every element `i` of `over`, an array among the bindings of the text: launch
 * it with `{ threads: elements }`. Long grids are folded into y, and threads beyond the last element return.
 * @example
 * const text = `@group(0) @binding(0) var<storage, read_write> y: array<f32>; ${perElement('twice', 'y', 'y[i] *= 2.0;')}`;
 * const y = tensor(gpu, [1, 2]);
 * run(text, { y }, { threads: y.size });
 * console.log(await y.read()); // [2, 4]
 */
export const perElement = (name: string, over: string, body: string, workgroupSize = 64): string => wgsl`
@compute @workgroup_size(${workgroupSize})
fn ${name}(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(workgroupSize)};
  if (i >= arrayLength(&${over})) { return; }
  ${body}
}`;

/** Representative texts of every kernel in this file. */
export const variants = (): string[] => [
  `@group(0) @binding(0) var<storage, read_write> y: array<f32>;\n${perElement('twice', 'y', 'y[i] *= 2.0;')}`,
];
