// The gradient of mean-teacher-loss.ts, which has the formulas: a pixel has the gradient of the supervised losses, of the consistency,
// or none. Thread = pixel.
import {
  argmaxOf,
  byteAt,
  classArray,
  each,
  labelArray,
  labelAt,
  loadClasses,
  softmaxOf,
  storeClasses,
  total,
} from './classes.js';
import { isHard } from './consistency.js';
import {
  factorsOf,
  type MeanTeacherSizes,
  meanTeacherExamples,
  type TeacherPart,
  teacherPixel,
} from './mean-teacher-sizes.js';
import { enable, flatIndex, u32, wgsl } from './wgsl.js';

/** Stores the gradient of a cross-entropy and a Dice loss from their factors; the expression `truth` is the pixel's class. */
const slopesOf = (
  { dtype, classes }: MeanTeacherSizes,
  truth: string,
  entropyAt: number,
  diceAt: number,
): string => `    let of_entropy = dloss[0] * factors[${entropyAt}];
${each(
  classes,
  (k) => `    let here${k} = select(0.0, 1.0, ${truth} == ${k}u);
    let g${k} = dloss[0] * factors[${diceAt + 2 * k}] * (here${k} - p${k} * factors[${diceAt + 1 + 2 * k}]);`,
)}
    let mean = ${total(classes, (k) => `g${k} * p${k}`)};
${storeClasses('dlogits', 'i', dtype, classes, (k) => `of_entropy * (p${k} - here${k}) + p${k} * (g${k} - mean)`)}`;

function labeledSlopes(sizes: MeanTeacherSizes): string {
  const { dtype, classes, labels, labeledPixels } = sizes;
  const at = factorsOf(sizes);
  if (!labeledPixels) return '';
  return wgsl`
  if (i < ${u32(labeledPixels)}) {
    let truth = ${labelAt('labels', 'i', labels)};
    if (truth >= ${u32(classes)}) {
${storeClasses('dlogits', 'i', dtype, classes, () => '0.0')}
      return;
    }
${loadClasses('x', 'student', 'i', classes)}
${softmaxOf('x', 'p', classes)}
${slopesOf(sizes, 'truth', at.crossEntropy, at.dice)}
    return;
  }`;
}

function teacherSlopes(sizes: MeanTeacherSizes, { kind, confidence, confident }: TeacherPart): string {
  const { dtype, classes } = sizes;
  const at = factorsOf(sizes);
  const logits = `${loadClasses('x', 'student', 'i', classes)}
${loadClasses('y', 'teacher', teacherPixel(sizes), classes)}
${softmaxOf('x', 'p', classes)}`;
  const ofEntropy = `${argmaxOf('teacher_class', 'y', classes)}
${storeClasses('dlogits', 'i', dtype, classes, (k) => `scale * (p${k} - select(0.0, 1.0, teacher_class == ${k}u))`)}`;
  const ofEntropyAndDice = `${argmaxOf('teacher_class', 'y', classes)}
${slopesOf(sizes, 'teacher_class', at.consistency, at.keptDice)}`;
  const ofConfident = `  let scale = dloss[0] * factors[${at.ofConfident}];
${logits}
${ofEntropy}`;
  return wgsl`
#if ${confidence !== 'none'}
  if (${byteAt('mask', 'i')} == 0u) {
${confident ? ofConfident : storeClasses('dlogits', 'i', dtype, classes, () => '0.0')}
    return;
  }
#endif
  let scale = dloss[0] * factors[1];
${logits}
#if ${isHard(kind)}
${kind === 'ce' ? ofEntropy : ofEntropyAndDice}
#else
${softmaxOf('y', 'q', classes)}
#if ${kind === 'mse'}
${each(classes, (k) => `  let g${k} = scale * (p${k} - q${k});`)}
  let mean = ${total(classes, (k) => `g${k} * p${k}`)};
${storeClasses('dlogits', 'i', dtype, classes, (k) => `p${k} * (g${k} - mean)`)}
#else
${storeClasses('dlogits', 'i', dtype, classes, (k) => `scale * (p${k} - q${k})`)}
#endif
#endif`;
}

/** dlogits of every pixel: cross-entropy and Dice where there is a label, consistency where there is none. */
export function meanTeacherBackward(sizes: MeanTeacherSizes): string {
  const { dtype, pixels, classes, labeledPixels, teacher } = sizes;
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> student: array<${classArray(dtype, classes)}>;
@group(0) @binding(1) var<storage, read> factors: array<f32>;
@group(0) @binding(2) var<storage, read> dloss: array<f32>;
@group(0) @binding(3) var<storage, read_write> dlogits: array<${classArray(dtype, classes)}>;
#if ${labeledPixels > 0}
@group(0) @binding(4) var<storage, read> labels: array<${labelArray(sizes.labels)}>;
#endif
#if ${teacher !== undefined}
@group(0) @binding(5) var<storage, read> teacher: array<${classArray(dtype, classes)}>;
#endif
#if ${teacher !== undefined && teacher.confidence !== 'none'}
@group(0) @binding(6) var<storage, read> mask: array<u32>;
#endif

@compute @workgroup_size(64)
fn mean_teacher_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(pixels)}) { return; }
${labeledSlopes(sizes)}
${teacher ? teacherSlopes(sizes, teacher) : ''}
}`;
}

/** Texts with the same sizes as in mean-teacher-loss.ts. */
export const variants = (): string[] => meanTeacherExamples().map(meanTeacherBackward);
