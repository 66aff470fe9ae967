// The losses of a mean teacher over the student's logits, in three launches: a walk over the pixels, a workgroup that adds up
// and computes every value, and the gradient. p = softmax(student), q = softmax(teacher), y the label; the first pixels are
// labelled, the others are not:
//   loss = ½ (CE + Dice) over labelled pixels + λ·consistency over unlabelled pixels that are kept
// with the formulas of cross-entropy.ts, dice-loss.ts and masked-consistency.ts, which remain as the plain composition.
// Thread = word of four pixels (bytes are packed four to a word) in the walk, pixel in the gradient.
import { argmaxOf, classArray, each, labelArray, labelAt, loadClasses, pick, softmaxOf, total } from './classes.js';
import {
  confidentValue,
  consistencyEpsilon,
  diceSums,
  isHard,
  keptBy,
  limitOf,
  mostOf,
  pixelValue,
} from './consistency.js';
import { quotientFunction } from './functions.js';
import {
  factorsOf,
  type MeanTeacherSizes,
  meanTeacherExamples,
  meanTeacherWalk,
  namesBeside,
  partialCount,
  sumNames,
  type TeacherPart,
  teacherPixel,
  writesMask,
} from './mean-teacher-sizes.js';
import {
  addPartials,
  partialsMemory,
  partialWorkgroup,
  storePartials,
  totalsMemory,
  totalsWorkgroup,
} from './partial-sums.js';
import { also, enable, f32, isNan, u32, wgsl } from './wgsl.js';

/** Adds a labelled pixel to the sums; one whose label is not a class adds nothing to cross-entropy and Dice. */
function labeledSums({ classes, labeledPixels }: MeanTeacherSizes): string {
  if (!labeledPixels) return '';
  return wgsl`
      if (i < ${u32(labeledPixels)} && truth >= ${u32(classes)}) {
        if (${isNan('p_most', 'f32')}) { spoiled = p_most; }
      } else if (i < ${u32(labeledPixels)}) {
        cross_entropy += p_log - (${pick('truth', 'x', classes)} - p_most);
${diceSums(classes, 'truth')}
      }`;
}

function teacherSums(sizes: MeanTeacherSizes, teacher: TeacherPart): string {
  const { classes, labeledPixels } = sizes;
  const { kind, confidence, perClass, everywhere, selection, hard, confident } = teacher;
  const weight = hard ? '1.0' : 'q_confidence';
  const body = wgsl`
${loadClasses('y', 'teacher', teacherPixel(sizes), classes)}
${softmaxOf('y', 'q', classes)}
#if ${selection || perClass || isHard(kind) || confident}
${argmaxOf('teacher_class', 'y', classes)}
#endif
#if ${confidence === 'given'}
      let score = scores[${teacherPixel(sizes)}];
#endif
      let keep = ${keptBy(teacher, classes, 'teacher_class')};
      if (keep) { mask_bytes |= 1u << (8u * j); }
#if ${selection}
      let q_confidence = ${mostOf('q', classes)};
      var weight = 0.0;
      if (i < ${u32(labeledPixels)}) {
        class_bytes |= min(truth, 255u) << (8u * j);
        weight = select(0.0, ${weight}, truth == teacher_class);
      } else {
        class_bytes |= teacher_class << (8u * j);
        weight = select(0.0, ${weight}, q_confidence >= ${limitOf(teacher, 'teacher_class')});
      }
      weights[i] = weight;
#endif
      if (i >= ${u32(labeledPixels)}) {
#if ${selection}
${argmaxOf('student_class', 'x', classes)}
        let correct = select(0.0, 1.0, student_class == truth);
        correct_kept += select(0.0, correct, keep);
        correct_dropped += select(correct, 0.0, keep);
        let unknown = select(0.0, 1.0, truth >= ${u32(classes)});
        unknown_kept += select(0.0, unknown, keep);
        unknown_dropped += select(unknown, 0.0, keep);
        confident += ${mostOf('p', classes)};
#endif
        if (keep) {
#if ${isHard(kind)}
          let chosen = ${pick('teacher_class', 'x', classes)};
#endif
          kept += 1.0;
          consistency += ${pixelValue(kind, classes, teacher, 'teacher_class')};${also(kind === 'ce-dice', diceSums(classes, 'teacher_class', 'kept_'))}
        }${also(confident, `        else { of_confident += ${confidentValue(classes, 'teacher_class')}; }`)}
      }`;
  return everywhere || !labeledPixels ? body : `if (i >= ${u32(labeledPixels)}) {${body}\n}`;
}

