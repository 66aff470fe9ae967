// wgrad against the other two engines of this language that train on WebGPU: tfjs on its WebGPU backend and jax-js, jitted.
// One process, one adapter, a device for each, in turns. A figure counts only if the work was really done: results are found
// equal before the timing, checked after it, and any error on a contender's device ends the run. (tfjs drops rejected commands
// and jax-js drops results that nobody waits for, both silently, and what is dropped looks fast.)

import { verifyDevice } from '../engine/debug.js';
import type { Gpu } from '../engine/index.js';
import { openDevice } from '../engine/node.js';
import { UsageError } from '../train/files/usage-error.js';
import { describeCommand } from '../train/settings/command-line.js';
import {
  type ConvContender,
  type ConvWork,
  convData,
  convFlops,
  convTitle,
  namedShapes,
  prepareOwnConv,
  readConvShapes,
  standardShapes,
} from './conv-work.js';
import { exportWork } from './export-work.js';
import { disagreement, geometricMean, race, table } from './harness.js';
import { adapterName, commonFlags, measuredOn, openHistory } from './history.js';
import { type Engine, type PeerName, peerNames } from './peer.js';
import { pretendBrowser } from './pretend-browser.js';
import {
  checkedSteps,
  compareSteps,
  middleOf,
  prepareOwnStep,
  readStepSettings,
  runAlike,
  runSteps,
  type StepContender,
  type StepDifference,
  type StepRun,
  type StepSettings,
  type StepWork,
  stepTitle,
  stepTolerance,
} from './step-work.js';
import {
  compareDerivatives,
  prepareOwnTransformer,
  type TransformerContender,
  type TransformerDifference,
  transformerTitle,
  transformerTolerance,
} from './transformer-work.js';

export interface PeerResult {
  readonly peer: PeerName;
  readonly work: string;
  readonly oursMs: number;
  readonly peerMs: number;
  /** The peer's time over ours. */
  readonly ratio: number;
  /** Of convolutions. */
  readonly oursGflops?: number;
  readonly peerGflops?: number;
  /** Of the step: how far the peer is from wgrad after three steps. */
  readonly difference?: StepDifference;
  /** Of the transformer: how far the peer is from wgrad at the same weights. */
  readonly derivatives?: TransformerDifference;
}

export interface PeersReport {
  readonly adapter: string;
  readonly results: PeerResult[];
  readonly geomean: Record<string, number>;
}

/** wgrad's device and the peers' engines, on one adapter. */
export interface Field {
  readonly gpu: Gpu;
  readonly peers: readonly { readonly name: PeerName; readonly engine: Engine }[];
}

/** Opens wgrad and the chosen peers. */
export async function openField(adapter: string | undefined, names: readonly PeerName[]): Promise<Field> {
  const opened = await pretendBrowser(adapter);
  const gpu = await openDevice({ adapter });
  await verifyDevice(gpu);
  const peers: { name: PeerName; engine: Engine }[] = [];
  for (const name of names) {
    const engine =
      name === 'tfjs'
        ? await (await import('./peer-tfjs.js')).openTfjs(opened)
        : await (await import('./peer-jax.js')).openJaxJs(opened);
    peers.push({ name, engine });
  }
  return { gpu, peers };
}

/** Throws when something went wrong on a peer's device, which its engine does not tell. */
async function settled(name: string, { gpu }: Engine): Promise<void> {
  await gpu.settled().catch((error: Error) => {
    throw new Error(`peers: ${name} had an error on its device, so its figures mean nothing. ${error.message}`);
  });
}

