// The distance of features z [pixels, D] to class prototypes μ [K, D]: value and gradient of class separation. Features go four at a
// time where D is a multiple of four.
import { byteAt, each, pick, total } from './classes.js';
import {
  addPartials,
  partialsMemory,
  partialWorkgroup,
  storePartials,
  totalsMemory,
  totalsWorkgroup,
  type Walk,
  walkOver,
} from './partial-sums.js';
import {
  boundSources,
  counted,
  type DistanceSizes,
  features,
  inverseLengths,
  pixelLoss,
  pixelScores,
  pixelSlopes,
} from './prototype-scores.js';
import { type PrototypeSizes, vector } from './prototype-sizes.js';
import { enable, f32, flatIndex, u32, wgsl } from './wgsl.js';

/** The walk over pixels. */
export const distanceWalk = ({ pixels }: PrototypeSizes): Walk => walkOver(Math.ceil(pixels / 4));

/** partials [rows, 2, K]: number of counted pixels and sum of their losses, by class. */
export function prototypeDistanceForward(sizes: DistanceSizes): string {
  const { V, S } = vector(sizes);
  const { dtype, pixels, classes, kind } = sizes;
  const sources = boundSources(sizes);
  const walk = distanceWalk(sizes);
  const values = ['number', 'sum'].flatMap((name) => Array.from({ length: classes }, (_, k) => name + k));
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> z: array<${S}>;
@group(0) @binding(1) var<storage, read> vectors: array<${V}>;
@group(0) @binding(2) var<storage, read> counts: array<f32>;
@group(0) @binding(3) var<storage, read> classes: array<u32>;
#if ${sizes.masked}
@group(0) @binding(4) var<storage, read> mask: array<u32>;
#endif
@group(0) @binding(5) var<storage, read_write> partials: array<f32>;
${partialsMemory(walk, values.length)}

@compute @workgroup_size(${partialWorkgroup})
fn prototype_distance(
  @builtin(global_invocation_id) id: vec3u, @builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32,
) {
#if ${kind !== 'distance'}${inverseLengths(sizes, sources)}
#endif
${values.map((name) => `  var ${name} = 0.0;`).join('\n')}
  for (var i = id.x; i < ${u32(pixels)}; i += ${u32(walk.threads)}) {
    let class_of = ${byteAt('classes', 'i')};
    if (!(${counted(sizes, sources)})) { continue; }
${pixelScores(sizes, sources, { own: pick('class_of', 'inverse_length', classes), of: (k) => `inverse_length${k}` })}
    let value = ${pixelLoss(sizes)};
${each(classes, (k) => `    if (class_of == ${k}u) { number${k} += 1.0; sum${k} += value; }`)}
  }
${storePartials(walk, values)}
}`;
}

/** The sum that a distance is added to: total = base + weight · factor · distance. */
export interface DistanceSum {
  readonly factor: number;
}

/**
 * loss [] from the partials, and factors [2, K] of the gradient: for each class the weight of a pixel and 1/‖μ_k‖. With `onto`, also
 * the total that includes the loss; the factors are then those of the total.
 */
export function prototypeDistanceValue(
  sizes: DistanceSizes,
  onto?: DistanceSum,
  walk: Pick<Walk, 'rows'> = distanceWalk(sizes),
): string {
  const { classes, width, kind, temperature } = sizes;
  const numbers = (item: (k: number) => string): string => total(classes, item);
  const pull = kind === 'pull';
  return wgsl`
@group(0) @binding(0) var<storage, read> partials: array<f32>;
@group(0) @binding(1) var<storage, read> vectors: array<f32>;
@group(0) @binding(2) var<storage, read_write> loss: array<f32>;
@group(0) @binding(3) var<storage, read_write> factors: array<f32>;
#if ${onto !== undefined}
@group(0) @binding(4) var<storage, read> base: array<f32>;
@group(0) @binding(5) var<storage, read> weight: array<f32>;
@group(0) @binding(6) var<storage, read_write> total_loss: array<f32>;
#endif
${totalsMemory(2 * classes)}

@compute @workgroup_size(${totalsWorkgroup})
fn prototype_distance_value(@builtin(local_invocation_index) thread: u32) {
${addPartials(walk, 2 * classes)}
#if ${kind !== 'distance'}
  if (thread < ${u32(classes)}) {
    var squares = 0.0;
    for (var d = 0u; d < ${u32(width)}; d++) { let v = vectors[thread * ${u32(width)} + d]; squares += v * v; }
    factors[${u32(classes)} + thread] = 1.0 / max(sqrt(squares), 1e-8);
  }
#endif
  if (thread > 0u) { return; }
  let scale = ${onto ? `weight[0] * ${f32(onto.factor)}` : '1.0'};
#if ${pull}
  let present = max(${numbers((k) => `select(0.0, 1.0, totals[${k}] > 0.0)`)}, 1.0);
  let distance = ${numbers((k) => `totals[${classes + k}] / max(totals[${k}], 1.0)`)} / present;
${each(classes, (k) => `  factors[${k}] = scale / (max(totals[${k}], 1.0) * present);`)}
#else
  let number = max(${numbers((k) => `totals[${k}]`)}, 1.0);
  let distance = ${numbers((k) => `totals[${classes + k}]`)} / number;
${each(classes, (k) => `  factors[${k}] = scale * ${f32(kind === 'proto-ce' ? 1 / temperature : 1)} / number;`)}
#endif
  loss[0] = distance;
#if ${onto !== undefined}
  total_loss[0] = base[0] + scale * distance;
#endif
}`;
}

/** dz [pixels, D], 0 where a pixel does not count. */
export function prototypeDistanceBackward(sizes: DistanceSizes): string {
  const { V, S, quads } = vector(sizes);
  const { dtype, pixels, classes } = sizes;
  const sources = boundSources(sizes);
  const lengths = { own: `factors[${u32(classes)} + class_of]`, of: (k: number) => `factors[${classes + k}]` };
  const { prepare, slope } = pixelSlopes(sizes, sources, lengths);
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> z: array<${S}>;
@group(0) @binding(1) var<storage, read> vectors: array<${V}>;
@group(0) @binding(2) var<storage, read> counts: array<f32>;
@group(0) @binding(3) var<storage, read> classes: array<u32>;
#if ${sizes.masked}
@group(0) @binding(4) var<storage, read> mask: array<u32>;
#endif
@group(0) @binding(5) var<storage, read> factors: array<f32>;
@group(0) @binding(6) var<storage, read> dloss: array<f32>;
@group(0) @binding(7) var<storage, read_write> dz: array<${S}>;

@compute @workgroup_size(64)
fn prototype_distance_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(pixels)}) { return; }
  let class_of = ${byteAt('classes', 'i')};
  if (!(${counted(sizes, sources)})) {
    for (var q = 0u; q < ${u32(quads)}; q++) { dz[i * ${u32(quads)} + q] = ${S}(0.0); }
    return;
  }
${pixelScores(sizes, sources, lengths)}
  let factor = dloss[0] * factors[class_of];${prepare}
${features(sizes, sources).over((q, v) => `dz[i * ${quads}u + ${q}] = ${S}(${slope(q, v)});`)}
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    [
      { classes: 4, width: 16 },
      { classes: 3, width: 5 },
      { classes: 2, width: 36 },
    ].flatMap(({ classes, width }) =>
      (['pull', 'proto-ce', 'distance'] as const).flatMap((kind) => {
        const sizes = { dtype, pixels: 1000, classes, width, kind, temperature: 0.1, masked: classes !== 3 };
        return [
          prototypeDistanceForward(sizes),
          prototypeDistanceValue(sizes),
          prototypeDistanceValue(sizes, { factor: 0.1 }),
          prototypeDistanceBackward(sizes),
        ];
      }),
    ),
  );