/** The walk: writes partials [rows, sums] and, if wanted, of every pixel mask u8, class u8 and weight f32. */
export function meanTeacherForward(sizes: MeanTeacherSizes): string {
  const { dtype, pixels, classes, labeledPixels, teacher } = sizes;
  const [names, beside] = [sumNames(sizes), namesBeside(sizes)];
  const words = Math.ceil(pixels / 4);
  const walk = meanTeacherWalk(sizes);
  const labels = labeledPixels > 0 || Boolean(teacher?.selection);
  const masked = writesMask(sizes);
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> student: array<${classArray(dtype, classes)}>;
@group(0) @binding(1) var<storage, read_write> partials: array<f32>;
#if ${labels}
@group(0) @binding(2) var<storage, read> labels: array<${labelArray(sizes.labels)}>;
#endif
#if ${teacher !== undefined}
@group(0) @binding(3) var<storage, read> teacher: array<${classArray(dtype, classes)}>;
#endif
#if ${masked}
@group(0) @binding(4) var<storage, read> threshold: array<f32>;
@group(0) @binding(5) var<storage, read_write> mask: array<u32>;
#endif
#if ${Boolean(teacher?.selection)}
@group(0) @binding(6) var<storage, read_write> classes: array<u32>;
@group(0) @binding(7) var<storage, read_write> weights: array<f32>;
#endif
#if ${teacher?.confidence === 'given'}
@group(0) @binding(8) var<storage, read> scores: array<f32>;
#endif
${partialsMemory(walk, partialCount(sizes))}

@compute @workgroup_size(${partialWorkgroup})
fn mean_teacher_loss(
  @builtin(global_invocation_id) id: vec3u, @builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32,
) {
${[...names, ...beside].map((name) => `  var ${name} = 0.0;`).join('\n')}
  for (var word = id.x; word < ${u32(words)}; word += ${u32(walk.threads)}) {
    var mask_bytes = 0u;
    var class_bytes = 0u;
    for (var j = 0u; j < 4u; j++) {
      let i = 4u * word + j;
      if (i >= ${u32(pixels)}) { break; }
#if ${Boolean(teacher?.selection)}
      let truth = ${labelAt('labels', 'i', sizes.labels)};
#elif ${labels}
      var truth = 0u;
      if (i < ${u32(labeledPixels)}) { truth = ${labelAt('labels', 'i', sizes.labels)}; }
#endif
${loadClasses('x', 'student', 'i', classes)}
${softmaxOf('x', 'p', classes)}
${labeledSums(sizes)}
${teacher ? teacherSums(sizes, teacher) : ''}
    }
#if ${masked}
    mask[word] = mask_bytes;
#endif
#if ${Boolean(teacher?.selection)}
    classes[word] = class_bytes;
#endif
  }
${storePartials(walk, names, beside)}
}`;
}

/** loss [], terms [2 or 3], statistics [4] (as selection-statistics.ts) and the gradient's factors, from the partials. */
export function meanTeacherValues(sizes: MeanTeacherSizes): string {
  const { pixels, classes, labeledPixels, epsilon, foreground = false, teacher } = sizes;
  const diceMean = foreground ? classes - 1 : classes;
  const [names, beside] = [sumNames(sizes), namesBeside(sizes)];
  const all = [...names, ...beside];
  const sumOf = (name: string): string => (all.includes(name) ? `totals[${all.indexOf(name)}]` : '0.0');
  const at = factorsOf(sizes);
  const perMean = teacher?.kind === 'mse' ? 2 / classes : teacher?.kind === 'ce-dice' ? 0.5 : 1;
  const confident = teacher?.confident ?? false;
  const withDice = teacher?.kind === 'ce-dice';
  const keptDice = `${each(
    classes,
    (k) => `  let kept_top${k} = 2.0 * ${sumOf(`kept_overlap${k}`)} + ${f32(consistencyEpsilon)};
  let kept_bottom${k} = ${sumOf(`kept_square${k}`)} + ${sumOf(`kept_count${k}`)} + ${f32(consistencyEpsilon)};
  factors[${at.keptDice + 2 * k}] = consistency_weight[0] * ${f32(-1 / classes)} / kept_bottom${k};
  factors[${at.keptDice + 1 + 2 * k}] = kept_top${k} / kept_bottom${k};`,
  )}
  let kept_dice = 1.0 - ${total(classes, (k) => `kept_top${k} / kept_bottom${k}`)} / ${f32(classes)};
  consistency = select(0.0, 0.5 * (consistency + kept_dice), ${sumOf('kept')} > 0.0);`;
  const ofConfident = `  let confident_pixels = max(${f32(pixels - labeledPixels)} - ${sumOf('kept')}, 1.0);
  consistency += numbers[0] * ${sumOf('of_confident')} / confident_pixels;
  factors[${at.ofConfident}] = consistency_weight[0] * numbers[0] / confident_pixels;`;
  return wgsl`
@group(0) @binding(0) var<storage, read> partials: array<f32>;
@group(0) @binding(1) var<storage, read_write> loss: array<f32>;
@group(0) @binding(2) var<storage, read_write> terms: array<f32>;
@group(0) @binding(3) var<storage, read_write> factors: array<f32>;
#if ${teacher !== undefined}
@group(0) @binding(4) var<storage, read> consistency_weight: array<f32>;
#endif
#if ${Boolean(teacher?.selection)}
@group(0) @binding(5) var<storage, read_write> statistics: array<f32>;
#endif${also(confident, '@group(0) @binding(6) var<storage, read> numbers: array<f32>;')}
${totalsMemory(all.length)}
${quotientFunction.text}

@compute @workgroup_size(${totalsWorkgroup})
fn mean_teacher_values(@builtin(local_invocation_index) thread: u32) {
${addPartials(meanTeacherWalk(sizes), names.length)}
${beside.length ? addPartials(meanTeacherWalk(sizes), beside.length, names.length) : ''}
  if (thread > 0u) { return; }
  let counted = ${total(classes, (k) => sumOf(`count${k}`))};
  let labeled = max(counted, 1.0);
  var cross_entropy = quotient_1(${sumOf('cross_entropy')}, labeled);
${each(
  classes,
  (k) => `  let top${k} = 2.0 * ${sumOf(`overlap${k}`)} + ${f32(epsilon)};
  let bottom${k} = ${sumOf(`square${k}`)} + ${sumOf(`count${k}`)} + ${f32(epsilon)};
  factors[${2 + 2 * k}] = ${foreground && k === 0 ? '0.0' : `${f32(-1 / diceMean)} / bottom${k}`}; factors[${3 + 2 * k}] = top${k} / bottom${k};`,
)}
  var dice = 1.0 - ${total(classes, (k) => `top${k} / bottom${k}`, foreground ? 1 : 0)} / ${f32(diceMean)};
  if (counted == 0.0) { cross_entropy = ${sumOf('spoiled')}; dice = ${sumOf('spoiled')}; }
  terms[0] = cross_entropy;
  terms[1] = dice;
  factors[0] = 0.5 / labeled;
  let supervised = 0.5 * (cross_entropy + dice);
#if ${teacher === undefined}
  loss[0] = supervised;
  factors[1] = 0.0;
#else
  let kept = max(${sumOf('kept')}, 1.0);
  ${withDice || confident ? 'var' : 'let'} consistency = quotient_1(${sumOf('consistency')}, kept * ${f32(teacher?.kind === 'mse' ? classes : 1)});${also(withDice, keptDice)}${also(confident, ofConfident)}
  terms[2] = consistency;
  loss[0] = supervised + consistency_weight[0] * consistency;
  let of_kept = consistency_weight[0] * ${f32(perMean)} / kept;
  factors[1] = select(of_kept, consistency, ${isNan('consistency', 'f32')});
#endif
#if ${Boolean(teacher?.selection)}
  let pixels = ${f32(pixels - labeledPixels)};
  let known_kept = ${sumOf('kept')} - ${sumOf('unknown_kept')};
  let known_dropped = pixels - ${sumOf('kept')} - ${sumOf('unknown_dropped')};
  statistics[0] = ${sumOf('kept')} / pixels;
  statistics[1] = select(-1.0, ${sumOf('correct_kept')} / max(known_kept, 1.0), known_kept > 0.0);
  statistics[2] = select(-1.0, ${sumOf('correct_dropped')} / max(known_dropped, 1.0), known_dropped > 0.0);
  statistics[3] = ${sumOf('confident')} / pixels;
#endif
}`;
}

/** Every kernel with every kind and confidence, with options on and off. */
export const variants = (): string[] =>
  meanTeacherExamples().flatMap((sizes) => [meanTeacherForward(sizes), meanTeacherValues(sizes)]);