/** Times one convolution; every result must agree before and after to 1e-4 of its largest value. */
export async function compareConv({ gpu, peers }: Field, work: ConvWork, rounds: number): Promise<PeerResult[]> {
  const data = convData(work);
  const own = prepareOwnConv(gpu, work, data);
  const contenders: { name: PeerName; engine: Engine; peer: ConvContender }[] = [];
  for (const { name, engine } of peers) contenders.push({ name, engine, peer: await engine.prepareConv(work, data) });
  const check = async (when: string): Promise<void> => {
    const expected = await own.result();
    await gpu.settled();
    for (const { name, engine, peer } of contenders) {
      const apart = disagreement(expected, await peer.result());
      await settled(name, engine);
      if (!(apart < 1e-4)) {
        throw new Error(`peers: ${name} and wgrad differ by ${apart} ${when} timing ${convTitle(work)}.`);
      }
    }
  };
  await check('before');
  const [oursMs, ...others] = await race([own, ...contenders.map(({ peer }) => peer)], { rounds });
  await check('after');
  const rate = (ms: number): number => convFlops(work) / ms / 1e6;
  own.release();
  return contenders.map(({ name, peer }, i) => {
    peer.release();
    const peerMs = others[i]!;
    return {
      ...{ peer: name, work: convTitle(work), oursMs: oursMs!, peerMs, ratio: peerMs / oursMs! },
      ...{ oursGflops: rate(oursMs!), peerGflops: rate(peerMs) },
    };
  });
}

/**
 * Runs three steps of each, from the same weights on the same batch; throws when a peer is further off than f32 explains, for which
 * `alike` are runs of our own (compareSteps).
 */
export async function checkSteps(
  own: StepContender,
  peers: readonly { readonly name: string; readonly contender: StepContender }[],
  { config, initial }: Pick<StepWork, 'config' | 'initial'>,
  alike: readonly StepRun[] = [],
): Promise<StepDifference[]> {
  const first = middleOf(config);
  const tolerance = stepTolerance(config);
  const expected = await runSteps(own, first);
  const differences: StepDifference[] = [];
  for (const { name, contender } of peers) {
    const difference = compareSteps(expected, await runSteps(contender, first), initial, alike);
    const { losses, changes, worst } = difference;
    if (!(losses <= tolerance.losses && changes <= tolerance.changes)) {
      throw new Error(
        `peers: after three steps ${name} and wgrad differ by ${losses} in the losses and ${changes} in the change of ${worst} — at most ${tolerance.losses} and ${tolerance.changes} are rounding where nothing else explains them.`,
      );
    }
    differences.push(difference);
  }
  return differences;
}

/** Times the whole training step. */
export async function compareStep(field: Field, settings: StepSettings, rounds: number): Promise<PeerResult[]> {
  const { gpu, peers } = field;
  const { work, own } = await prepareOwnStep(gpu, settings);
  const contenders: { name: PeerName; engine: Engine; contender: StepContender }[] = [];
  for (const { name, engine } of peers) contenders.push({ name, engine, contender: await engine.prepareStep(work) });
  const alike = await runAlike(gpu, work);
  const differences = await checkSteps(own, contenders, work, alike);
  const timed = [own, ...contenders.map(({ contender }) => contender)];
  const [oursMs, ...others] = await race(timed, { rounds });
  await gpu.settled();
  for (const { name, engine, contender } of contenders) {
    await settled(name, engine);
    if (!Number.isFinite(await contender.loss()))
      throw new Error(`peers: the loss of ${name} is no number after timing.`);
  }
  for (const contender of timed) contender.release();
  return contenders.map(({ name }, i) => {
    const peerMs = others[i]!;
    const difference = differences[i]!;
    return { peer: name, work: stepTitle(work), oursMs: oursMs!, peerMs, ratio: peerMs / oursMs!, difference };
  });
}

/** Compares loss and gradients at the same weights, then the losses of three steps; throws where they differ by more than rounding. */
export async function checkTransformers(
  own: TransformerContender,
  peers: readonly { readonly name: string; readonly contender: TransformerContender }[],
): Promise<TransformerDifference[]> {
  const expected = await own.derivatives();
  const losses: number[] = [];
  for (let i = 0; i < checkedSteps; i++) losses.push(await own.advance());
  const differences: TransformerDifference[] = [];
  for (const { name, contender } of peers) {
    const difference = compareDerivatives(expected, await contender.derivatives());
    let apart = difference.loss;
    for (const loss of losses) apart = Math.max(apart, Math.abs((await contender.advance()) / loss - 1));
    if (!(apart <= transformerTolerance && difference.gradients <= transformerTolerance)) {
      throw new Error(
        `peers: ${name} and wgrad differ by ${apart} in the losses of ${checkedSteps} steps and ${difference.gradients} in the gradient of ${difference.worst} — at most ${transformerTolerance} is rounding.`,
      );
    }
    differences.push({ ...difference, loss: apart });
  }
  return differences;
}

