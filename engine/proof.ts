// Proves candidates that must not run on trust: kernels for matrix units, which are experimental. Each text is launched once on this
// device, on the sizes that the step has, and its output is compared with that of the reference kernel (choices.ts, Proof). The verdict
// is remembered by the text's hash; a recording that took a kernel for right before it was proven is made again where it was not.
import { type Claim, isRight, leaveOpen, rememberVerdicts, type Trial, type Verdict } from './choices.js';
import { comparison } from './comparison.js';
import type { Gpu } from './device.js';
import { copyOut } from './diagnose.js';
import { kernel } from './kernel.js';
import { submit, watched } from './launch.js';
import { trim } from './memory.js';
import { scope } from './tensor.js';
import { Compiler, groundOf, recordTrial, trialOf } from './trial.js';

/**
 * Proves claims; resolves with whether all are right. What fails is never offered on this device again, and one line on stderr says
 * so. What could not be tried, for lack of memory for instance, is left out as long as the device is open. Rejects only if the device
 * fails. Leaves no scope open while it waits, so that other work can go on beside it.
 */
export async function proveClaims(gpu: Gpu, claims: readonly Claim[]): Promise<boolean> {
  const different = new Map(claims.map((claim) => [claim.hash, claim]));
  const unknown = [...different.values()].filter((claim) => isRight(gpu, claim) === undefined);
  if (unknown.length) {
    const compiler = new Compiler(gpu);
    const pairs = unknown.map((claim) => ({ claim, trials: trialsOf(claim) }));
    await compiler.compile(pairs.flatMap(({ trials }) => trials));
    const found: Record<string, Verdict> = {};
    for (const { claim, trials } of pairs) {
      const verdict = await proofOf(gpu, compiler, claim, trials);
      if (verdict === undefined) leaveOpen(gpu, claim);
      else found[claim.hash] = verdict;
    }
    trim(gpu);
    rememberVerdicts(gpu, found);
    const wrong = Object.values(found).filter((verdict) => verdict !== true);
    if (wrong.length) {
      console.error(
        `matrix units: ${wrong.length} of ${unknown.length} kernels failed their check on this GPU and are not used: ${wrong[0]}. Update its driver.`,
      );
    }
  }
  return claims.every((claim) => isRight(gpu, claim) === true);
}

/** The trials of the reference and of the candidate. */
function trialsOf({ candidate, measure: { reference, proof } }: Claim): [Trial | string, Trial | string] {
  const { build } = proof!.of(candidate);
  return [trialOf(() => build(reference)), trialOf(() => build(candidate))];
}

/** Runs the trials of a claim. Undefined where that shows nothing. */
async function proofOf(
  gpu: Gpu,
  compiler: Compiler,
  claim: Claim,
  [reference, candidate]: [Trial | string, Trial | string],
): Promise<Verdict | undefined> {
  if (typeof reference === 'string' || typeof candidate === 'string') return undefined;
  const problem = async ({ launches, checks = [] }: Trial): Promise<string | undefined> => {
    for (const { source } of [...launches, ...checks]) {
      const k = kernel(gpu, source);
      const why = await compiler.problemOf(k);
      if (why !== undefined) return `${k.label} does not compile: ${why}`;
    }
    return undefined;
  };
  if ((await problem(reference)) !== undefined) return undefined;
  const wrong = await problem(candidate);
  if (wrong !== undefined) return wrong;
  try {
    const { judge, words } = launchedOnce(gpu, compiler, [reference, candidate], claim);
    const verdict = judge(new Uint32Array(await words));
    const labels = candidate.launches.map(({ source }) => kernel(gpu, source).label);
    return typeof verdict === 'string' ? `${labels.join(', ')} ${verdict}` : verdict;
  } catch {
    gpu.check();
    return undefined; // refused: another launch, with more memory, might run
  }
}

/** Launches both trials and compares their outputs, in one submission; resolves with what the comparison found. */
function launchedOnce(
  gpu: Gpu,
  compiler: Compiler,
  [reference, candidate]: readonly [Trial, Trial],
  { candidate: claimed, measure: { terms, proof } }: Claim,
): { judge: ReturnType<typeof comparison>['judge']; words: Promise<ArrayBuffer> } {
  return scope(gpu, () => {
    const ground = groundOf(gpu, compiler);
    const first = recordTrial(ground, reference);
    const written = new Set(first.outputs.values());
    for (const [id, t] of ground.tensors) if (written.has(t)) ground.tensors.delete(id); // the candidate gets others
    const second = recordTrial(ground, candidate);
    const { launches, found, judge } = comparison(ground, [first, second], { terms, ...proof!.of(claimed) });
    const all = [first, second].flatMap((one) => [...one.fills, ...one.launches, ...one.checks]).concat(launches);
    const words = watched(gpu, all, async () => {
      submit(gpu, all);
      return copyOut(gpu, 'proof', found.storage.buffer!, found.offset, found.bytes);
    });
    return { judge, words };
  });
}
