// Reports labels that are neither a class nor the ignored value: found [11] = how many, the smallest and the largest (i32 labels are
// shifted so that u32 order is theirs), and a bit for each value below 256. One thread per label; found starts as
// [0, 2^32 − 1, 0, 0 …].
import { byteAt, type LabelType } from './classes.js';
import { flatIndex, u32, wgsl } from './wgsl.js';

export interface CheckedLabels {
  readonly type: LabelType;
  /** How many labels are checked, from the first on. */
  readonly pixels: number;
  readonly classes: number;
  /** The bits of the value that is ignored on purpose. */
  readonly ignored: number;
}

/** Words of `found`. */
export const foundWords = 11;

/** Writes the initial values of `found`. */
export const beginFound = (): string => wgsl`
@group(0) @binding(0) var<storage, read_write> found: array<u32>;

@compute @workgroup_size(${foundWords})
fn begin_check_labels(@builtin(local_invocation_index) i: u32) {
  found[i] = select(0u, 4294967295u, i == 1u);
}`;

export const checkLabelsShader = ({ type, pixels, classes, ignored }: CheckedLabels): string => wgsl`
@group(0) @binding(0) var<storage, read> labels: array<${type === 'i32' ? 'i32' : 'u32'}>;
@group(0) @binding(1) var<storage, read_write> found: array<atomic<u32>>;

@compute @workgroup_size(64)
fn check_labels(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(pixels)}) { return; }
#if ${type === 'u8'}
  let y = ${byteAt('labels', 'i')};
#else
  let y = bitcast<u32>(labels[i]);
#endif
  if (y < ${u32(classes)} || y == ${u32(ignored)}) { return; }
  let ordered = y ^ ${u32(type === 'i32' ? 0x80000000 : 0)};
  atomicAdd(&found[0], 1u);
  atomicMin(&found[1], ordered);
  atomicMax(&found[2], ordered);
  if (y < 256u) { atomicOr(&found[3u + (y >> 5u)], 1u << (y & 31u)); }
}`;

/** Representative texts of every kernel in this file. */
export const variants = (): string[] => [
  beginFound(),
  ...(['u8', 'u32', 'i32'] as const).map((type) => checkLabelsShader({ type, pixels: 100, classes: 4, ignored: 255 })),
];