/** Times the training step of a transformer. */
export async function compareTransformer({ gpu, peers }: Field, rounds: number): Promise<PeerResult[]> {
  const { work, own } = await prepareOwnTransformer(gpu);
  const contenders: { name: PeerName; engine: Engine; contender: TransformerContender }[] = [];
  for (const { name, engine } of peers)
    contenders.push({ name, engine, contender: await engine.prepareTransformer(work) });
  const differences = await checkTransformers(own, contenders);
  const timed = [own, ...contenders.map(({ contender }) => contender)];
  const [oursMs, ...others] = await race(timed, { rounds });
  await gpu.settled();
  for (const { name, engine, contender } of contenders) {
    await settled(name, engine);
    if (!Number.isFinite(await contender.advance()))
      throw new Error(`peers: the loss of ${name} is no number after timing.`);
  }
  for (const contender of timed) contender.release();
  return contenders.map(({ name }, i) => {
    const [peerMs, derivatives] = [others[i]!, differences[i]!];
    return { peer: name, work: transformerTitle(work), oursMs: oursMs!, peerMs, ratio: peerMs / oursMs!, derivatives };
  });
}

/** All results and, for each peer that took part, the geometric mean of its ratios. */
export function peersReport(adapter: string, names: readonly PeerName[], results: PeerResult[]): PeersReport {
  const ratios = (name: PeerName) => results.filter(({ peer }) => peer === name).map(({ ratio }) => ratio);
  return { adapter, results, geomean: Object.fromEntries(names.map((name) => [name, geometricMean(ratios(name))])) };
}

const ofConvolutions = 'For convolutions';
const ofTheStep = 'For the step (without dropout and noise, because every engine draws other random numbers)';

export const command = describeCommand({
  name: 'bench peers',
  about: 'Measures wgrad against tfjs (WebGPU) and jax-js (jitted), in turns on one adapter.',
  flags: {
    work: {
      type: 'string',
      choices: ['conv', 'step', 'transformer', 'all'],
      default: 'all',
      help: 'work to measure: convolutions (conv), or a whole training step: the mean-teacher one (step), or that of a small character transformer with AdamW (transformer)',
    },
    peers: { type: 'string', value: 'LIST', default: peerNames.join(), help: 'engines to compare with' },
    rounds: { type: 'integer', min: 1, help: 'turns; the median counts (default 9; for steps 5)' },
    batch: { type: 'integer', min: 1, default: 4, help: 'images per batch' },
    ...commonFlags,
    shapes: {
      type: 'string',
      value: 'LIST',
      default: standardShapes,
      help: 'convolutions as INPUTS-OUTPUTS@SIDE or @DxHxW, with k1 at the end for kernels of one pixel; or unet, vnet',
      under: ofConvolutions,
    },
    network: {
      type: 'string',
      choices: ['unet', 'vnet'],
      default: 'unet',
      help: 'unet: the mean-teacher step of the UNet; vnet: the supervised step of the V-Net, in tfjs only',
      under: ofTheStep,
    },
    size: { type: 'integer', min: 8, help: 'unet: pixels per side (default 32)', under: ofTheStep },
    patch: { type: 'string', value: 'LIST', help: 'vnet: sides of the volumes (default 16,32,32)', under: ofTheStep },
    features: {
      type: 'string',
      value: 'LIST',
      help: 'channels per level (default 8,16,32)',
      under: ofTheStep,
    },
    method: {
      type: 'string',
      value: 'NAME',
      help: 'unet: lccs (default), or mt, which has no prototypes',
      under: ofTheStep,
    },
    threshold: {
      type: 'number',
      value: 'X',
      min: 0,
      max: 1,
      help: 'unet: confidence below which a pixel is kept (default: as in training)',
      under: ofTheStep,
    },
    export: {
      type: 'string',
      value: 'DIR',
      help: "unet: do not measure; write the step (batch, weights, wgrad's result) for bench/pytorch/step.py",
      under: ofTheStep,
    },
  },
});

/** `wgrad bench peers`. */
export async function run(args: string[]): Promise<number> {
  const { flags } = command.read(args);
  const { work: kind, batch, rounds, network, size, patch, features, method, threshold } = flags;
  const named = flags.peers.split(',').map((name) => {
    const known = peerNames.find((peer) => peer === name.trim());
    if (!known)
      throw new UsageError(`bench: unknown peer '${name}', expected ${peerNames.join(' or ')}. Correct --peers.`);
    return known;
  });
  const shapes = namedShapes[flags.shapes] ?? flags.shapes;
  const measures = (work: typeof kind): boolean => kind === work || kind === 'all';
  const convolutions = measures('conv') ? readConvShapes(shapes, batch) : [];
  const given = { network, size, patch, features, batch, method, threshold };
  const step = measures('step') ? readStepSettings(given) : undefined;
  const ofStep = named.filter((name) => network === 'unet' || name === 'tfjs');
  if (step && !ofStep.length) throw new UsageError('bench: the V-Net is in tfjs only. Use --peers tfjs.');

  const names = kind === 'step' ? ofStep : named;
  if (flags.export !== undefined) {
    if (network === 'vnet') throw new UsageError('bench: --export is for the UNet. Use --network unet.');
    const gpu = await openDevice({ adapter: flags.adapter });
    const { work, own } = await prepareOwnStep(gpu, step ?? readStepSettings(given));
    await exportWork(flags.export, work, own);
    console.log(`${stepTitle(work)} written to ${flags.export}`);
    gpu.close();
    return 0;
  }
  const history = openHistory('peers', args);
  const field = await openField(flags.adapter, names);
  const results: PeerResult[] = [];
  const note = (rows: readonly PeerResult[]): void => {
    for (const { work, oursMs, peer, peerMs, ratio } of rows) {
      console.error(`${work}: ${oursMs.toFixed(2)} ms, ${peer} ${peerMs.toFixed(2)} ms, ratio ${ratio.toFixed(2)}`);
    }
    results.push(...rows);
  };
  for (const work of convolutions) note(await compareConv(field, work, rounds ?? 9));
  if (step) {
    console.error('step: dropout and noise are 0 for all; three steps must agree before anything is timed');
    const peers = field.peers.filter(({ name }) => ofStep.includes(name));
    note(await compareStep({ ...field, peers }, step, rounds ?? 5));
  }
  if (measures('transformer')) note(await compareTransformer(field, rounds ?? 5));

  const report = peersReport(adapterName(field.gpu), names, results);
  const heads = ['work', 'peer', 'wgrad ms', 'peer ms', 'ratio', 'wgrad GFLOP/s', 'peer GFLOP/s'];
  const rows = results.map((r) => [
    ...[r.work, r.peer, r.oursMs, r.peerMs, r.ratio],
    ...[r.oursGflops ?? '', r.peerGflops ?? ''],
  ]);
  const means = names.map((name) => `${report.geomean[name]!.toFixed(2)}× ${name}`).join(', ');
  const agreement = results.flatMap(({ peer, difference, derivatives }) => {
    if (derivatives) {
      const { loss, gradients, worst } = derivatives;
      return `${peer} agrees on the transformer: losses of ${checkedSteps} steps to ${loss.toExponential(1)}, gradients to ${gradients.toExponential(1)} (${worst})`;
    }
    return difference
      ? [
          `${peer} agrees after three steps (dropout and noise 0): losses to ${difference.losses.toExponential(1)}, changes of weights to ${difference.changes ? `${difference.changes.toExponential(1)} (${difference.worst})` : 'rounding'}`,
        ]
      : [];
  });
  history.publish(measuredOn(field.gpu), flags, {
    settings: { work: kind, peers: names, rounds, shapes: convolutions.length ? shapes : undefined, batch, step },
    rows: Object.fromEntries(
      results.flatMap((r) => [[r.work, r.oursMs] as const, [`${r.work} (${r.peer})`, r.peerMs]]),
    ),
    report,
    text: [table([heads, ...rows]), ...agreement, `${report.adapter}: geometric mean ${means}`].join('\n'),
  });
  field.gpu.close();
  // The peers keep devices and timers of their own and offer no way to end them.
  await new Promise<void>((resolve) => process.stdout.write('', () => resolve()));
  return 0;
}
